//! Wrong input, from every side: a clear error with Docker's status, nothing half-made left, nothing lost.

use std::fs;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, mount};
use wharf_integration_tests::client::{unix, unix_bytes};
use wharf_integration_tests::stack::text;
use wharf_integration_tests::{SOON, Stack, eventually, image, leaks, program};

fn message(answer: &wharf_integration_tests::client::Answer) -> String {
    let body = answer.text();
    let json = &body[body.find('{').unwrap_or(0)..=body.rfind('}').unwrap_or(0)];
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {body:?}"));
    value["message"].as_str().unwrap_or_else(|| panic!("no message: {body}")).to_owned()
}

/// Names of everything stored: images, blobs, unfinished blobs, snapshots' folders.
fn stored(stack: &Stack) -> Vec<String> {
    let mut all = Vec::new();
    for folder in ["content/blobs/sha256", "content/ingest", "snapshots/overlay"] {
        let path = stack.dir().join("lifecycle").join(folder);
        let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        all.extend(entries.flatten().map(|e| format!("{folder}/{}", e.file_name().to_string_lossy())));
    }
    all.sort();
    all.push(stack.ok(&["images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]));
    all
}

/// Lets the daemon collect what earlier, finished work held: a failed load does so before it answers.
fn collect(stack: &Stack) {
    let answer =
        unix_bytes(&stack.socket(), "POST", "/v1.47/images/load", b"this is no archive").expect("an answer");
    assert!(answer.status != 200 || answer.text().contains("error"), "{}", answer.text());
}

#[test]
fn root_wrong_requests_get_dockers_status_and_text() {
    let stack = Stack::start();
    let socket = stack.socket();
    let create = |query: &str, body: &str| {
        unix(&socket, "POST", &format!("/v1.47/containers/create{query}"), body).expect("an answer")
    };

    let answer = create("", r#"{"Image":"nope"}"#);
    assert_eq!((answer.status, message(&answer).as_str()), (404, "No such image: nope:latest"));
    let answer = create("", r#"{"Image":"UPPER CASE"}"#);
    assert_eq!(answer.status, 400);
    assert!(message(&answer).starts_with("invalid reference format"), "{}", message(&answer));
    let answer = create("", r#"{"Image":"#);
    assert_eq!(answer.status, 400, "{}", answer.text());
    let answer = create("", "");
    assert_eq!(answer.status, 400, "{}", answer.text());
    let answer = create("?name=.bad", r#"{"Image":"busybox"}"#);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(message(&answer).contains("Invalid container name (.bad)"), "{}", message(&answer));
    let answer = create("?name=busy", r#"{"Image":"busybox","Cmd":["true"]}"#);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = create("?name=busy", r#"{"Image":"busybox","Cmd":["true"]}"#);
    assert_eq!(answer.status, 409);
    assert!(
        message(&answer).starts_with("Conflict. The container name \"/busy\" is already in use by container")
    );
    let answer = create("", r#"{"Image":"busybox","User":"4294967296","Cmd":["true"]}"#);
    // Docker accepts this at create and fails at start; root is never the outcome
    if answer.status == 201 {
        let id = answer.text();
        let id = &id[id.find("\"Id\":\"").expect("an id") + 6..][..64];
        let answer = unix(&socket, "POST", &format!("/v1.47/containers/{id}/start"), "").expect("an answer");
        assert!((400..600).contains(&answer.status), "{}", answer.text());
    } else {
        assert_eq!(answer.status, 400);
    }

    for (method, path, status) in [
        ("GET", "/v1.47/containers/none/json", 404),
        ("POST", "/v1.47/containers/none/start", 404),
        ("POST", "/v1.47/containers/busy/kill", 409),
        ("POST", "/v1.47/containers/busy/resize?h=x&w=1", 400),
        ("GET", "/v1.47/images/none/json", 404),
        ("GET", "/v1.47/no-such-page", 404),
        ("GET", "/v1.10/version", 400),
        ("GET", "/v9.99/version", 400),
        ("GET", "/v1.47/containers/json?filters=nonsense", 400),
    ] {
        let answer = unix(&socket, method, path, "").expect("an answer");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(!message(&answer).is_empty());
    }
}

#[test]
fn root_a_truncated_or_malicious_archive_changes_nothing() {
    let stack = Stack::start();
    // the archive's own manifest.json is no part of the image that was loaded
    collect(&stack);
    let before = stored(&stack);
    let archive = fs::read(image::busybox_archive(stack.dir()).expect("an archive")).expect("readable");

    for cut in [100, 600, archive.len() / 2, archive.len() - 3000] {
        let file = stack.dir().join("cut.tar");
        fs::write(&file, &archive[..cut]).expect("a file");
        let out = stack.wharf(&["load", "-i", file.to_str().expect("utf-8")]);
        assert!(!out.status.success(), "cut at {cut}: {}", text(&out));
        assert!(!out.stderr.is_empty());
        // already collected when the error is told
        assert_eq!(stored(&stack), before, "cut at {cut}");
    }

    // a layer that climbs out of its root, by name and through a link
    for (name, link) in [("../../../../escape", None), ("link/escape", Some("/"))] {
        let outside = stack.dir().join("escape");
        let file = stack.dir().join("evil.tar");
        evil_archive(&file, name, link);
        let out = stack.wharf(&["load", "-i", file.to_str().expect("utf-8")]);
        assert!(!outside.exists() && !std::path::Path::new("/escape").exists(), "escaped: {}", text(&out));
        if out.status.success() {
            // contained instead of refused: the file is inside the image's own root
            stack.ok(&["rmi", "evil:latest"]);
        }
    }
    collect(&stack);
    assert_eq!(stored(&stack), before, "what failed loads and removed images wrote is collected");
    stack.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
}

fn evil_archive(to: &std::path::Path, name: &str, link: Option<&str>) {
    use sha2::{Digest, Sha256};
    let mut layer = tar::Builder::new(Vec::new());
    if let Some(target) = link {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, "link", target).expect("a link");
    }
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(4);
    header.set_mode(0o644);
    header.set_cksum();
    layer.append(&header, &b"evil"[..]).expect("an entry");
    let layer = layer.into_inner().expect("a layer");
    let hex = |d: &[u8]| Sha256::digest(d).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]}})
    .to_string();
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": ["evil:latest"], "Layers": ["l.tar"]}])
            .to_string();
    let mut archive = tar::Builder::new(fs::File::create(to).expect("a file"));
    for (path, bytes) in
        [("l.tar", &layer[..]), (&config_name, config.as_bytes()), ("manifest.json", manifest.as_bytes())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, bytes).expect("an entry");
    }
    archive.into_inner().expect("a whole archive");
}

/// Serves one image, `bad:latest`, of which the layer's bytes are not what its digest says, until the process ends.
fn lying_registry() -> u16 {
    use sha2::{Digest, Sha256};
    use std::io::{BufRead, BufReader, Write};
    let digest = |d: &[u8]| {
        format!("sha256:{}", Sha256::digest(d).iter().map(|b| format!("{b:02x}")).collect::<String>())
    };
    let layer = vec![0u8; 1024];
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}})
    .to_string();
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config.as_bytes()),
            "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": 1024}]})
    .to_string();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().expect("dup"));
            let mut first = String::new();
            let mut line = String::new();
            if reader.read_line(&mut first).is_err() {
                continue;
            }
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let (status, body) = match first.split(' ').nth(1).unwrap_or_default() {
                "/v2/" => ("200 OK", b"{}".to_vec()),
                path if path.contains("/manifests/") => ("200 OK", manifest.clone().into_bytes()),
                path if path.ends_with(&digest(config.as_bytes())) => ("200 OK", config.clone().into_bytes()),
                path if path.ends_with(&digest(&layer)) => ("200 OK", vec![1u8; 1024]),
                _ => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            if !first.starts_with("HEAD") {
                let _ = stream.write_all(&body);
            }
        }
    });
    port
}

