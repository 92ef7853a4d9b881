use wharf_kinds::Kind;
use wharf_registry::{Descriptor, Manifest, RegistryError, Target};
use wharf_vocab::Digest;

use crate::fake::{Asked, Fake, answer, head};
use crate::repository;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

fn image() -> String {
    let config = Digest::sha256(b"{}");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
    )
}

fn index() -> String {
    let image = image();
    let (digest, size) = (Digest::sha256(image.as_bytes()), image.len());
    let entry = |architecture: &str| {
        format!(
            r#"{{"mediaType":"{IMAGE}","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#
        )
    };
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{},{}]}}"#,
        entry("s390x"),
        entry("amd64")
    )
}

#[tokio::test]
async fn an_index_leads_to_the_image_of_a_platform() {
    let fake = Fake::start(|asked: &Asked| match asked.target.as_str() {
        "/v2/some/thing/manifests/latest" => answer(200, &[("content-type", INDEX)], index()),
        target if target.contains("/manifests/sha256:") => answer(200, &[("content-type", IMAGE)], image()),
        _ => answer(200, &[], "{}"),
    })
    .await;
    let repository = repository(&fake);
    let fetched = repository.manifest(&Target::Tag("latest".into())).await.unwrap();
    assert_eq!(fetched.descriptor.digest, Digest::sha256(index().as_bytes()));
    let Manifest::Index(found) = &fetched.manifest else { panic!("an index was sent") };
    let entry = found.choose(&"linux/amd64".parse().unwrap()).unwrap();
    let image = repository.manifest_of(entry).await.unwrap();
    assert!(matches!(image.manifest, Manifest::Image(_)));
    let mut lying = entry.clone();
    lying.size += 1;
    let error = repository.manifest_of(&lying).await.unwrap_err();
    assert!(matches!(error, RegistryError::SizeMismatch { .. }), "{error}");
}

#[tokio::test]
async fn resolving_needs_one_head() {
    let digest = Digest::sha256(b"whatever");
    let text = digest.to_string();
    let fake = Fake::start(move |asked: &Asked| match asked.method.as_str() {
        "HEAD" => head(200, &[("content-type", IMAGE), ("docker-content-digest", &text)], 512),
        _ => answer(200, &[], "{}"),
    })
    .await;
    let found = repository(&fake).resolve(&Target::Tag("latest".into())).await.unwrap();
    assert_eq!(found, Descriptor::new(IMAGE, digest, 512));
    assert_eq!(fake.asked_for("/manifests/").len(), 1);
}

#[tokio::test]
async fn a_missing_manifest_and_a_denied_repository() {
    let fake = Fake::start(|asked: &Asked| {
        let json = ("content-type", "application/json; charset=utf-8");
        if asked.method == "HEAD" {
            return head(404, &[json], 10);
        }
        match asked.target.as_str() {
            t if t.ends_with("/manifests/gone") => answer(
                404,
                &[json],
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
            ),
            t if t.ends_with("/manifests/denied") => answer(
                401,
                &[json],
                r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
            ),
            t if t.ends_with("/manifests/rude") => answer(403, &[], "go\naway"),
            t if t.ends_with("/manifests/broken") => answer(500, &[], "oops"),
            _ => answer(200, &[], "{}"),
        }
    })
    .await;
    let repository = repository(&fake);
    let error = async |tag: &str| repository.resolve(&Target::Tag(tag.into())).await.unwrap_err();
    assert_eq!(error("gone").await.to_string(), "manifest unknown: manifest unknown");
    assert_eq!(error("gone").await.kind(), Kind::NotFound);
    assert_eq!(error("denied").await.to_string(), "denied: requested access to the resource is denied");
    assert_eq!(error("rude").await.to_string(), "denied: go away");
    assert!(error("broken").await.to_string().starts_with("received unexpected HTTP status: 500 Internal"));
}

#[tokio::test]
async fn content_that_is_not_what_was_asked_for_is_refused() {
    let fake = Fake::start(|asked: &Asked| {
        let other = Digest::sha256(b"other").to_string();
        match asked.target.as_str() {
            t if t.contains("/manifests/") => {
                answer(200, &[("content-type", IMAGE), ("docker-content-digest", &other)], image())
            }
            _ => answer(200, &[], "{}"),
        }
    })
    .await;
    let repository = repository(&fake);
    for target in [Target::Tag("latest".into()), Target::Digest(Digest::sha256(b"wanted"))] {
        let error = repository.manifest(&target).await.unwrap_err();
        assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error}");
        assert_eq!(error.kind(), Kind::DataLoss);
    }
}

#[tokio::test]
async fn an_endless_manifest_is_cut_off() {
    let fake = Fake::start(|asked: &Asked| match asked.target.as_str() {
        t if t.contains("/manifests/") => answer(200, &[("content-type", IMAGE)], vec![b' '; 5 << 20]),
        _ => answer(200, &[], "{}"),
    })
    .await;
    let error = repository(&fake).manifest(&Target::Tag("latest".into())).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn schema_one_is_refused() {
    let fake = Fake::start(|asked: &Asked| match asked.target.as_str() {
        t if t.contains("/manifests/") => {
            let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
            answer(200, &[("content-type", schema1)], r#"{"schemaVersion":1}"#)
        }
        _ => answer(200, &[], "{}"),
    })
    .await;
    let error = repository(&fake).manifest(&Target::Tag("latest".into())).await.unwrap_err();
    assert!(error.to_string().contains("schema 1 support has been removed"), "{error}");
}

#[tokio::test]
async fn tags_come_in_pages() {
    let fake = Fake::start(|asked: &Asked| match asked.target.as_str() {
        "/v2/some/thing/tags/list?n=1000" => {
            let next = ("link", "</v2/some/thing/tags/list?n=1000&last=b>; rel=\"next\"");
            answer(200, &[next], r#"{"name":"some/thing","tags":["a","b","../../bad"]}"#)
        }
        "/v2/some/thing/tags/list?n=1000&last=b" => answer(200, &[], r#"{"tags":["c"]}"#),
        _ => answer(200, &[], "{}"),
    })
    .await;
    assert_eq!(repository(&fake).tags().await.unwrap(), ["a", "b", "c"]);
}
