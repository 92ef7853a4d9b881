use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn launcher() -> Launcher {
    Launcher::new(Daemon {
        address: "/run/d.sock".into(),
        ttrpc_address: "/run/d.sock.ttrpc".into(),
        socket_dir: "/run/d/s".into(),
        debug: false,
        version: "0.1.0".into(),
    })
}

/// A shim that is a shell script, in a bundle.
fn script(at: &tempfile::TempDir, name: &str, body: &str) -> (PathBuf, Bundle) {
    let bundle = Bundle::at(&at.path().join("root"), &at.path().join("state"), "ns", "c1");
    let _ = bundle.create(None);
    let program = at.path().join(name);
    fs::write(&program, format!("#!/bin/sh\n{body}\n")).expect("write script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("make executable");
    (program, bundle)
}

#[test]
fn versions_are_read_from_what_shims_print() {
    assert_eq!(version("containerd-shim-runc-v2:\n  Version:  1.6.20~ds1\n"), Some((1, 6)));
    assert_eq!(version("x:\n  Version:  v2.3.0-rc.1\n"), Some((2, 3)));
    assert_eq!(version("x:\n  Version:  dev\n"), None);
    assert_eq!(version(""), None);
}

#[tokio::test]
async fn old_shims_get_flags_environment_and_options_on_stdin() {
    let at = tempfile::tempdir().expect("folder");
    let (program, bundle) = script(
        &at,
        "containerd-shim-old-v2",
        r#"[ "$1" = -v ] && { echo "  Version:  1.6.20"; exit; }
echo "$*" > args; echo "$TTRPC_ADDRESS $NAMESPACE" > env; cat > stdin; echo unix:///run/shim.sock"#,
    );
    let options = Any { type_url: "some.Options".into(), value: vec![1, 2, 3] };
    let endpoint = launcher().start(&program, &bundle, Some(&options)).await.expect("start");
    assert_eq!(endpoint.version, 2);
    let read = |name: &str| fs::read(bundle.path.join(name)).expect("written in the bundle");
    let args = String::from_utf8(read("args")).expect("text");
    assert!(args.starts_with("-namespace ns -address /run/d.sock -publish-binary "), "{args}");
    assert!(args.trim().ends_with("-id c1 start"), "{args}");
    assert_eq!(read("env"), b"/run/d.sock.ttrpc ns\n");
    assert_eq!(Any::decode(read("stdin").as_slice()).expect("any"), options);
}

#[tokio::test]
async fn new_shims_get_bootstrap_parameters() {
    let at = tempfile::tempdir().expect("folder");
    for (name, version) in [("containerd-shim-new-v2", "2.3.1"), ("containerd-shim-wharf-v2", "unheard")] {
        let body = format!(
            r#"[ "$1" = -v ] && {{ echo "  Version:  {version}"; exit; }}
cat > stdin; echo '{{"version":3,"address":"unix:///run/shim.sock","protocol":"ttrpc"}}'"#
        );
        let (program, bundle) = script(&at, name, &body);
        let options = Any { type_url: "some.Options".into(), value: vec![1, 2, 3] };
        let endpoint = launcher().start(&program, &bundle, Some(&options)).await.expect("start");
        assert_eq!(endpoint.version, 3);
        let stdin = fs::read(bundle.path.join("stdin")).expect("stdin");
        let params = BootstrapParams::decode(stdin.as_slice()).expect("params");
        assert_eq!((params.instance_id.as_str(), params.namespace.as_str()), ("c1", "ns"));
        assert_eq!(params.socket_dir.as_deref(), Some("/run/d/s"));
        assert_eq!(params.extensions[0].value.as_ref(), Some(&options));
    }
}

#[tokio::test]
async fn failing_shim_is_quoted() {
    let at = tempfile::tempdir().expect("folder");
    let (program, bundle) = script(&at, "shim", "echo no space left >&2; exit 3");
    let error = launcher().start(&program, &bundle, None).await.expect_err("fails");
    assert_eq!(error.to_string(), "no space left: exit status: 3");
}

#[tokio::test]
async fn daemon_that_keeps_the_pipe_does_not_hold_up_the_start() {
    let at = tempfile::tempdir().expect("folder");
    let (program, bundle) = script(&at, "shim", "sleep 60 & echo unix:///run/shim.sock");
    let begun = std::time::Instant::now();
    launcher().start(&program, &bundle, None).await.expect("start");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn delete_reports_the_exit() {
    let at = tempfile::tempdir().expect("folder");
    // DeleteResponse { pid: 7, exit_status: 137 }
    let (program, bundle) = script(&at, "shim", r"printf '\010\007\020\211\001'");
    let exit = launcher().delete(&program, &bundle).await.expect("delete");
    assert_eq!((exit.pid, exit.status), (7, 137));
}
