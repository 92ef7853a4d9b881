//! Compiles `wharf/hello` and packs it into an OCI archive that wharfd embeds.
//!
//! The same compiler gives the same archive: nothing in it depends on the time, the folder or the user.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SOURCE: &str = "../hello/main.rs";
const NAME: &str = "docker.io/wharf/hello:latest";
const CREATED: &str = "2026-11-21T00:00:00Z";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let program = compile(&out);
    let archive = pack(&program);
    let digest = hex(&archive);
    fs::write(out.join("hello.tar"), archive).expect("write the archive");
    println!("cargo::rustc-env=WHARF_HELLO_DIGEST=sha256:{digest}");
}

/// A static program without a runtime to speak of.
fn compile(out: &Path) -> Vec<u8> {
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let compiler = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let program = out.join("hello");
    let mut command = Command::new(compiler);
    command.args(["--crate-name", "hello", "--crate-type", "bin", "--edition", "2024", "--target", &target]);
    for option in [
        "target-feature=+crt-static",
        "relocation-model=static",
        "opt-level=s",
        "panic=abort",
        "strip=symbols",
        "lto=fat",
        "codegen-units=1",
    ] {
        command.args(["-C", option]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        command.arg("-C").arg(option);
    }
    // the folder must not show in the program
    let status = command.arg("-o").arg(&program).arg(SOURCE).status().expect("rustc runs");
    assert!(status.success(), "wharf/hello does not compile for {target}");
    fs::read(program).expect("rustc wrote the program")
}

fn pack(program: &[u8]) -> Vec<u8> {
    let layer = tar(&[("hello", 0o755, program)]);
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(&layer).expect("write to memory");
    let packed = encoder.finish().expect("write to memory");
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": CREATED,
        "config": {
            "Cmd": ["/hello"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
        "history": [{"created": CREATED, "created_by": "COPY hello / # built with Wharf"}],
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
    })
    .to_string();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    entry["annotations"] = json!({"io.containerd.image.name": NAME});
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    })
    .to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    tar(&[
        (&blob(&packed), 0o644, &packed),
        (&blob(config.as_bytes()), 0o644, config.as_bytes()),
        (&blob(manifest.as_bytes()), 0o644, manifest.as_bytes()),
        ("index.json", 0o644, index.as_bytes()),
        ("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#),
    ])
}

fn architecture() -> String {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    match architecture.as_str() {
        "x86_64" => "amd64".into(),
        "aarch64" => "arm64".into(),
        "x86" => "386".into(),
        _ => architecture,
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()})
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, path, *content).expect("write to memory");
    }
    builder.into_inner().expect("write to memory")
}