#[test]
fn root_a_pulled_layer_of_another_digest_is_refused_and_leaves_nothing() {
    let stack = Stack::start();
    collect(&stack);
    let before = stored(&stack);
    let name = format!("127.0.0.1:{}/bad:latest", lying_registry());
    let out = stack.wharf(&["pull", &name]);
    assert!(!out.status.success(), "{}", text(&out));
    assert!(
        text(&out).contains("layer verification failed for digest sha256:5f70bf18a086"),
        "{}",
        text(&out)
    );
    assert_eq!(stored(&stack), before, "{}", stack.logs());
    let out = stack.wharf(&["run", "--rm", "--network", "none", &name, "true"]);
    assert_eq!(out.status.code(), Some(125), "{}", text(&out));
    assert_eq!(stored(&stack), before, "{}", stack.logs());
}

#[test]
fn root_a_second_daemon_on_the_same_root_is_refused() {
    let stack = Stack::start();
    let other = stack.dir().join("other");
    let cases = [
        (
            "wharf-lifecycled",
            vec![
                "--root".to_owned(),
                stack.dir().join("lifecycle").display().to_string(),
                "--state".to_owned(),
                other.join("s").display().to_string(),
                "--address".to_owned(),
                other.join("l.sock").display().to_string(),
            ],
        ),
        (
            "wharfd",
            vec![
                "--data-root".to_owned(),
                stack.dir().join("engine").display().to_string(),
                "--exec-root".to_owned(),
                other.join("e").display().to_string(),
                "-H".to_owned(),
                format!("unix://{}", other.join("d.sock").display()),
                "--containerd".to_owned(),
                stack.lifecycle_socket().display().to_string(),
                "--pidfile".to_owned(),
                other.join("pid").display().to_string(),
            ],
        ),
    ];
    fs::create_dir(&other).expect("a folder");
    for (name, args) in cases {
        let mut child = Command::new(program(name))
            .args(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        eventually("the second daemon gives up", SOON, || child.try_wait().expect("wait"));
        let out = child.wait_with_output().expect("output");
        assert!(!out.status.success());
        let said = text(&out);
        assert!(
            said.contains("another") || said.contains("in use") || said.contains("already"),
            "{name}: {said}"
        );
    }
    stack.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
}

/// Writes zeros to a file until the disk has only so many bytes left.
fn fill(filler: &std::path::Path, left: u64) {
    use std::io::Write;
    let mut file = fs::File::create(filler).expect("a file");
    let page = [0u8; 4096];
    loop {
        let disk = rustix::fs::fstatvfs(&file).expect("statvfs");
        if disk.f_bavail * disk.f_frsize <= left {
            return;
        }
        match file.write_all(&page) {
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => return,
            written => written.expect("written"),
        }
    }
}

#[test]
fn root_a_full_disk_is_a_clear_error_and_work_resumes() {
    let mut stack = Stack::start_bare(&[]);
    stack.kill_wharfd();
    stack.kill_lifecycled();
    let root = stack.dir().join("lifecycle");
    fs::remove_dir_all(&root).expect("removed");
    fs::create_dir(&root).expect("a folder");
    // room for the daemons' records and for one image, packed and unpacked, until a filler takes it
    let archive = image::busybox_archive(stack.dir()).expect("an archive");
    let image_size = fs::metadata(&archive).expect("an archive").len();
    let archive = archive.to_str().expect("utf-8");
    let size = std::ffi::CString::new(format!("size={}", 2 * image_size + (16 << 20))).expect("no NUL");
    mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(size.as_c_str())).expect("a small disk");
    stack.start_lifecycled();
    stack.start_wharfd();
    let filler = root.join("filler");
    collect(&stack);
    let before = stored(&stack);
    // full at once, within the archive's blob, while the blob is unpacked
    for left in [0, image_size / 2, image_size * 3 / 2] {
        fill(&filler, left);
        let out = stack.wharf(&["load", "-i", archive]);
        assert!(!out.status.success(), "the disk should be full: {}", text(&out));
        assert!(text(&out).to_lowercase().contains("no space left on device"), "{left}: {}", text(&out));
        assert_eq!(stored(&stack), before, "with {left} bytes left; {}", stack.logs());
        fs::remove_file(&filler).expect("removed");
    }
    let out = stack.wharf(&["load", "-i", archive]);
    assert!(out.status.success(), "there is space again: {}\n{}", text(&out), stack.logs());

    // what is there can be used, or there is an error that says why
    fill(&filler, 0);
    let run = ["run", "--rm", "--network", "none", "busybox", "true"];
    let out = stack.wharf(&run);
    let said = text(&out).to_lowercase();
    assert!(out.status.success() || said.contains("no space left on device"), "{said}\n{}", stack.logs());
    stack.ok(&["ps", "-a"]);
    fs::remove_file(&filler).expect("removed");
    stack.ok(&run);
    assert!(
        stack.leaks_after_removal().iter().all(|l| l.contains("lifecycle")),
        "only our small disk is mounted"
    );
    stack.kill_wharfd();
    stack.kill_lifecycled();
    for mount in leaks::mounts_below(&root).iter().rev() {
        rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    }
}

