//! Large blobs over several connections, retries with their waits, layers that their publishers keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use wharf_registry::{Client, Config, Credentials, Descriptor, Ranges, RegistryError, Repository, Retry};
use wharf_vocab::Digest;

use crate::fake::{Asked, Body, Fake, answer, cut};

const CHUNK: usize = 64 << 10;
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn content() -> Bytes {
    // 13 ranges, the last of them short
    (0..200_003u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into()
}

fn descriptor() -> Descriptor {
    let all = content();
    Descriptor::new(LAYER, Digest::sha256(&all), all.len() as u64)
}

fn client(connections: usize) -> Client {
    let ranges = Ranges { chunk: CHUNK as u64, connections, for_one: 3 };
    let retry = Retry { attempts: 3, delay: Duration::from_millis(1) };
    Client::new(Config { retry, ranges, ..Config::default() }).unwrap()
}

fn repository(fake: &Fake) -> Repository {
    client(3).repository(&fake.domain(), "some/thing", Credentials::Anonymous).unwrap()
}

async fn read(repository: &Repository, from: u64) -> Result<Vec<u8>, RegistryError> {
    let mut blob = repository.blob(&descriptor(), from);
    let mut all = Vec::new();
    while let Some(chunk) = blob.next().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// First and last byte asked for; none for all to the end.
fn asked_range(asked: &Asked) -> Option<(usize, Option<usize>)> {
    let (start, end) = asked.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()))
}

fn ranged(asked: &Asked) -> hyper::Response<Body> {
    let all = content();
    match asked_range(asked) {
        None => answer(200, &[], all),
        Some((start, end)) => {
            let end = end.unwrap_or(all.len() - 1).min(all.len() - 1);
            let range = format!("bytes {start}-{end}/{}", all.len());
            answer(206, &[("content-range", &range)], all.slice(start..=end))
        }
    }
}

fn is_blob(asked: &Asked) -> bool {
    asked.target.contains("/blobs/")
}

#[tokio::test]
async fn a_large_blob_comes_in_ranges_over_several_connections() {
    let fake =
        Fake::start(|asked: &Asked| if is_blob(asked) { ranged(asked) } else { answer(200, &[], "{}") })
            .await;
    assert!(read(&repository(&fake), 0).await.unwrap() == content());
    let mut asked: Vec<_> = fake.asked_for("/blobs/").iter().filter_map(asked_range).collect();
    asked.sort_unstable();
    assert_eq!(asked.len(), content().len().div_ceil(CHUNK));
    assert_eq!(asked[0], (0, Some(CHUNK - 1)));
    assert_eq!(asked.last().unwrap().1, Some(content().len() - 1));
    // from the middle on as well
    let from = 100_001;
    assert!(read(&repository(&fake), from as u64).await.unwrap() == content().slice(from..));
}

#[tokio::test]
async fn connections_are_counted_over_all_blobs() {
    let fake =
        Fake::start(|asked: &Asked| if is_blob(asked) { ranged(asked) } else { answer(200, &[], "{}") })
            .await;
    let client = client(1);
    let repository = client.repository(&fake.domain(), "some/thing", Credentials::Anonymous).unwrap();
    let mut first = repository.blob(&descriptor(), 0);
    first.next().await.unwrap().unwrap();
    let before = fake.asked_for("/blobs/").len();
    assert!(read(&repository, 0).await.unwrap() == content());
    // the second found no connection left and asked for the whole at once
    let ranges: Vec<_> = fake.asked_for("/blobs/")[before..].iter().map(asked_range).collect();
    assert!(ranges.contains(&None), "{ranges:?}");
    drop(first);
    assert!(read(&repository, 0).await.unwrap() == content());
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_over_one_connection() {
    let fake = Fake::start(
        |asked: &Asked| {
            if is_blob(asked) { answer(200, &[], content()) } else { answer(200, &[], "{}") }
        },
    )
    .await;
    assert!(read(&repository(&fake), 0).await.unwrap() == content());
    assert_eq!(fake.asked_for("/blobs/").len(), 1);
    assert!(read(&repository(&fake), 77_777).await.unwrap() == content().slice(77_777..));
}

#[tokio::test]
async fn ranges_that_break_or_are_refused_are_gone_on_with() {
    let count = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |asked: &Asked| {
        if !is_blob(asked) {
            return answer(200, &[], "{}");
        }
        let Some((start, Some(end))) = asked_range(asked) else { return ranged(asked) };
        match count.fetch_add(1, Ordering::SeqCst) % 7 {
            // half of it, then the connection breaks
            2 if end - start > 1 => {
                let all = content();
                let range = format!("bytes {start}-{end}/{}", all.len());
                let half = (start + end) / 2;
                cut(206, &[("content-range", &range)], Some(end + 1 - start), all.slice(start..half))
            }
            5 => answer(503, &[], "busy"),
            _ => ranged(asked),
        }
    })
    .await;
    for _ in 0..4 {
        assert!(read(&repository(&fake), 0).await.unwrap() == content());
    }
}

