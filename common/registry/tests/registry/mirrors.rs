//! The operator's folder: mirrors in order, what each may be asked for, headers, namespaces.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wharf_kinds::Kind;
use wharf_registry::{
    Answer, AskCredentials, Client, Config, Credentials, Descriptor, RegistryError, Repository, Retry, Target,
};
use wharf_vocab::Digest;

use crate::fake::{Asked, Fake, answer, head};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOMAIN: &str = "registry.example";

fn client(hosts: &Path) -> Client {
    let retry = Retry { attempts: 3, delay: Duration::from_millis(1) };
    Client::new(Config { retry, hosts: Some(hosts.into()), greet: false, ..Config::default() }).unwrap()
}

fn described(domain: &str, text: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(domain)).unwrap();
    std::fs::write(root.path().join(domain).join("hosts.toml"), text).unwrap();
    root
}

fn repository(hosts: &Path) -> Repository {
    client(hosts).repository(DOMAIN, "some/thing", Credentials::Anonymous).unwrap()
}

fn latest() -> Target {
    Target::Tag("latest".into())
}

fn layer(of: &[u8]) -> Descriptor {
    Descriptor::new(LAYER, Digest::sha256(of), of.len() as u64)
}

fn manifest_head(of: &str) -> hyper::Response<crate::fake::Body> {
    let digest = Digest::sha256(of.as_bytes()).to_string();
    head(200, &[("content-type", IMAGE), ("docker-content-digest", &digest)], of.len())
}

/// Serves a manifest for every name and one blob, or refuses all with a status.
async fn registry(status: u16, name: &'static str) -> Fake {
    Fake::start(move |asked: &Asked| match status {
        200 if asked.target.contains("/manifests/") => manifest_head(name),
        200 => answer(200, &[], "content"),
        other => answer(other, &[], ""),
    })
    .await
}

#[tokio::test]
async fn hosts_are_asked_in_order_and_the_registry_last() {
    let gone = crate::Nobody::new();
    let (first, second, last) =
        (registry(404, "first").await, registry(503, "second").await, registry(200, "last").await);
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{gone}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n",
        last.domain(),
        first.domain(),
        second.domain()
    );
    let hosts = described(DOMAIN, &text);
    let repository = repository(hosts.path());
    let found = repository.resolve(&latest()).await.unwrap();
    assert_eq!(found.digest, Digest::sha256(b"last"));
    assert_eq!(repository.blob_all(&layer(b"content"), 100).await.unwrap(), b"content");
    for fake in [&first, &second] {
        // a name, its reason, and a blob: each is asked of every host
        let asked = fake.asked_for("/v2/some/thing/");
        assert_eq!(asked.iter().map(|a| a.method.as_str()).collect::<Vec<_>>(), ["HEAD", "GET", "GET"]);
        // whoever stands in for another registry is told for which
        assert!(asked.iter().all(|a| a.target.ends_with("?ns=registry.example")), "{asked:?}");
    }
    assert_eq!(last.asked_for("/v2/some/thing/").len(), 2);
}

#[tokio::test]
async fn hosts_are_asked_for_what_they_can_do_alone() {
    let (blobs, names) = (registry(200, "blobs").await, registry(200, "names").await);
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        names.domain(),
        blobs.domain()
    );
    let hosts = described(DOMAIN, &text);
    let repository = repository(hosts.path());
    // what a name means is not for this mirror to say
    assert_eq!(repository.resolve(&latest()).await.unwrap().digest, Digest::sha256(b"names"));
    assert_eq!(repository.blob_all(&layer(b"content"), 100).await.unwrap(), b"content");
    assert!(blobs.asked_for("/manifests/").is_empty());
    assert_eq!(blobs.asked_for("/blobs/").len(), 1);
    assert!(names.asked_for("/blobs/").is_empty());
    let push = repository.for_push();
    push.has_blob(&Digest::sha256(b"content")).await.unwrap();
    assert_eq!(names.asked_for("/blobs/").len(), 1, "only the registry itself can be pushed to");
}

#[tokio::test]
async fn nobody_to_ask_is_an_error_of_its_own() {
    let hosts = described(DOMAIN, "capabilities = [\"pull\"]\n");
    let repository = repository(hosts.path());
    let error = repository.resolve(&latest()).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.kind()), ("no resolve hosts: not found", Kind::NotFound));
    let error = repository.for_push().has_blob(&Digest::sha256(b"x")).await.unwrap_err();
    assert_eq!(error.to_string(), "no push hosts: not found");
}

