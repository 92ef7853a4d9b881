use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_bytes_at_all_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let mut archive = TarReader::new(bytes.as_slice());
        while let Ok(Some(_)) = archive.next_entry() {}
    }

    #[test]
    fn a_header_with_one_byte_changed_never_panics(at in 0usize..1024, byte in any::<u8>(), fix in any::<bool>()) {
        let mut header = ::tar::Header::new_gnu();
        header.set_path("a/b").unwrap();
        header.set_size(5);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(b"hello");
        bytes.resize(2048, 0);
        bytes[at] = byte;
        if fix {
            let mut changed = ::tar::Header::from_byte_slice(&bytes[..512]).clone();
            changed.set_cksum();
            bytes[..512].copy_from_slice(changed.as_bytes());
        }
        let mut archive = TarReader::new(bytes.as_slice());
        while let Ok(Some(_)) = archive.next_entry() {}
    }
}

#[test]
fn entries_come_in_order_with_their_data() {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, data) in [("one", &b"1"[..]), ("two", &[2; 1000]), ("three", b"")] {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, data).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    let mut archive = TarReader::new(bytes.as_slice());
    let first = archive.next_entry().unwrap().unwrap();
    assert_eq!((first.path.as_slice(), first.size, first.kind), (&b"one"[..], 1, EntryKind::File));
    // its data is passed over
    let second = archive.next_entry().unwrap().unwrap();
    let mut data = vec![0; second.size as usize];
    archive.read_exact(&mut data).unwrap();
    assert_eq!(data, [2; 1000]);
    assert_eq!(archive.next_entry().unwrap().unwrap().path, b"three");
    assert_eq!(archive.next_entry().unwrap(), None);
}
