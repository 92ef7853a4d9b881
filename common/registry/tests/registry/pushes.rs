//! Pushing to a scripted registry: mounts and their refusal, uploads at once and in parts, and what may go wrong.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio_stream::iter;
use wharf_registry::{Credentials, Descriptor, RegistryError, Repository, Source, Target, Uploaded};
use wharf_vocab::Digest;

use crate::client;
use crate::fake::{Asked, Body, Fake, answer, head};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The blob of a text, in pieces.
pub fn blob(text: String) -> (Descriptor, Source) {
    let text = Bytes::from(text);
    let descriptor = Descriptor::new(LAYER, Digest::sha256(&text), text.len() as u64);
    let source: Source = Arc::new(move |offset| {
        let text = text.slice(usize::try_from(offset).unwrap()..);
        let pieces: Vec<_> = text.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Box::pin(iter(pieces))
    });
    (descriptor, source)
}

pub fn small() -> (Descriptor, Source) {
    blob("small".into())
}

fn large_text() -> String {
    (0..400_000).map(|n| format!("{n:07} ")).collect()
}

/// What the scripted registry has of an upload.
#[derive(Default)]
struct Upload {
    received: String,
    patches: usize,
    is_done: bool,
}

type Script = fn(&Asked, &mut Upload) -> Option<hyper::Response<Body>>;

/// A registry with one upload; the script may answer in its place.
async fn registry(script: Script) -> (Fake, Arc<Mutex<Upload>>) {
    let upload = Arc::new(Mutex::new(Upload::default()));
    let state = upload.clone();
    let fake = Fake::start(move |asked: &Asked| {
        let mut upload = state.lock().unwrap();
        if let Some(answer) = script(asked, &mut upload) {
            return answer;
        }
        let place = ("location", "/v2/some/thing/blobs/uploads/1?state=a");
        let last = upload.received.len().saturating_sub(1);
        let range = format!("0-{last}");
        match asked.method.as_str() {
            "HEAD" if upload.is_done => head(200, &[], upload.received.len()),
            "HEAD" => answer(404, &[], ""),
            "POST" => answer(202, &[place], ""),
            "PATCH" => {
                upload.patches += 1;
                upload.received.push_str(&asked.body);
                answer(202, &[place], "")
            }
            "PUT" => {
                upload.received.push_str(&asked.body);
                upload.is_done = true;
                answer(201, &[], "")
            }
            _ if asked.target.contains("uploads") => answer(204, &[place, ("range", &range)], ""),
            _ => answer(200, &[], "{}"),
        }
    })
    .await;
    (fake, upload)
}

fn repository(fake: &Fake) -> Repository {
    client().repository(&fake.domain(), "some/thing", Credentials::Anonymous).unwrap().for_push()
}

fn methods(fake: &Fake) -> Vec<String> {
    fake.asked_for("/v2/some/thing/").into_iter().map(|asked| asked.method).collect()
}