#[test]
fn root_a_full_disk_of_the_engine_loses_no_container() {
    let mut stack = Stack::start_bare(&[]);
    stack.kill_wharfd();
    let root = stack.dir().join("engine");
    fs::remove_dir_all(&root).expect("removed");
    fs::create_dir(&root).expect("a folder");
    mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(c"size=16m")).expect("a small disk");
    stack.start_wharfd();
    stack.load_busybox();
    // its log is on the small disk too
    let lines = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done";
    let wait_for = |name: &str| format!("while [ ! -e /{name} ]; do sleep 0.05; done");
    let script =
        format!("{lines}; {}; {lines}; touch /said; {}; echo resumed; cat", wait_for("go"), wait_for("on"));
    stack.ok(&["run", "-di", "--name", "before", "--network", "none", "busybox", "sh", "-c", &script]);
    let last_line =
        |stack: &Stack, name: &str| stack.ok(&["logs", name]).lines().last().unwrap_or_default().to_owned();
    eventually("the lines are there", SOON, || (last_line(&stack, "before") == "line 2000").then_some(()));
    let later = format!("{}; {lines}; {lines}; exit 7", wait_for("go"));
    stack.ok(&["run", "-d", "--name", "later", "--network", "none", "busybox", "sh", "-c", &later]);
    let filler = root.join("filler");
    fill(&filler, 0);

    // it writes and ends on the full disk, and its exit code is the true one
    stack.ok(&["exec", "later", "touch", "/go"]);
    assert_eq!(stack.ok(&["wait", "later"]), "7", "{}", stack.logs());

    // the container goes on and ends though its log has no room, and so do others or they are refused
    let chatty =
        "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo a longer line that needs room $i; done; exit 7";
    let out = stack.wharf(&["run", "--name", "chatty", "--network", "none", "busybox", "sh", "-c", chatty]);
    let said = text(&out);
    assert!(
        out.status.code() == Some(7) || said.to_lowercase().contains("no space left on device"),
        "{said}\n{}",
        stack.logs()
    );
    assert!(stack.ok(&["ps", "--format", "{{.Names}}"]).contains("before"), "{}", stack.logs());
    stack.ok(&["exec", "before", "touch", "/go"]);
    eventually("a log without room holds nobody up", SOON, || {
        stack.wharf(&["exec", "before", "test", "-e", "/said"]).status.success().then_some(())
    });
    fs::remove_file(&filler).expect("removed");

    stack.ok(&["exec", "before", "touch", "/on"]);
    eventually("the log goes on when there is room", SOON, || {
        (last_line(&stack, "before") == "resumed").then_some(())
    });
    stack.ok(&["run", "--rm", "--network", "none", "busybox", "true"]);
    stack.ok(&["kill", "before"]);
    assert_eq!(stack.ok(&["wait", "before"]), "137");
    assert!(stack.ok(&["logs", "before"]).contains("line 2000"));
    // all of it is on the disk as well
    stack.kill_wharfd();
    stack.start_wharfd();
    for (name, end) in [("before", "exited 137"), ("later", "exited 7")] {
        assert_eq!(stack.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]), end);
    }
    assert!(
        stack.leaks_after_removal().iter().all(|l| l.ends_with("/engine")),
        "only our small disk is mounted: {:?}",
        stack.leaks_after_removal()
    );
    stack.kill_wharfd();
    for mount in leaks::mounts_below(&root).iter().rev() {
        rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    }
}

