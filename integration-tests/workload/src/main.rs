//! A static program with the behaviours that tests need inside a container.
//!
//! - `count [MILLIS]`: prints 0, 1, 2 … one line each, every MILLIS (1 unless told)
//! - `burst N`: prints N numbered lines as fast as it can, then ends
//! - `serve PORT`: answers every HTTP request on 127.0.0.1 with 200 and `ok`
//! - `exit-when PATH STATUS`: ends with STATUS once PATH exists

use std::io::{BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::exit;
use std::time::Duration;
use std::{env, fs, io, thread};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["count"] => count(1),
        ["count", millis] => count(number(millis)),
        ["burst", lines] => burst(number(lines)),
        ["serve", port] => serve(number(port)),
        ["exit-when", path, status] => exit_when(path, number(status)),
        _ => {
            eprintln!("usage: workload count [MILLIS] | burst N | serve PORT | exit-when PATH STATUS");
            exit(2)
        }
    };
    if let Err(error) = done {
        eprintln!("workload: {error}");
        exit(1);
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| {
        eprintln!("workload: {text} is not a number");
        exit(2)
    })
}

fn count(millis: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut line: u64 = 0;
    loop {
        out.write_all(format!("{line}\n").as_bytes())?;
        out.flush()?;
        line += 1;
        thread::sleep(Duration::from_millis(millis));
    }
}

fn burst(lines: u64) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in 0..lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("serving");
    for client in listener.incoming() {
        let client = client?;
        thread::spawn(move || answer(client));
    }
    Ok(())
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0u8; 512];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < 16 * 1024 {
        let n = client.read(&mut byte)?;
        if n == 0 {
            return Ok(());
        }
        head.extend_from_slice(&byte[..n]);
    }
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}

fn exit_when(path: &str, status: i32) -> io::Result<()> {
    while !fs::exists(path)? {
        thread::sleep(Duration::from_millis(5));
    }
    exit(status)
}
