//! Generates Rust from `proto/**/*.proto` without protoc.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    let mut files = Vec::new();
    collect(root, &mut files);
    files.sort();
    let set = protox::compile(&files, [root]).expect("the .proto files compile");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&set)).expect("write descriptors");
    generate(set);
}

#[cfg(feature = "grpc")]
fn generate(set: prost_types::FileDescriptorSet) {
    tonic_prost_build::configure()
        // a shim method is itself named Connect
        .build_transport(false)
        .include_file("wire.rs")
        .compile_fds(set)
        .expect("code is generated");
}

#[cfg(not(feature = "grpc"))]
fn generate(set: prost_types::FileDescriptorSet) {
    prost_build::Config::new().include_file("wire.rs").compile_fds(set).expect("code is generated");
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("proto folder is readable") {
        let path = entry.expect("folder entry").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "proto") {
            into.push(path);
        }
    }
}
