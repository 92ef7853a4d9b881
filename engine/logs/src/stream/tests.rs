use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use wharf_logs::{Format, LogFile, Options, Stamp, Start, Stream};

use super::{LogStream, open};
use crate::{Framing, LogQuery, LogSource};

fn options(format: Format, max_size: u64, max_files: u32) -> Options {
    Options { format, max_size, max_files, attrs: BTreeMap::new() }
}

fn source(path: &Path) -> LogSource {
    LogSource { path: path.to_owned(), format: Format::JsonFile }
}

fn raw() -> LogQuery {
    LogQuery { framing: Framing::Raw, ..LogQuery::default() }
}

async fn rest(mut stream: LogStream) -> String {
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    String::from_utf8(all).unwrap()
}

async fn read(path: &Path, query: LogQuery) -> String {
    rest(open(source(path), query, std::future::pending()).await.unwrap()).await
}

fn ten_lines(path: &Path) -> LogFile {
    let mut log = LogFile::open(path, &options(Format::JsonFile, 0, 1)).unwrap();
    for n in 0..10 {
        let stream = if n % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
        log.write(stream, format!("line {n}\n").as_bytes()).unwrap();
    }
    log
}

#[tokio::test]
async fn tail_counts_both_streams_before_one_is_chosen() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    ten_lines(&path);
    assert_eq!(read(&path, raw()).await.lines().count(), 10);
    assert_eq!(read(&path, LogQuery { start: Start::Tail(3), ..raw() }).await, "line 7\nline 8\nline 9\n");
    let only_out = LogQuery { start: Start::Tail(3), stderr: false, ..raw() };
    assert_eq!(read(&path, only_out).await, "line 8\n");
    assert_eq!(read(&path, LogQuery { start: Start::Tail(0), ..raw() }).await, "");
}

#[tokio::test]
async fn a_log_that_does_not_exist_is_empty() {
    let dir = TempDir::new().unwrap();
    assert_eq!(read(&dir.path().join("none/log"), raw()).await, "");
}

#[tokio::test]
async fn since_and_until_cut_the_log() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    let mut log = ten_lines(&path);
    let middle = Stamp::now();
    log.write(Stream::Stdout, b"later\n").unwrap();
    assert_eq!(read(&path, LogQuery { since: Some(middle), ..raw() }).await, "later\n");
    let before = LogQuery { until: Some(middle), ..raw() };
    assert_eq!(read(&path, before).await.lines().count(), 10);
    // a time that has passed ends following, too
    assert_eq!(read(&path, LogQuery { follow: true, ..before }).await.lines().count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn following_loses_nothing_across_rotations_and_ends_with_the_container() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log");
    let (end, ended) = oneshot::channel::<()>();
    let follow = LogQuery { follow: true, ..raw() };
    let stream = open(source(&path), follow, async move { drop(ended.await) }).await.unwrap();
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            // every few hundred lines the file is rotated; enough files are kept for the slowest reader
            let mut log = LogFile::open(&path, &options(Format::JsonFile, 64 << 10, 100)).unwrap();
            for n in 0..20_000 {
                log.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
            }
            drop(log);
            end.send(()).unwrap();
        }
    });
    let text = tokio::time::timeout(Duration::from_secs(60), rest(stream)).await.unwrap();
    writer.join().unwrap();
    let wanted: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    assert!(text == wanted, "lines were lost, doubled or mixed: {} of {} bytes", text.len(), wanted.len());
}

#[tokio::test]
async fn following_waits_for_a_log_that_is_not_there_yet() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("later/log");
    let (end, ended) = oneshot::channel::<()>();
    let follow = LogQuery { follow: true, ..raw() };
    let mut stream = open(source(&path), follow, async move { drop(ended.await) }).await.unwrap();
    {
        let first = stream.next();
        tokio::pin!(first);
        tokio::select! {
            biased;
            _ = &mut first => panic!("there is nothing to read"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        std::fs::create_dir(dir.path().join("later")).unwrap();
        let mut log = LogFile::open(&path, &options(Format::JsonFile, 0, 1)).unwrap();
        log.write(Stream::Stdout, b"here\n").unwrap();
        assert_eq!(first.await.unwrap().unwrap(), "here\n");
    }
    end.send(()).unwrap();
    assert_eq!(stream.next().await.unwrap(), None);
}
