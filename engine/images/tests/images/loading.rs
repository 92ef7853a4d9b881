use std::time::{Duration, Instant};

use engine_core::image::ImageSource;
use engine_images::{LoadRequest, Progress};
use proptest::prelude::{any, prop_assert};
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use wharf_kinds::Kind;

use crate::samples::{Sample, gzip, tar};
use crate::stack::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn root_archives_of_both_kinds_load() {
    let stack = Stack::start().await;
    let image = Sample::new("amd64", &["one", "two"]);
    let (lines, done) = stack.load(&image.docker_archive(&["app:1", "team/app:latest"])).await;
    done.unwrap();
    assert_eq!(
        lines,
        [r#"{"stream":"Loaded image: app:1\n"}"#, r#"{"stream":"Loaded image: team/app:latest\n"}"#]
    );
    for name in ["app:1", "team/app", &image.id()] {
        assert_eq!(stack.images.resolve(name, None).await.unwrap().id, image.id(), "{name}");
    }
    let other = Sample::new("amd64", &["three"]);
    let (lines, done) = stack.load(&gzip(&other.oci_archive(Some("docker.io/library/other:2")))).await;
    done.unwrap();
    assert_eq!(lines, [r#"{"stream":"Loaded image: other:2\n"}"#]);
    let zstd = zstd::encode_all(Sample::new("amd64", &["four"]).oci_archive(None).as_slice(), 1).unwrap();
    let (lines, done) = stack.load(&zstd).await;
    done.unwrap();
    assert!(lines[0].starts_with(r#"{"stream":"Loaded image ID: sha256:"#), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_truncated_archive_leaves_nothing() {
    let stack = Stack::start().await;
    let image = Sample::new("amd64", &["one"; 3]);
    let whole = image.docker_archive(&["app:1"]);
    for length in [100, 600, 1500, whole.len() / 2, whole.len() - 1100] {
        let error = stack.load(&whole[..length]).await.1.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{length}: {error}");
    }
    let error = stack.load(&gzip(&whole)[..500]).await.1.unwrap_err();
    assert_eq!(error.to_string(), "cannot read the archive: unexpected EOF");
    assert!(stack.backend.image_list(&[]).await.unwrap().is_empty());
    assert!(stack.is_empty_of_content().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_hostile_archives_are_refused() {
    let stack = Stack::start().await;
    let image = Sample::new("amd64", &["one"]);
    let manifest = |config: &str, layer: &str, tag: &str| {
        json!([{"Config": config, "RepoTags": [tag], "Layers": [layer]}]).to_string()
    };
    let config = image.config.bytes.as_slice();
    let layer = image.plain_layers[0].as_slice();
    let archive = |path: &str, manifest: &str| {
        tar(&[("c.json", config), (path, layer), ("manifest.json", manifest.as_bytes())])
    };
    let cases = [
        (
            archive("../../escape.tar", &manifest("c.json", "../../escape.tar", "a:1")),
            "leads out of the archive",
        ),
        (archive("/abs.tar", &manifest("c.json", "/abs.tar", "a:1")), "is absolute"),
        (archive("l.tar", &manifest("/etc/passwd", "l.tar", "a:1")), "lacks /etc/passwd"),
        (archive("l.tar", &manifest("c.json", "l.tar", "UPPER:1")), "must be lowercase"),
        (archive("l.tar", "[{]"), "manifest.json of the archive is malformed"),
        (archive("l.tar", &manifest("c.json", "other.tar", "a:1")), "lacks other.tar"),
        (
            tar(&[
                ("c.json", config),
                ("l.tar", b"other"),
                ("manifest.json", manifest("c.json", "l.tar", "a:1").as_bytes()),
            ]),
            "digest is",
        ),
        (
            tar(&[("blobs/sha256/0000000000000000000000000000000000000000000000000000000000000000", layer)]),
            "not what its name says",
        ),
        (tar(&[("some", b"file")]), "holds no image"),
        (b"not a tar at all, but long enough to be looked at".repeat(20), "cannot read the archive"),
        (Vec::new(), "it is empty"),
    ];
    for (archive, expected) in cases {
        let error = stack.load(&archive).await.1.unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    }
    assert!(stack.is_empty_of_content().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_what_a_former_process_held_is_given_back() {
    let stack = Stack::start().await;
    let archive = Sample::new("amd64", &["one"]).docker_archive(&["app:1"]);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let request = LoadRequest { archive: receiver, platform: None, quiet: true };
    let images = stack.images.clone();
    // the end never comes: so does the operation of a daemon that is killed
    let stuck = tokio::spawn(async move { images.load(request, &Progress::silent()).await });
    sender.send(Ok(archive[..2048].to_vec().into())).await.unwrap();
    sender.send(Ok(Default::default())).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while stack.backend.content_list(&[]).await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "nothing arrives");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stack.images.recover().await.unwrap();
    assert_eq!(stack.backend.lease_list(&[]).await.unwrap().len(), 1, "a process keeps what is its own");
    stack.started_again().recover().await.unwrap();
    assert!(stack.backend.lease_list(&[]).await.unwrap().is_empty());
    assert!(stack.is_empty_of_content().await);
    drop(sender);
    assert!(stuck.await.unwrap().is_err());
}

#[test]
fn root_no_damaged_archive_panics_or_loads_by_half() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stack = runtime.block_on(Stack::start());
    let whole = Sample::new("amd64", &["one"]).docker_archive(&["app:1"]);
    let config = Config::with_cases((Config::default().cases / 4).max(1));
    let tested = TestRunner::new(config).run(&(0..whole.len(), any::<u8>()), |(at, byte)| {
        let mut archive = whole.clone();
        archive[at] = byte;
        let (lines, done) = runtime.block_on(stack.load(&archive));
        prop_assert!(done.is_ok() != lines.is_empty(), "{done:?} {lines:?}");
        Ok(())
    });
    drop(stack);
    tested.unwrap();
}
