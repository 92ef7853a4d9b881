use wharf_registry::{Credentials, RegistryError, Target};

use crate::fake::{Asked, Body, Fake, answer, head};
use crate::{client, password, repository};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn manifest_head() -> hyper::Response<Body> {
    head(200, &[("content-type", MANIFEST_TYPE), ("docker-content-digest", DIGEST)], 100)
}

fn latest() -> Target {
    Target::Tag("latest".into())
}

/// A registry whose token service is at /token on the same port.
async fn bearer_registry(accepts: fn(&Asked) -> bool) -> Fake {
    Fake::start(move |asked: &Asked| {
        let host = asked.header("host").unwrap_or_default();
        let challenge = format!(
            "Bearer realm=\"http://{host}/token\",service=\"registry\",scope=\"repository:some/thing:pull\""
        );
        if asked.target.starts_with("/token") {
            return if accepts(asked) {
                answer(200, &[], r#"{"token":"good","expires_in":300}"#)
            } else {
                let body =
                    r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#;
                answer(401, &[("content-type", "application/json")], body)
            };
        }
        match asked.header("authorization") {
            Some("Bearer good") if asked.target != "/v2/" => manifest_head(),
            _ => answer(401, &[("www-authenticate", &challenge)], "{}"),
        }
    })
    .await
}

#[tokio::test]
async fn a_token_is_fetched_once_for_a_scope() {
    let fake = bearer_registry(|_| true).await;
    let client = client();
    for _ in 0..3 {
        let repository = client.repository(&fake.domain(), "some/thing", Credentials::Anonymous).unwrap();
        repository.resolve(&latest()).await.unwrap();
    }
    let tokens = fake.asked_for("/token");
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert!(tokens[0].target.contains("service=registry"));
    assert!(tokens[0].target.contains("scope=repository%3Asome%2Fthing%3Apull"));
    assert_eq!(tokens[0].header("authorization"), None);
    // asked with the token at once: no refused request first
    assert_eq!(fake.asked_for("/manifests/").len(), 3);
}

#[tokio::test]
async fn a_password_goes_to_the_token_service_alone() {
    let fake = bearer_registry(|a| a.header("authorization") == Some("Basic bWU6aHVudGVyMg==")).await;
    let repository = client().repository(&fake.domain(), "some/thing", password()).unwrap();
    repository.resolve(&latest()).await.unwrap();
    assert!(fake.asked_for("/token")[0].target.contains("account=me"));
    assert_eq!(fake.asked_for("/manifests/")[0].header("authorization"), Some("Bearer good"));
}

#[tokio::test]
async fn an_identity_token_is_posted_as_a_refresh_token() {
    let fake = bearer_registry(|a| a.method == "POST" && a.body.contains("grant_type=refresh_token")).await;
    let credentials = Credentials::IdentityToken("refresh me".into());
    let repository = client().repository(&fake.domain(), "some/thing", credentials).unwrap();
    repository.resolve(&latest()).await.unwrap();
    assert!(fake.asked_for("/token")[0].body.contains("refresh_token=refresh+me"));
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let fake = bearer_registry(|_| false).await;
    let credentials = Credentials::RegistryToken("good".into());
    client().repository(&fake.domain(), "some/thing", credentials).unwrap().resolve(&latest()).await.unwrap();
    assert!(fake.asked_for("/token").is_empty());
}

#[tokio::test]
async fn a_refused_password_says_so_and_shows_nothing() {
    let fake = bearer_registry(|_| false).await;
    let repository = client().repository(&fake.domain(), "some/thing", password()).unwrap();
    let error = repository.resolve(&latest()).await.unwrap_err();
    assert_eq!(error.to_string(), "unauthorized: incorrect username or password");
    assert_eq!(error.kind(), wharf_kinds::Kind::Unauthenticated);
    assert!(!format!("{error:?} {repository:?} {:?}", password()).contains("hunter2"));
}

#[tokio::test]
async fn an_expired_token_is_replaced_once() {
    let fake = Fake::start(|asked: &Asked| {
        let host = asked.header("host").unwrap_or_default().to_owned();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"registry\"");
        if asked.target.starts_with("/token") {
            return answer(200, &[], r#"{"access_token":"stale"}"#);
        }
        answer(401, &[("www-authenticate", &challenge)], "")
    })
    .await;
    let error = repository(&fake).resolve(&latest()).await.unwrap_err();
    assert_eq!(error.to_string(), "unauthorized: authentication required");
    // the HEAD and the GET that asks why, each with one fresh token
    assert!(fake.asked_for("/manifests/").len() <= 4);
    assert!(fake.asked_for("/token").len() <= 3);
}

async fn basic_registry() -> Fake {
    Fake::start(|asked: &Asked| match asked.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") => manifest_head(),
        _ => {
            let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
            let headers = [("www-authenticate", "Basic realm=\"r\""), ("content-type", "application/json")];
            answer(401, &headers, body)
        }
    })
    .await
}

