use super::*;
use crate::{Reader, Record, Start};

fn options(format: Format, max_size: u64, max_files: u32) -> Options {
    Options { format, max_size, max_files, attrs: BTreeMap::new() }
}

fn all(reader: &mut Reader) -> Vec<Record> {
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn text(records: &[Record]) -> String {
    records.iter().map(|r| String::from_utf8_lossy(&r.line).into_owned()).collect()
}

const FORMATS: [Format; 3] = [Format::JsonFile, Format::Local, Format::Cri];

#[test]
fn numbered_lines_survive_rotation_once_and_in_order() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path, &options(format, 20_000, 1000)).unwrap();
        let mut bytes = Vec::new();
        for n in 0..20_000 {
            bytes.extend_from_slice(format!("{n}\n").as_bytes());
        }
        for chunk in bytes.chunks(4099) {
            log.write(Stream::Stdout, chunk).unwrap();
        }
        let files = rotate::files(&path);
        assert!(files.len() > 5, "{format:?}: {} files", files.len());
        for file in &files[1..] {
            let size = fs::metadata(file).unwrap().len();
            assert!((20_000..20_200).contains(&size), "{format:?}: {size}");
        }
        let records = all(&mut Reader::open(&path, format, Start::Oldest).unwrap());
        assert_eq!(text(&records).as_bytes(), bytes, "{format:?}");
        assert!(records.is_sorted_by_key(|r| r.time), "{format:?}");
    }
}

#[test]
fn no_more_files_are_kept_than_asked_for() {
    for keep in [1, 2, 3] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path, &options(Format::Cri, 500, keep)).unwrap();
        for n in 0..200 {
            log.write(Stream::Stderr, format!("{n}\n").as_bytes()).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), keep as usize);
        let records = all(&mut Reader::open(&path, Format::Cri, Start::Oldest).unwrap());
        assert_eq!(records.last().unwrap().line, b"199\n");
        let first: u32 = text(&records[..1]).trim().parse().unwrap();
        assert_eq!(records.len() as u32, 200 - first, "the newest {keep} files hold all since {first}");
    }
}

#[test]
fn a_follower_reads_every_line_across_rotations() {
    for (format, keep) in FORMATS.into_iter().flat_map(|f| [(f, 1), (f, 3)]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut reader = Reader::open(&path, format, Start::Oldest).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        let mut log = LogFile::open(&path, &options(format, 300, keep)).unwrap();
        let mut got = String::new();
        for n in 0..300 {
            log.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
            if n % 3 == 0 {
                got.push_str(&text(&all(&mut reader)));
            }
        }
        got.push_str(&text(&all(&mut reader)));
        let wanted: String = (0..300).map(|n| format!("{n}\n")).collect();
        assert_eq!(got, wanted, "{format:?} {keep}");
    }
}

#[test]
fn tail_counts_back_across_files() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path, &options(format, 400, 1000)).unwrap();
        for n in 0..100 {
            log.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
        }
        for n in [0u64, 1, 5, 37, 99, 100, 1000] {
            let records = all(&mut Reader::open(&path, format, Start::Tail(n)).unwrap());
            let wanted: String = (100 - n.min(100)..100).map(|n| format!("{n}\n")).collect();
            assert_eq!(text(&records), wanted, "{format:?} tail {n}");
        }
    }
}

#[test]
fn a_torn_record_is_cut_off_before_writing_goes_on() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path, &options(format, 0, 1)).unwrap();
        log.write(Stream::Stdout, b"one\ntwo\nthree\n").unwrap();
        let size = fs::metadata(&path).unwrap().len();
        drop(log);
        File::options().write(true).open(&path).unwrap().set_len(size - 5).unwrap();
        let tail = all(&mut Reader::open(&path, format, Start::Tail(1)).unwrap());
        assert_eq!(text(&tail), "two\n", "{format:?}: a reader passes the torn record over");
        let mut log = LogFile::open(&path, &options(format, 0, 1)).unwrap();
        log.write(Stream::Stdout, b"four\n").unwrap();
        let mut reader = Reader::open(&path, format, Start::Oldest).unwrap();
        assert_eq!(text(&all(&mut reader)), "one\ntwo\nfour\n", "{format:?}");
        assert_eq!(reader.damaged(), 0);
    }
}

#[test]
fn unfinished_lines_of_two_streams_stay_apart() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path, &options(format, 0, 1)).unwrap();
        log.write(Stream::Stdout, b"out ").unwrap();
        log.write(Stream::Stderr, b"err\n").unwrap();
        log.write(Stream::Stdout, b"put\nrest").unwrap();
        log.finish(Stream::Stdout).unwrap();
        log.finish(Stream::Stderr).unwrap();
        let records = all(&mut Reader::open(&path, format, Start::Oldest).unwrap());
        let got: Vec<_> =
            records.iter().map(|r| (r.stream, text(std::slice::from_ref(r)), r.is_partial())).collect();
        assert_eq!(
            got,
            [
                (Stream::Stderr, "err\n".to_owned(), false),
                (Stream::Stdout, "out put\n".to_owned(), false),
                (Stream::Stdout, "rest".to_owned(), true),
            ],
            "{format:?}"
        );
    }
}

#[test]
fn attributes_are_on_each_record() {
    for format in [Format::JsonFile, Format::Local] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/log");
        let attrs = BTreeMap::from([("env".to_owned(), "a\"b".to_owned())]);
        let mut log =
            LogFile::open(&path, &Options { attrs: attrs.clone(), ..options(format, 0, 1) }).unwrap();
        log.write(Stream::Stdout, b"x\ny\n").unwrap();
        let records = all(&mut Reader::open(&path, format, Start::Oldest).unwrap());
        assert!(records.len() == 2 && records.iter().all(|r| r.attrs == attrs), "{records:?}");
    }
}

#[test]
fn a_log_may_not_be_a_symbolic_link() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("log")).unwrap();
    let error = LogFile::open(&dir.path().join("log"), &options(Format::Cri, 0, 1)).unwrap_err();
    assert!(error.to_string().contains("open"), "{error}");
}

#[test]
fn a_full_disk_loses_no_record_that_fits_the_buffer() {
    // /dev/full refuses every write as a full disk does
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(&path, &options(Format::Cri, 0, 1)).unwrap();
    let good = std::mem::replace(&mut log.sink.file, File::options().write(true).open("/dev/full").unwrap());
    for n in 0..10 {
        let error = log.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
    }
    log.sink.file = good;
    log.write(Stream::Stdout, b"10\n").unwrap();
    let records = all(&mut Reader::open(&path, Format::Cri, Start::Oldest).unwrap());
    assert_eq!(text(&records), (0..=10).map(|n| format!("{n}\n")).collect::<String>());
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_disk_full_for_long_drops_what_is_beyond_the_bound_and_counts_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogFile::open(&path, &options(Format::Cri, 0, 1)).unwrap();
    log.sink.file = File::options().write(true).open("/dev/full").unwrap();
    let line = vec![b'x'; 10_000];
    for _ in 0..1000 {
        let _ = log.write(Stream::Stdout, &[&line[..], b"\n"].concat());
    }
    assert!(log.dropped() > 500, "{}", log.dropped());
    assert!(log.sink.out.len() < HELD + 20_000);
}