#[tokio::test]
async fn paths_and_headers_are_the_operators() {
    let fake = registry(200, "x").await;
    let text = format!(
        "[host.\"http://{}/hub/proxy\"]\noverride_path = true\n[host.\"http://{}/hub/proxy\".header]\n\
         x-key = \"the key\"\nauthorization = \"Basic c2VjcmV0\"\n",
        fake.domain(),
        fake.domain()
    );
    let hosts = described(DOMAIN, &text);
    repository(hosts.path()).resolve(&latest()).await.unwrap();
    let asked = fake.asked_for("/hub/proxy/some/thing/manifests/latest");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("x-key"), Some("the key"));
    assert_eq!(asked[0].header("authorization"), Some("Basic c2VjcmV0"));
}

#[tokio::test]
async fn the_failure_that_got_furthest_is_told() {
    let gone = crate::Nobody::new();
    let forbidden = registry(403, "x").await;
    let missing = registry(404, "x").await;
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{gone}\"]\n[host.\"http://{}\"]\n",
        missing.domain(),
        forbidden.domain()
    );
    let hosts = described(DOMAIN, &text);
    let error = repository(hosts.path()).resolve(&latest()).await.unwrap_err();
    assert_eq!(error.status(), Some(403), "{error}");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_lets_nothing_through() {
    let fake = registry(200, "x").await;
    let hosts = described(&fake.domain(), "capabilities = [\"fly\"]");
    let repository = client(hosts.path()).repository(&fake.domain(), "x", Credentials::Anonymous).unwrap();
    let error = repository.resolve(&latest()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Settings(_)), "{error}");
    assert!(fake.asked.lock().unwrap().is_empty(), "the registry was asked past the operator's settings");
}

/// Notes for whom credentials were wanted.
struct Asker(Mutex<Vec<(String, Vec<String>)>>);

impl AskCredentials for Asker {
    fn ask<'a>(&'a self, host: &'a str, challenges: &'a [String]) -> Answer<'a> {
        self.0.lock().unwrap().push((host.to_owned(), challenges.to_vec()));
        Box::pin(async { Ok(Credentials::Password { username: "me".into(), password: "hunter2".into() }) })
    }
}

fn basic_only(asked: &Asked) -> hyper::Response<crate::fake::Body> {
    match asked.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") if asked.target.contains("/manifests/") => manifest_head("x"),
        Some("Basic bWU6aHVudGVyMg==") => answer(200, &[], "content"),
        _ => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
    }
}

#[tokio::test]
async fn credentials_are_asked_for_once_by_host_when_they_are_wanted() {
    let open = registry(404, "x").await;
    let locked = Fake::start(basic_only).await;
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", locked.domain(), open.domain());
    let hosts = described(DOMAIN, &text);
    let asker = Arc::new(Asker(Mutex::default()));
    let source: Arc<dyn AskCredentials> = asker.clone();
    let repository = client(hosts.path()).repository(DOMAIN, "some/thing", source).unwrap();
    repository.resolve(&latest()).await.unwrap();
    repository.blob_all(&layer(b"content"), 100).await.unwrap();
    let asked = asker.0.lock().unwrap().clone();
    assert_eq!(asked, [(locked.domain(), vec!["Basic realm=\"r\"".to_owned()])]);
    assert!(open.asked.lock().unwrap().iter().all(|a| a.header("authorization").is_none()));
}

#[tokio::test]
async fn a_registrys_own_credentials_go_to_no_mirror() {
    let mirror = Fake::start(basic_only).await;
    let origin = Fake::start(basic_only).await;
    // the registry itself is the last, without a server of its own
    let hosts = described(&origin.domain(), &format!("[host.\"http://{}\"]\n", mirror.domain()));
    let repository =
        client(hosts.path()).repository(&origin.domain(), "some/thing", crate::password()).unwrap();
    repository.resolve(&latest()).await.unwrap();
    let seen = mirror.asked.lock().unwrap().clone();
    assert!(!seen.is_empty() && seen.iter().all(|a| a.header("authorization").is_none()), "{seen:?}");
}