#[tokio::test]
async fn basic_authentication() {
    let fake = basic_registry().await;
    client().repository(&fake.domain(), "some/thing", password()).unwrap().resolve(&latest()).await.unwrap();
    client().login(&fake.domain(), password()).await.unwrap();
    let error = repository(&fake).resolve(&latest()).await.unwrap_err();
    assert!(matches!(error, RegistryError::NoCredentials { .. }), "{error}");
    assert!(error.to_string().ends_with(": no basic auth credentials"), "{error}");
    let wrong = Credentials::Password { username: "me".into(), password: "wrong".into() };
    let error = client().login(&fake.domain(), wrong).await.unwrap_err();
    assert_eq!(error.to_string(), "unauthorized: authentication required");
}

#[tokio::test]
async fn nobody_there_reads_as_docker_says_it() {
    let unused = crate::Nobody::new();
    let repository = client().repository(&unused.to_string(), "x", Credentials::Anonymous).unwrap();
    let error = repository.resolve(&latest()).await.unwrap_err();
    let expected = format!("Get \"http://{unused}/v2/\": dial tcp {unused}: connect: connection refused");
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.kind(), wharf_kinds::Kind::Unavailable);
}

#[tokio::test]
async fn parallel_requests_share_one_token() {
    let fake = bearer_registry(|_| true).await;
    let repository = repository(&fake);
    let asking = (0..8).map(|_| {
        let repository = repository.clone();
        tokio::spawn(async move { repository.resolve(&latest()).await.map(drop) })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(fake.asked_for("/token").len(), 1);
}

#[tokio::test]
async fn a_token_service_is_asked_the_other_way_when_it_knows_no_get() {
    let only_post = bearer_registry(|a| {
        a.method == "POST" && a.body.contains("grant_type=password&username=me&password=hunter2")
    });
    // a refusal of the fake is 401: as wrong as a wrong password, and not tried in another way
    let fake = only_post.await;
    let repository = client().repository(&fake.domain(), "some/thing", password()).unwrap();
    repository.resolve(&latest()).await.unwrap_err();
    assert!(fake.asked_for("/token").iter().all(|a| a.method == "GET"));
    let fake = Fake::start(|asked: &Asked| {
        let host = asked.header("host").unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"registry\"");
        match (asked.target.starts_with("/token"), asked.header("authorization")) {
            (true, _) if asked.method == "GET" => answer(404, &[], ""),
            (true, _) if asked.body.contains("grant_type=password&username=me&password=hunter2") => {
                answer(200, &[], r#"{"access_token":"good"}"#)
            }
            (false, Some("Bearer good")) => manifest_head(),
            _ => answer(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    client().repository(&fake.domain(), "some/thing", password()).unwrap().resolve(&latest()).await.unwrap();
}

#[tokio::test]
async fn a_whole_header_is_sent_as_it_is() {
    let fake = basic_registry().await;
    let header = Credentials::Header("Basic bWU6aHVudGVyMg==".into());
    assert_eq!(format!("{header:?}"), "Header");
    client().repository(&fake.domain(), "some/thing", header).unwrap().resolve(&latest()).await.unwrap();
}

#[tokio::test]
async fn a_token_goes_to_no_host_that_an_upload_is_sent_to() {
    let storage = Fake::start(|_: &Asked| answer(201, &[], "")).await;
    let elsewhere = format!("http://{}/upload?signature=1", storage.domain());
    let fake = Fake::start(move |asked: &Asked| {
        let host = asked.header("host").unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\"");
        match (asked.target.starts_with("/token"), asked.header("authorization")) {
            (true, _) => answer(200, &[], r#"{"token":"good"}"#),
            (false, None) => answer(401, &[("www-authenticate", &challenge)], ""),
            _ if asked.method == "HEAD" => answer(404, &[], ""),
            _ => answer(202, &[("location", &elsewhere)], ""),
        }
    })
    .await;
    let repository = client().repository(&fake.domain(), "some/thing", password()).unwrap().for_push();
    let (layer, source) = crate::pushes::small();
    repository.upload(&layer, &[], &source).await.unwrap();
    let seen = storage.asked_for("/upload");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), None);
    assert!(seen[0].target.contains("signature=1&digest=sha256"));
}
