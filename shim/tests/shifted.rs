//! Root filesystems whose owners are shifted by the mount options `uidmap` and `gidmap`.

#[allow(dead_code)] // each test uses some of it
mod stack;

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use rustix::mount::{MountPropagationFlags, mount_change};
use stack::Bundle;
use wharf_containerd::containerd::task::v3::{
    CreateTaskRequest, CreateTaskResponse, StartRequest, StartResponse, WaitRequest, WaitResponse,
};
use wharf_containerd::containerd::types::Mount;
use wharf_sys::namespace::{Namespaces, unshare};

const MAPS: [&str; 2] = ["uidmap=0:100000:65536", "gidmap=0:200000:65536"];

fn create(bundle: &Bundle, mount: Mount) -> CreateTaskRequest {
    CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        rootfs: vec![mount],
        options: Some(bundle.options()),
        ..CreateTaskRequest::default()
    }
}

fn run(bundle: &Bundle, mount: Mount, look: impl FnOnce(&Path)) {
    let mut shim = bundle.start();
    let _: CreateTaskResponse = shim.call("Create", &create(bundle, mount)).unwrap();
    let program = std::fs::metadata(bundle.path().join("rootfs/bin/busybox")).unwrap();
    assert_eq!((program.uid(), program.gid()), (100_000, 200_000), "as the machine sees it");
    look(&bundle.path().join("rootfs"));
    let start = StartRequest { id: bundle.id.clone(), ..Default::default() };
    let _: StartResponse = shim.call("Start", &start).unwrap();
    let wait = WaitRequest { id: bundle.id.clone(), ..Default::default() };
    let ended: WaitResponse = shim.call("Wait", &wait).unwrap();
    assert_eq!(ended.exit_status, 0);
    shim.delete(&bundle.id, "");
    assert!(!bundle.path().join("rootfs/bin").exists(), "unmounted");
    shim.shutdown();
}

/// Moves the bundle's root filesystem away and leaves an empty folder; where it is now.
fn moved(bundle: &Bundle, to: &str) -> String {
    let to = bundle.dir().join(to);
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::rename(bundle.path().join("rootfs"), &to).unwrap();
    std::fs::create_dir(bundle.path().join("rootfs")).unwrap();
    to.to_str().unwrap().to_owned()
}

fn mount(kind: &str, source: &str, options: Vec<String>) -> Mount {
    let options = options.into_iter().chain(MAPS.map(str::to_owned)).collect();
    Mount { r#type: kind.into(), source: source.into(), target: String::new(), options }
}

#[test]
fn root_an_overlays_layers_are_shifted_and_what_is_written_is_not() {
    overlay_is_shifted();
}

/// As systemd has it: every mount is shared with others.
#[test]
fn root_an_overlay_is_shifted_where_mounts_are_shared() {
    let shared = std::thread::spawn(|| {
        unshare(Namespaces::MOUNT).unwrap();
        for propagation in [MountPropagationFlags::PRIVATE, MountPropagationFlags::SHARED] {
            mount_change("/", propagation | MountPropagationFlags::REC).unwrap();
        }
        overlay_is_shifted();
    });
    shared.join().unwrap();
}

fn overlay_is_shifted() {
    let bundle = Bundle::new("overlay", &["cat", "/second"]);
    let first = moved(&bundle, "layers/1/fs");
    let layer = bundle.dir().join("layers/2/fs");
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::write(layer.join("second"), "second\n").unwrap();
    let made = |name: &str| {
        let path = bundle.dir().join("layers/3").join(name);
        std::fs::create_dir_all(&path).unwrap();
        chown(&path, Some(100_000), Some(200_000)).unwrap();
        path.display().to_string()
    };
    let (upper, work) = (made("fs"), made("work"));
    let options = vec![
        "index=off".to_owned(),
        format!("workdir={work}"),
        format!("upperdir={upper}"),
        format!("lowerdir={}:{first}", layer.display()),
    ];
    run(&bundle, mount("overlay", "overlay", options), |root| {
        std::fs::write(root.join("made"), "new").unwrap();
        chown(root.join("made"), Some(100_001), Some(200_001)).unwrap();
        assert!(layer.join("second").exists() && !layer.join("made").exists(), "the layers are not covered");
    });
    assert_eq!(std::fs::metadata(format!("{upper}/made")).unwrap().uid(), 100_001);
    assert_eq!(std::fs::metadata(layer.join("second")).unwrap().uid(), 0, "the layer itself is as it was");
}

#[test]
fn root_a_bind_mount_is_shifted() {
    let bundle = Bundle::new("bind", &["cat", "/bin/busybox"]);
    let source = moved(&bundle, "layers/1/fs");
    run(&bundle, mount("bind", &source, vec!["rbind".into(), "ro".into()]), |root| {
        let refused = std::fs::write(root.join("made"), "new").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn root_half_a_mapping_is_refused() {
    let bundle = Bundle::new("half", &["sh"]);
    let source = moved(&bundle, "layers/1/fs");
    let mut half = mount("bind", &source, Vec::new());
    half.options.pop();
    let mut shim = bundle.start();
    let refused = shim.call::<_, CreateTaskResponse>("Create", &create(&bundle, half)).unwrap_err();
    assert!(refused.to_string().contains("uidmap and gidmap go together"), "{refused}");
    shim.shutdown();
}