#[test]
fn root_runw_names_what_is_wrong_in_config_json_and_makes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let bundle = dir.path().join("b");
    fs::create_dir_all(bundle.join("rootfs")).expect("folders");
    let runw = |config: &str| {
        fs::write(bundle.join("config.json"), config).expect("a file");
        let out = Command::new(program("runw"))
            .arg("--root")
            .arg(dir.path().join("state"))
            .args(["create", "--bundle"])
            .arg(&bundle)
            .arg("bad")
            .output()
            .expect("runw runs");
        assert!(!out.status.success());
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert!(runw("{").contains("config.json"));
    let said = runw(
        r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"args":["sh"],"cwd":"relative","user":{"uid":0,"gid":0}},"linux":{"namespaces":[{"type":"mount"}]}}"#,
    );
    assert!(said.contains("cwd"), "{said}");
    let said = runw(
        r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"args":["sh"],"cwd":"/","user":{"uid":0,"gid":0}},
            "mounts":[{"destination":"relative","type":"tmpfs","source":"tmpfs"}],"linux":{"namespaces":[{"type":"nonsense"}]}}"#,
    );
    assert!(said.contains("namespaces") || said.contains("nonsense"), "{said}");
    let left: Vec<_> = fs::read_dir(dir.path().join("state")).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
