//! A relay before the registry that keeps what is asked, and holds answers back after so many bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    to: u16,
    asked: Mutex<Vec<u8>>,
    /// Bytes of answers that may pass.
    left: AtomicI64,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Proxy {
    /// Lets `bytes` of answers pass, and the rest once [`Proxy::open`] is called.
    pub fn start(to: u16, bytes: i64) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let shared = Arc::new(Shared {
            to,
            asked: Mutex::default(),
            left: AtomicI64::new(bytes),
            open: Mutex::new(false),
            opened: Condvar::new(),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = serving.clone();
                thread::spawn(move || shared.relay(client));
            }
        });
        Proxy { port, shared }
    }

    pub fn open(&self) {
        *self.shared.open.lock().expect("lock") = true;
        self.shared.opened.notify_all();
    }

    /// Whether answers are being held back.
    pub fn holds(&self) -> bool {
        self.shared.left.load(Ordering::SeqCst) <= 0
    }

    /// Everything that was asked, in lower case.
    pub fn asked(&self) -> String {
        String::from_utf8_lossy(&self.shared.asked.lock().expect("lock")).to_ascii_lowercase()
    }
}

impl Shared {
    fn relay(self: Arc<Self>, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.to)) else { return };
        let (mut from, mut to) = (client.try_clone().expect("dup"), server.try_clone().expect("dup"));
        let shared = self.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 16 << 10];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                shared.asked.lock().expect("lock").extend_from_slice(&buffer[..count]);
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            let size = i64::try_from(count).expect("small");
            if self.left.fetch_sub(size, Ordering::SeqCst) < size {
                let open = self.open.lock().expect("lock");
                drop(self.opened.wait_while(open, |open| !*open).expect("lock"));
            }
            if client.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    }
}
