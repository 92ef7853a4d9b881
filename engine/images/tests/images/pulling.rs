use engine_core::image::ImageSource;
use engine_images::{PullError, PullRequest};
use serde_json::Value;
use wharf_kinds::Kind;
use wharf_registry::Credentials;
use wharf_vocab::ImageReference;

use crate::registry::Registry;
use crate::samples::{Blob, Sample, index, tar};
use crate::stack::Stack;

fn request(reference: ImageReference) -> PullRequest {
    PullRequest { reference, credentials: Credentials::Anonymous, platform: None }
}

async fn pull(stack: &Stack, reference: &ImageReference) -> (Vec<String>, Result<(), PullError>) {
    let request = request(reference.clone());
    stack.watch(async |images, progress| images.pull(request, progress).await).await
}

/// The lines without those that depend on timing.
fn settled(lines: &[String]) -> Vec<String> {
    let parsed = |l: &String| serde_json::from_str::<Value>(l).unwrap();
    lines
        .iter()
        .filter(|l| !matches!(parsed(l)["status"].as_str(), Some("Downloading" | "Waiting")))
        .cloned()
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_pull_tells_what_docker_tells() {
    let (stack, registry) = (Stack::start().await, Registry::start().await);
    let image = Sample::new("amd64", &["one"]);
    registry.put_image("team/app", "1.0", &image);
    let reference = registry.reference("team/app:1.0");
    let (lines, done) = pull(&stack, &reference).await;
    done.unwrap();
    let id = &image.layers[0].digest().hex()[..12].to_owned();
    let size = image.layers[0].bytes.len();
    assert_eq!(
        settled(&lines),
        [
            r#"{"status":"Pulling from team/app","id":"1.0"}"#.to_owned(),
            format!(r#"{{"status":"Pulling fs layer","progressDetail":{{}},"id":"{id}"}}"#),
            format!(r#"{{"status":"Verifying Checksum","progressDetail":{{}},"id":"{id}"}}"#),
            format!(r#"{{"status":"Download complete","progressDetail":{{}},"id":"{id}"}}"#),
            format!(r#"{{"status":"Extracting","progressDetail":{{"total":{size}}},"id":"{id}"}}"#),
            format!(r#"{{"status":"Pull complete","progressDetail":{{}},"id":"{id}"}}"#),
            format!(r#"{{"status":"Digest: {}"}}"#, image.manifest.digest()),
            format!(r#"{{"status":"Status: Downloaded newer image for {reference}"}}"#),
        ]
    );
    registry.forget_asked();
    let (lines, done) = pull(&stack, &reference).await;
    done.unwrap();
    assert_eq!(
        lines,
        [
            r#"{"status":"Pulling from team/app","id":"1.0"}"#.to_owned(),
            format!(r#"{{"status":"Digest: {}"}}"#, image.manifest.digest()),
            format!(r#"{{"status":"Status: Image is up to date for {reference}"}}"#),
        ]
    );
    assert_eq!(registry.asked_for("/blobs/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_pulled_image_is_unpacked_and_kept() {
    let (stack, registry) = (Stack::start().await, Registry::start().await);
    let image = Sample::new("amd64", &["one", "two", "three", "four", "five"]);
    let arm = Sample::new("arm64", &["other"]);
    registry.put_image("app", "", &image);
    registry.put_manifest("app", "latest", &index(&[("arm64", &arm), ("amd64", &image)]));
    let reference = registry.reference("app:latest");
    pull(&stack, &reference).await.1.unwrap();
    // collection must find every part through the name
    let lease = stack.backend.lease_create("sweep", &Default::default(), None).await.unwrap();
    stack.backend.lease_delete(&lease, true).await.unwrap();
    let resolved = stack.images.resolve(&reference.familiar(), None).await.unwrap();
    assert_eq!(resolved.id, image.id());
    assert_eq!(resolved.config.cmd.as_deref(), Some(&["/bin/sh".to_owned()][..]));
    assert_eq!(stack.backend.snapshot_list(&[]).await.unwrap().len(), 5);
    assert_eq!(stack.backend.content_list(&[]).await.unwrap().len(), 8);
    let lease = stack.backend.lease_create("use", &Default::default(), None).await.unwrap();
    stack.backend.snapshot_prepare(&lease, "box", &resolved.chain_id, &Default::default()).await.unwrap();
    for name in
        [image.id().as_str(), &image.id()[7..], &image.id()[7..19], &registry.reference("app").familiar()]
    {
        assert_eq!(stack.images.resolve(name, None).await.unwrap().id, image.id(), "{name}");
    }
    let error = stack.images.resolve("absent", None).await.unwrap_err();
    assert_eq!(error.to_string(), "No such image: absent:latest");
    let error = stack.images.resolve(&reference.familiar(), Some("linux/arm64")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_shared_layers_are_not_fetched_again() {
    let (stack, registry) = (Stack::start().await, Registry::start().await);
    registry.put_image("app", "1", &Sample::new("amd64", &["base", "one"]));
    registry.put_image("app", "2", &Sample::new("amd64", &["base", "two"]));
    pull(&stack, &registry.reference("app:1")).await.1.unwrap();
    registry.forget_asked();
    let (lines, done) = pull(&stack, &registry.reference("app:2")).await;
    done.unwrap();
    assert_eq!(lines.iter().filter(|l| l.contains("Already exists")).count(), 1);
    // the config and the upper layer
    assert_eq!(registry.asked_for("/blobs/"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_two_pulls_at_once_fetch_once() {
    let (stack, registry) = (Stack::start().await, Registry::start().await);
    let image = Sample::new("amd64", &["one", "two"]);
    registry.put_image("app", "1", &image);
    let reference = registry.reference("app:1");
    let (one, two) = tokio::join!(pull(&stack, &reference), pull(&stack, &reference));
    one.1.unwrap();
    two.1.unwrap();
    for layer in &image.layers {
        assert_eq!(registry.asked_for(layer.digest().as_str()), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_image_that_loses_its_tag_stays_by_its_digest() {
    let (stack, registry) = (Stack::start().await, Registry::start().await);
    let (old, new) = (Sample::new("amd64", &["old"]), Sample::new("amd64", &["new"]));
    registry.put_image("app", "1", &old);
    pull(&stack, &registry.reference("app:1")).await.1.unwrap();
    registry.put_image("app", "1", &new);
    let (lines, done) = pull(&stack, &registry.reference("app:1")).await;
    done.unwrap();
    assert!(lines.last().unwrap().contains("Downloaded newer image"));
    assert_eq!(stack.images.resolve(&old.id(), None).await.unwrap().id, old.id());
    let by_digest = format!("{}@{}", registry.reference("app"), old.manifest.digest());
    assert_eq!(stack.images.resolve(&by_digest, None).await.unwrap().id, old.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_lying_registry_leaves_nothing() {
    let (stack, registry) = (Stack::start().await, Registry::start().await);
    let image = Sample::new("amd64", &["honest"]);
    registry.put_image("app", "1", &image);
    let mut lie = image.layers[0].clone();
    let last = lie.bytes.len() - 1;
    lie.bytes[last] ^= 1;
    registry.put(&format!("/v2/app/blobs/{}", image.layers[0].digest()), &lie);
    let error = pull(&stack, &registry.reference("app:1")).await.1.unwrap_err();
    let expected = format!("filesystem layer verification failed for digest {}", image.layers[0].digest());
    assert_eq!(error.to_string(), expected);
    assert!(stack.backend.image_list(&[]).await.unwrap().is_empty());
    assert!(stack.is_empty_of_content().await);
    // and an honest one is believed afterwards
    registry.put_image("app", "1", &image);
    pull(&stack, &registry.reference("app:1")).await.1.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_layer_that_is_not_what_the_config_says_is_refused() {
    let (stack, registry) = (Stack::start().await, Registry::start().await);
    let mut image = Sample::new("amd64", &["said"]);
    image.layers[0] = Sample::new("amd64", &["done"]).layers[0].clone();
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    manifest["layers"][0] = image.layers[0].descriptor();
    image.manifest = Blob::new(&image.manifest.media_type, manifest.to_string());
    registry.put_image("app", "1", &image);
    let error = pull(&stack, &registry.reference("app:1")).await.1.unwrap_err();
    assert!(error.to_string().contains("unpacks to"), "{error}");
    assert!(stack.is_empty_of_content().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_layer_that_leads_out_of_the_root_writes_nothing_there() {
    let (stack, registry) = (Stack::start().await, Registry::start().await);
    let escape = stack.dir.path().join("escaped");
    let climb = format!("{}{}", "../".repeat(10), escape.to_str().unwrap().trim_start_matches('/'));
    let image = Sample::of_layers("amd64", vec![tar(&[(climb.as_str(), b"out")])]);
    registry.put_image("app", "1", &image);
    // an error or a file inside the root: either way nothing out here
    let _ = pull(&stack, &registry.reference("app:1")).await;
    assert!(!escape.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_what_is_missing_is_told_in_docker_s_words() {
    let (stack, registry) = (Stack::start().await, Registry::start().await);
    let reference = registry.reference("app:1");
    let error = pull(&stack, &reference).await.1.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {reference} not found: manifest unknown: manifest unknown")
    );
    assert_eq!(error.kind(), Kind::NotFound);
    let image = Sample::new("s390x", &["x"]);
    registry.put_image("app", "", &image);
    registry.put_manifest("app", "1", &index(&[("s390x", &image)]));
    let error = pull(&stack, &reference).await.1.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("no matching manifest for linux/") && text.ends_with("in the manifest list entries"),
        "{text}"
    );
    assert!(stack.is_empty_of_content().await);
}
