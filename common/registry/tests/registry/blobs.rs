use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use wharf_registry::{Descriptor, RegistryError, Repository};
use wharf_vocab::Digest;

use crate::fake::{Asked, Fake, answer, cut};
use crate::{client, password, repository};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn content() -> Bytes {
    (0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into()
}

fn descriptor(of: &[u8]) -> Descriptor {
    Descriptor::new(LAYER, Digest::sha256(of), of.len() as u64)
}

async fn read(repository: &Repository, descriptor: &Descriptor, from: u64) -> Result<Vec<u8>, RegistryError> {
    let mut blob = repository.blob(descriptor, from);
    let mut all = Vec::new();
    while let Some(chunk) = blob.next().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

fn start_of(asked: &Asked) -> Option<usize> {
    asked.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let fake = Fake::start(|asked: &Asked| {
        if !asked.target.contains("/blobs/") {
            return answer(200, &[], "{}");
        }
        let all = content();
        match start_of(asked) {
            None => cut(200, &[], Some(all.len()), all.slice(..300_000)),
            Some(start) if start < 600_000 => {
                let range = format!("bytes {start}-{}/{}", all.len() - 1, all.len());
                cut(
                    206,
                    &[("content-range", &range)],
                    Some(all.len() - start),
                    all.slice(start..start + 200_000),
                )
            }
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", all.len() - 1, all.len());
                answer(206, &[("content-range", &range)], all.slice(start..))
            }
        }
    })
    .await;
    let wanted = content();
    let got = read(&repository(&fake), &descriptor(&wanted), 0).await.unwrap();
    assert!(got == wanted, "the content differs");
    assert!(fake.asked_for("/blobs/").len() >= 3);
}

#[tokio::test]
async fn a_registry_that_ignores_ranges_is_read_past_what_is_there() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let fake = Fake::start(move |asked: &Asked| {
        if !asked.target.contains("/blobs/") {
            return answer(200, &[], "{}");
        }
        let all = content();
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => cut(200, &[], Some(all.len()), all.slice(..100_000)),
            _ => answer(200, &[], all),
        }
    })
    .await;
    let wanted = content();
    assert!(read(&repository(&fake), &descriptor(&wanted), 0).await.unwrap() == wanted);
}

#[tokio::test]
async fn a_download_can_begin_in_the_middle() {
    let fake = Fake::start(|asked: &Asked| match start_of(asked) {
        Some(start) => {
            let all = content();
            let range = format!("bytes {start}-{}/{}", all.len() - 1, all.len());
            answer(206, &[("content-range", &range)], all.slice(start..))
        }
        None => answer(200, &[], "{}"),
    })
    .await;
    let wanted = content();
    let got = read(&repository(&fake), &descriptor(&wanted), 123_456).await.unwrap();
    assert!(got == wanted[123_456..]);
}

#[tokio::test]
async fn retries_end() {
    let fake = Fake::start(|asked: &Asked| match asked.target.contains("/blobs/") {
        true => cut(200, &[], Some(content().len()), Bytes::new()),
        false => answer(200, &[], "{}"),
    })
    .await;
    let error = read(&repository(&fake), &descriptor(&content()), 0).await.unwrap_err();
    assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
    assert_eq!(fake.asked_for("/blobs/").len(), 3);
}

#[tokio::test]
async fn a_wrong_digest_is_an_error() {
    let fake = Fake::start(|asked: &Asked| match asked.target.contains("/blobs/") {
        true => {
            let mut all = content().to_vec();
            all[77] ^= 1;
            answer(200, &[], all)
        }
        false => answer(200, &[], "{}"),
    })
    .await;
    let wanted = descriptor(&content());
    let error = read(&repository(&fake), &wanted, 0).await.unwrap_err();
    let text = format!("filesystem layer verification failed for digest {}", wanted.digest);
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn what_is_longer_or_shorter_than_its_descriptor_is_refused() {
    for (announced, length) in [(true, 1001), (true, 999), (false, 1001), (false, 999)] {
        let fake = Fake::start(move |asked: &Asked| {
            if !asked.target.contains("/blobs/") {
                return answer(200, &[], "{}");
            }
            if let Some(start) = start_of(asked) {
                return answer(416, &[("content-range", &format!("bytes */{start}"))], "");
            }
            match announced {
                true => answer(200, &[], vec![0; length]),
                false => cut(200, &[], None, vec![0; length].into()),
            }
        })
        .await;
        let error = read(&repository(&fake), &descriptor(&[0; 1000]), 0).await.unwrap_err();
        assert!(matches!(error, RegistryError::SizeMismatch { .. }), "{announced} {length}: {error}");
    }
}

#[tokio::test]
async fn authorization_does_not_follow_a_redirect_to_another_host() {
    let storage = Fake::start(|_: &Asked| answer(200, &[], content())).await;
    let elsewhere = format!("http://{}/stored?signature=secret", storage.address);
    let fake = Fake::start(move |asked: &Asked| match asked.header("authorization") {
        Some(_) if asked.target.contains("/blobs/") => answer(307, &[("location", &elsewhere)], ""),
        _ => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
    })
    .await;
    let repository = client().repository(&fake.domain(), "some/thing", password()).unwrap();
    let wanted = content();
    assert!(read(&repository, &descriptor(&wanted), 0).await.unwrap() == wanted);
    let seen = storage.asked_for("/stored");
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), None);
}

#[tokio::test]
async fn errors_behind_a_redirect_show_no_signature() {
    let storage = Fake::start(|_: &Asked| answer(500, &[], "no")).await;
    let elsewhere = format!("http://{}/stored?signature=secret", storage.address);
    let fake = Fake::start(move |asked: &Asked| match asked.target.contains("/blobs/") {
        true => answer(302, &[("location", &elsewhere)], ""),
        false => answer(200, &[], "{}"),
    })
    .await;
    let error = read(&repository(&fake), &descriptor(b"x"), 0).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let fake = Fake::start(|asked: &Asked| match asked.target.contains("/blobs/") {
        true => answer(302, &[("location", asked.target.as_str())], ""),
        false => answer(200, &[], "{}"),
    })
    .await;
    let error = read(&repository(&fake), &descriptor(b"x"), 0).await.unwrap_err();
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
}
