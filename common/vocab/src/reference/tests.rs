use proptest::prelude::*;

use super::*;

const SUM: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn short_names_belong_to_the_default_registry() {
    for (typed, full, familiar) in [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("someone/thing", "docker.io/someone/thing", "someone/thing"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x", "127.0.0.1:5000/x"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("Host/x", "Host/x", "Host/x"),
        ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f", "a__b/c--d.e_f"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
    ] {
        let reference = ImageReference::parse(typed).unwrap_or_else(|e| panic!("{typed}: {e}"));
        assert_eq!(reference.to_string(), full);
        assert_eq!(reference.familiar(), familiar);
        assert_eq!(ImageReference::parse(full).unwrap(), reference, "normalising twice changes nothing");
    }
}

#[test]
fn tag_and_digest_are_both_kept() {
    let reference = ImageReference::parse(&format!("a/b:t@{SUM}")).unwrap();
    assert_eq!(reference.tag(), Some("t"));
    assert_eq!(reference.digest().unwrap().as_str(), SUM);
    assert_eq!(reference.name_only().with_default_tag().to_string(), "docker.io/a/b:latest");
    assert_eq!(reference.clone().with_default_tag(), reference);
    assert_eq!(reference.with_tag("u").unwrap().to_string(), "docker.io/a/b:u");
}

#[test]
fn malformed_references_are_refused() {
    for bad in [
        "",
        ":tag",
        "@",
        "a:",
        "a:b:c",
        "a/",
        "/a",
        "a//b",
        "a/b/",
        "-a",
        "a-",
        "a._b",
        "a___b",
        "a..b",
        "a b",
        "a\0b",
        "../a",
        "./a",
        "a/../b",
        "http://a/b",
        "a@sha256:zz",
        "host:port/x",
        "[::1/x",
        "-h.io/x",
        "a:-t",
        "é",
    ] {
        assert!(ImageReference::parse(bad).is_err(), "{bad:?}");
    }
    assert!(ImageReference::parse(&"a".repeat(300)).is_err());
    assert!(ImageReference::parse(&format!("a:{}", "t".repeat(129))).is_err());
    assert!(ImageReference::parse(&"x".repeat(1 << 20)).is_err());
}

#[test]
fn errors_use_dockers_words() {
    let text = |r: &str| ImageReference::parse(r).unwrap_err().to_string();
    assert_eq!(
        text("Busybox"),
        "invalid reference format: repository name (library/Busybox) must be lowercase"
    );
    assert_eq!(text("a b"), "invalid reference format");
    let id = "a".repeat(64);
    assert!(text(&id).contains("cannot specify 64-byte hexadecimal strings"));
}

#[test]
fn a_host_longer_than_any_name_is_refused() {
    let host = vec!["a".repeat(60); 5].join(".");
    assert_eq!(ImageReference::parse(&format!("{host}/x")).unwrap_err(), ReferenceError::Format);
}

proptest! {
    #[test]
    fn anything_at_all_never_panics_and_round_trips(text in "\\PC{0,80}") {
        if let Ok(reference) = ImageReference::parse(&text) {
            prop_assert_eq!(ImageReference::parse(&reference.to_string()).unwrap(), reference.clone());
            prop_assert_eq!(ImageReference::parse(&reference.familiar()).unwrap(), reference);
        }
    }

    #[test]
    fn well_formed_references_parse(text in "[a-z0-9]{1,8}(\\.[a-z]{2,3})?/[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,8})?") {
        let reference = ImageReference::parse(&text).unwrap();
        prop_assert_eq!(ImageReference::parse(&reference.familiar()).unwrap(), reference);
    }
}