#[tokio::test]
async fn a_small_blob_goes_in_one_request() {
    let (fake, upload) = registry(|_, _| None).await;
    let (descriptor, source) = small();
    assert_eq!(repository(&fake).upload(&descriptor, &[], &source).await.unwrap(), Uploaded::Sent);
    assert_eq!(methods(&fake), ["HEAD", "POST", "PUT"]);
    assert_eq!(upload.lock().unwrap().received, "small");
    let put = fake.asked_for("uploads/1?state=a&digest=sha256");
    assert_eq!(put.len(), 1, "the place's own query is kept");
    assert_eq!(repository(&fake).upload(&descriptor, &[], &source).await.unwrap(), Uploaded::Existed);
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_the_registry_stands() {
    let (fake, upload) = registry(|asked, upload| {
        if asked.method != "PATCH" || upload.patches >= 2 {
            return None;
        }
        // a part of it arrived
        upload.patches += 1;
        upload.received.push_str(&asked.body[..1_000_000]);
        Some(answer(503, &[], ""))
    })
    .await;
    let (descriptor, source) = blob(large_text());
    assert_eq!(repository(&fake).upload(&descriptor, &[], &source).await.unwrap(), Uploaded::Sent);
    assert!(upload.lock().unwrap().received == large_text());
    let patches: Vec<_> = fake.asked_for("uploads/1").into_iter().filter(|a| a.method == "PATCH").collect();
    let ranges: Vec<_> = patches.iter().map(|a| a.header("content-range").map(str::to_owned)).collect();
    let last = large_text().len() - 1;
    assert_eq!(ranges, [None, Some(format!("1000000-{last}")), Some(format!("2000000-{last}"))]);
}

#[tokio::test]
async fn parts_shrink_where_they_are_too_large() {
    let (fake, upload) = registry(|asked, _| {
        (asked.method == "PATCH" && asked.body.len() > 1_100_000).then(|| answer(413, &[], "too large"))
    })
    .await;
    let (descriptor, source) = blob(large_text());
    repository(&fake).upload(&descriptor, &[], &source).await.unwrap();
    assert!(upload.lock().unwrap().received == large_text());
    assert_eq!(upload.lock().unwrap().patches, 4);
}

#[tokio::test]
async fn a_registry_without_parts_gets_the_whole() {
    let (fake, upload) = registry(|asked, _| (asked.method == "PATCH").then(|| answer(405, &[], ""))).await;
    let (descriptor, source) = blob(large_text());
    repository(&fake).upload(&descriptor, &[], &source).await.unwrap();
    assert!(upload.lock().unwrap().received == large_text());
    assert_eq!(methods(&fake), ["HEAD", "POST", "PATCH", "POST", "PUT"]);
}

#[tokio::test]
async fn an_end_whose_answer_is_lost_is_looked_at() {
    let (fake, upload) = registry(|asked, upload| {
        if asked.method != "PUT" {
            return None;
        }
        upload.is_done = true;
        Some(answer(500, &[], ""))
    })
    .await;
    let (descriptor, source) = blob(large_text());
    assert_eq!(repository(&fake).upload(&descriptor, &[], &source).await.unwrap(), Uploaded::Sent);
    assert!(upload.lock().unwrap().is_done);
}

#[tokio::test]
async fn a_refused_upload_says_so() {
    let (fake, _) = registry(|asked, _| {
        let denied =
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
        (asked.method == "POST").then(|| answer(403, &[("content-type", "application/json")], denied))
    })
    .await;
    let (descriptor, source) = small();
    let error = repository(&fake).upload(&descriptor, &[], &source).await.unwrap_err();
    assert_eq!(error.to_string(), "denied: requested access to the resource is denied");
    let RegistryError::Api(api) = error else { panic!("{error}") };
    assert_eq!((api.status, api.method), (403, "Post"));
}

#[tokio::test]
async fn the_nearest_repository_is_mounted_from() {
    let (fake, upload) = registry(|asked, _| {
        (asked.method == "POST" && asked.target.contains("mount=")).then(|| answer(201, &[], ""))
    })
    .await;
    let (descriptor, source) = small();
    let mounts = ["a/b".to_owned(), "some/thing".into(), "some/other".into(), "z".into()];
    let uploaded = repository(&fake).upload(&descriptor, &mounts, &source).await.unwrap();
    assert_eq!(uploaded, Uploaded::Mounted);
    let asked = fake.asked_for("mount=");
    assert!(asked[0].target.ends_with("&from=some%2Fother"), "{}", asked[0].target);
    assert_eq!(upload.lock().unwrap().received, "");
}

#[tokio::test]
async fn a_refused_mount_becomes_an_upload() {
    let refusals: [Script; 4] = [
        // the place for an upload, as the specification has it
        |_, _| None,
        |asked, _| asked.target.contains("mount=").then(|| answer(401, &[], "")),
        |asked, _| asked.target.contains("mount=").then(|| answer(404, &[], "")),
        |asked, _| asked.target.contains("mount=").then(|| answer(405, &[], "")),
    ];
    for script in refusals {
        let (fake, upload) = registry(script).await;
        let (descriptor, source) = small();
        let uploaded = repository(&fake).upload(&descriptor, &["other".into()], &source).await.unwrap();
        assert_eq!(uploaded, Uploaded::Sent);
        assert_eq!(upload.lock().unwrap().received, "small");
        assert_eq!(fake.asked_for("mount=").len(), 1);
    }
}

#[tokio::test]
async fn the_token_of_a_mount_is_for_both_repositories() {
    let fake = Fake::start(|asked: &Asked| {
        let host = asked.header("host").unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
        if asked.target.starts_with("/token") {
            let both = asked.target.contains("scope=repository%3Aother%3Apull&")
                || asked.target.contains("scope=repository%3Aother%3Apull%2F");
            let token = if both { "both" } else { "one" };
            return answer(200, &[], format!(r#"{{"token":"{token}"}}"#));
        }
        match (asked.header("authorization"), asked.method.as_str()) {
            (None, _) => answer(401, &[("www-authenticate", &challenge)], ""),
            (_, "HEAD") => answer(404, &[], ""),
            (Some("Bearer both"), "POST") => answer(201, &[], ""),
            _ => answer(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    let (descriptor, source) = small();
    let uploaded = repository(&fake).upload(&descriptor, &["other".into()], &source).await.unwrap();
    assert_eq!(uploaded, Uploaded::Mounted);
    let tokens = fake.asked_for("/token");
    assert!(tokens.iter().any(|t| {
        t.target.contains("scope=repository%3Aother%3Apull&scope=repository%3Asome%2Fthing%3Apull%2Cpush")
    }));
}

#[tokio::test]
async fn a_manifest_is_stored_under_its_name_and_its_digest() {
    let (fake, _) = registry(|_, _| None).await;
    let (repository, text) = (repository(&fake), "{}");
    let digest = Digest::sha256(text.as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    for target in [Target::Tag("latest".into()), Target::Digest(digest.clone())] {
        repository.put_manifest(&target, kind, text.as_bytes()).await.unwrap();
    }
    let puts = fake.asked_for("/manifests/");
    assert!(puts[0].target.ends_with("/manifests/latest") && puts[1].target.ends_with(digest.as_str()));
    assert!(puts.iter().all(|a| a.header("content-type") == Some(kind) && a.body == text));
}
