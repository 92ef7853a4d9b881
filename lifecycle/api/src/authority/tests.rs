use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Gives what it has in pieces of one size.
struct Pieces {
    bytes: Vec<u8>,
    at: usize,
    size: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let n = this.size.min(buffer.remaining()).min(this.bytes.len() - this.at);
        buffer.put_slice(&this.bytes[this.at..this.at + n]);
        this.at += n;
        Poll::Ready(Ok(()))
    }
}

async fn through(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut read = Vec::new();
    let mut stream = Tolerant::new(Pieces { bytes: bytes.to_vec(), at: 0, size });
    stream.read_to_end(&mut read).await.expect("no failure");
    read
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

fn text(value: &str) -> Vec<u8> {
    [&[u8::try_from(value.len()).expect("short")], value.as_bytes()].concat()
}

/// `:method: POST`, the authority as the C core writes it (a name of its own) or by the table's name, another field.
fn block(authority: &str, by_index: bool) -> Vec<u8> {
    let name = if by_index { vec![0x41] } else { [vec![0x40], text(":authority")].concat() };
    let other = [vec![0x40], text("x-path"), text("%2Fkept")].concat();
    [vec![0x83], name, text(authority), other].concat()
}

/// A connection's beginning: settings, headers, data that looks like headers, headers once more.
fn connection(authority: &str) -> Vec<u8> {
    let data = frame(HEADERS, 4, &block(authority, true));
    [
        PREFACE.to_vec(),
        frame(4, 0, &[]),
        frame(HEADERS, 4, &block(authority, false)),
        frame(0, 0, &data),
        frame(HEADERS, 4 | PADDED | PRIORITY, &{
            let mut payload = vec![3, 0, 0, 0, 0, 16];
            payload.extend(block(authority, true));
            payload.extend([0, 0, 0]);
            payload
        }),
        frame(6, 0, &[7; 8]),
    ]
    .concat()
}

#[tokio::test]
async fn a_path_becomes_an_authority_however_the_bytes_come() {
    let sent = connection("%2Frun%2Fd.sock");
    let data = frame(HEADERS, 4, &block("%2Frun%2Fd.sock", true));
    let mut wanted = connection("-2Frun-2Fd.sock");
    let changed = frame(HEADERS, 4, &block("-2Frun-2Fd.sock", true));
    // what is data is not touched
    let at = wanted.windows(changed.len()).position(|window| window == changed).expect("there");
    wanted[at..at + data.len()].copy_from_slice(&data);
    for size in [1, 2, 3, 7, 9, 10, 33, 64, 4096, sent.len()] {
        assert!(through(&sent, size).await == wanted, "in pieces of {size}");
    }
}

#[tokio::test]
async fn what_the_library_would_refuse_becomes_what_it_takes() {
    for (sent, wanted) in [
        ("%2Fa:b:c", "-2Fa-b-c"),
        ("%2Fa%5B", "-2Fa-5B"),
        ("%2Fa[", "-2Fa-"),
        ("%2Fa@", "-2Fa-"),
        ("%2Fd.sock", "-2Fd.sock"),
        ("a:b:c", "a-b-c"),
        ("localhost", "localhost"),
        ("[::1]:80", "[::1]:80"),
        ("u@host:80", "u@host:80"),
    ] {
        assert!(http::uri::Authority::try_from(wanted).is_ok(), "{wanted}");
        let (sent, wanted) = (block(sent, true), block(wanted, true));
        let connection = |block: &[u8]| [PREFACE.to_vec(), frame(HEADERS, 4, block)].concat();
        assert!(through(&connection(&sent), 7).await == connection(&wanted), "{wanted:?}");
    }
}

#[tokio::test]
async fn nothing_is_held_once_it_was_read() {
    let sent = connection("localhost");
    let mut stream = Tolerant::new(Pieces { bytes: sent.clone(), at: 0, size: 7 });
    let mut read = vec![0; sent.len()];
    stream.read_exact(&mut read).await.expect("all of it");
    assert_eq!((stream.whole.capacity(), stream.held.capacity()), (0, 0));
}

#[tokio::test]
async fn everything_else_is_passed_on_as_it_is() {
    let huffman = [vec![0x83, 0x41, 0x83], vec![0x54, 0x54, 0x54]].concat();
    let cut = [vec![0x83, 0x41, 20], b"%2F".to_vec()].concat();
    let endless = vec![0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let long = frame(HEADERS, 4, &vec![b'%'; MAX_FRAME + 1]);
    let whole = [PREFACE.to_vec(), frame(HEADERS, 4, &huffman)].concat();
    for sent in [
        connection("localhost"),
        connection("[::1]:80"),
        b"GET / HTTP/1.1\r\nHost: %2F\r\n\r\n".to_vec(),
        PREFACE[..10].to_vec(),
        whole.clone(),
        whole[..whole.len() - 2].to_vec(),
        [PREFACE.to_vec(), frame(HEADERS, 4, &cut)].concat(),
        [PREFACE.to_vec(), frame(HEADERS, 4, &endless)].concat(),
        [PREFACE.to_vec(), frame(HEADERS, PADDED, &[200, 1])].concat(),
        [PREFACE.to_vec(), frame(HEADERS, PADDED | PRIORITY, &[])].concat(),
        [PREFACE.to_vec(), long].concat(),
        Vec::new(),
    ] {
        for size in [1, 5, sent.len().max(1)] {
            assert!(through(&sent, size).await == sent, "{sent:?} in pieces of {size}");
        }
    }
}

#[tokio::test]
async fn what_is_written_is_not_touched() {
    let (near, mut far) = tokio::io::duplex(64);
    let mut stream = Tolerant::new(near);
    stream.write_all(b"%2F").await.expect("room");
    let mut read = [0; 3];
    far.read_exact(&mut read).await.expect("written");
    assert_eq!(&read, b"%2F");
}
