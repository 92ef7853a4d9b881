//! The arrows of docs/architecture.md and the dependency policy, checked over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Licences that need no decision record.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
    "BSL-1.0",
    "MIT-0",
    "CDLA-Permissive-2.0",
    "Apache-2.0 WITH LLVM-exception",
];

/// Crates that must not appear, each with its reason.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "TLS is rustls; no system library decides what we trust"),
    ("aws-lc-sys", "its C build takes minutes; rustls runs on ring"),
    ("rustables", "GPL"),
    ("zbus", "no D-Bus library on the create path"),
];

struct Metadata {
    packages: BTreeMap<String, Value>,
    /// package id → ids of its normal and build dependencies
    edges: BTreeMap<String, Vec<(String, bool)>>,
    members: BTreeSet<String>,
}

fn metadata() -> Metadata {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root");
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root)
        .output()
        .expect("cargo metadata runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let all: Value = serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON");
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    let array = |v: &Value| v.as_array().expect("an array").clone();
    let packages = array(&all["packages"]).into_iter().map(|p| (text(&p["id"]), p)).collect();
    let members = array(&all["workspace_members"]).iter().map(text).collect();
    let mut edges = BTreeMap::new();
    for node in array(&all["resolve"]["nodes"]) {
        let mut to = Vec::new();
        for dep in array(&node["deps"]) {
            let kinds: Vec<_> =
                array(&dep["dep_kinds"]).iter().map(|k| k["kind"].as_str().map(str::to_owned)).collect();
            let normal = kinds.iter().any(Option::is_none);
            let build = kinds.iter().any(|k| k.as_deref() == Some("build"));
            if normal || build {
                to.push((text(&dep["pkg"]), normal));
            }
        }
        edges.insert(text(&node["id"]), to);
    }
    Metadata { packages, edges, members }
}

impl Metadata {
    fn name(&self, id: &str) -> String {
        self.packages[id]["name"].as_str().expect("a name").to_owned()
    }

    /// The first folder of a member below the workspace root, such as `engine`.
    fn folder(&self, id: &str) -> String {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("root").canonicalize().expect("root");
        let manifest = self.packages[id]["manifest_path"].as_str().expect("a path");
        let rest = Path::new(manifest).strip_prefix(root).expect("members live in the workspace");
        rest.components().next().expect("a folder").as_os_str().to_string_lossy().into_owned()
    }

    /// Every package that is linked into `from`: normal dependencies only, transitively.
    fn closure(&self, from: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from.to_owned()];
        while let Some(id) = todo.pop() {
            for (to, normal) in &self.edges[&id] {
                if *normal && !self.is_proc_macro(to) && seen.insert(to.clone()) {
                    todo.push(to.clone());
                }
            }
        }
        seen
    }

    fn is_proc_macro(&self, id: &str) -> bool {
        let targets = self.packages[id]["targets"].as_array().expect("targets").clone();
        targets.iter().any(|t| t["kind"].as_array().is_some_and(|k| k.iter().any(|k| k == "proc-macro")))
    }

    fn member(&self, name: &str) -> String {
        let found = self.members.iter().find(|id| self.name(id) == name);
        found.unwrap_or_else(|| panic!("no member {name}")).clone()
    }
}

/// Which folders a folder may depend on, besides itself. Programs meet only at sockets.
fn allowed(folder: &str) -> &'static [&'static str] {
    match folder {
        "proto" => &[],
        "common" => &[],
        "runtime" => &["common"],
        "shim" | "lifecycle" | "engine" | "cli" => &["common", "proto"],
        "integration-tests" => &["common", "proto"],
        other => panic!("folder {other} has no rule: add one here and to docs/architecture.md"),
    }
}

#[test]
fn programs_meet_only_at_sockets() {
    let meta = metadata();
    for from in &meta.members {
        let folder = meta.folder(from);
        for (to, _) in &meta.edges[from] {
            if !meta.members.contains(to) {
                continue;
            }
            let target = meta.folder(to);
            assert!(
                target == folder || allowed(&folder).contains(&target.as_str()),
                "{} ({folder}) must not depend on {} ({target})",
                meta.name(from),
                meta.name(to)
            );
        }
    }
}

/// What is linked into a program when it is built by itself. `cargo metadata` unites the features that all members ask
/// for, so its edges say more than is linked.
fn linked_into(program: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root");
    let out = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", program])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
        .current_dir(root)
        .output()
        .expect("cargo tree runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("utf-8");
    let names: BTreeSet<String> =
        text.lines().filter_map(|l| l.split(' ').next()).map(str::to_owned).collect();
    assert!(names.contains(program), "cargo tree names the program itself: {text}");
    names
}

#[test]
fn the_runtime_and_the_shim_never_reach_an_async_runtime() {
    for program in ["runw", "containerd-shim-wharf-v2"] {
        let names = linked_into(program);
        for banned in ["tokio", "tonic", "hyper", "async-std", "futures-util"] {
            assert!(!names.contains(banned), "{program} reaches {banned}");
        }
    }
}

#[test]
fn only_the_backend_speaks_to_the_lifecycle_daemon() {
    let meta = metadata();
    let wire = meta.member("wharf-containerd");
    for from in meta.members.iter().filter(|id| meta.folder(id) == "engine") {
        if meta.edges[from].iter().any(|(to, _)| *to == wire) {
            assert_eq!(meta.name(from), "engine-backend", "wire types stay in adapters");
        }
    }
}

#[test]
fn licences_are_on_the_list() {
    let meta = metadata();
    let mut linked = BTreeSet::new();
    for member in &meta.members {
        linked.extend(meta.closure(member));
    }
    for id in linked {
        let licence = meta.packages[&id]["license"].as_str().unwrap_or("none").replace('/', " OR ");
        let plain = licence.replace(['(', ')'], "");
        // each AND part needs one OR alternative that is on the list
        let fine =
            plain.split(" AND ").all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())));
        assert!(fine, "{} has licence {licence}: write an ADR or choose another crate", meta.name(&id));
    }
}

#[test]
fn banned_crates_are_absent() {
    let meta = metadata();
    for member in &meta.members {
        for id in meta.closure(member) {
            let name = meta.name(&id);
            if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
                panic!("{} reaches {name}: {why}", meta.name(member));
            }
        }
    }
}

#[test]
fn unsafe_code_lives_in_common_sys_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("root");
    let mut found = Vec::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && !path.ends_with("common/sys") {
                    todo.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                if text.contains(concat!("allow(unsafe", "_code)")) {
                    found.push(path);
                }
            }
        }
    }
    assert!(found.is_empty(), "unsafe code is allowed outside common/sys: {found:?}");
}