#[tokio::test]
async fn a_range_of_other_content_is_found_out() {
    let fake = Fake::start(|asked: &Asked| {
        if !is_blob(asked) {
            return answer(200, &[], "{}");
        }
        let mut all = content().to_vec();
        all[CHUNK * 3 + 7] ^= 1;
        let all = Bytes::from(all);
        match asked_range(asked) {
            Some((start, end)) => {
                let end = end.unwrap_or(all.len() - 1);
                let range = format!("bytes {start}-{end}/{}", all.len());
                answer(206, &[("content-range", &range)], all.slice(start..=end))
            }
            None => answer(200, &[], all),
        }
    })
    .await;
    let error = read(&repository(&fake), 0).await.unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_that_is_too_busy_is_left_alone_for_as_long_as_it_says() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let fake = Fake::start(move |asked: &Asked| {
        if !is_blob(asked) {
            return answer(200, &[], "{}");
        }
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => answer(429, &[("retry-after", "1")], ""),
            1 => answer(502, &[], ""),
            _ => ranged(asked),
        }
    })
    .await;
    let begun = Instant::now();
    assert!(read(&repository(&fake), 0).await.unwrap() == content());
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_an_error_at_once() {
    let fake = Fake::start(|asked: &Asked| match is_blob(asked) {
        true => answer(429, &[("retry-after", "3600")], ""),
        false => answer(200, &[], "{}"),
    })
    .await;
    let error = read(&repository(&fake), 0).await.unwrap_err();
    assert_eq!((error.status(), error.kind()), (Some(429), wharf_kinds::Kind::ResourceExhausted));
    assert_eq!(fake.asked_for("/blobs/").len(), 1);
}

#[tokio::test]
async fn names_too_are_asked_again_after_a_passing_failure() {
    let count = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |asked: &Asked| match asked.target.contains("/manifests/") {
        true if count.fetch_add(1, Ordering::SeqCst) < 2 => answer(503, &[], ""),
        true => {
            let digest = Digest::sha256(b"x").to_string();
            let kind = ("content-type", "application/vnd.oci.image.manifest.v1+json");
            crate::fake::head(200, &[kind, ("docker-content-digest", &digest)], 10)
        }
        false => answer(200, &[], "{}"),
    })
    .await;
    let found = repository(&fake).resolve(&wharf_registry::Target::Tag("latest".into())).await.unwrap();
    assert_eq!(found.digest, Digest::sha256(b"x"));
}

fn foreign(url: &str) -> Descriptor {
    let mut layer = descriptor();
    layer.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    layer.urls = vec!["ftp://nowhere/".into(), url.to_owned()];
    layer
}

#[tokio::test]
async fn a_foreign_layer_comes_from_its_publisher_without_credentials() {
    let publisher = Fake::start(|asked: &Asked| ranged(asked)).await;
    let fake = Fake::start(|asked: &Asked| match asked.header("authorization") {
        Some(_) => answer(200, &[], content()),
        None => answer(401, &[("www-authenticate", "Basic realm=\"r\"")], ""),
    })
    .await;
    let url = format!("http://{}/layer?key=1", publisher.domain());
    let repository = client(3).repository(&fake.domain(), "some/thing", crate::password()).unwrap();
    let all = repository.blob_all(&foreign(&url), 10 << 20).await.unwrap();
    assert!(all == content());
    let seen = publisher.asked_for("/layer?key=1");
    assert!(!seen.is_empty() && seen.iter().all(|a| a.header("authorization").is_none()));
    assert!(fake.asked_for("/blobs/").is_empty());
    // where the publisher has it no more, the registry may
    let gone = Fake::start(|_: &Asked| answer(404, &[], "")).await;
    let url = format!("http://{}/layer", gone.domain());
    assert!(repository.blob_all(&foreign(&url), 10 << 20).await.unwrap() == content());
    assert_eq!(fake.asked_for("/blobs/").len(), 1);
}
