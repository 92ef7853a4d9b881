//! A static program with the behaviours that tests need inside a container, and the benchmark outside of one.
//!
//! - `count [MILLIS]`: prints 0, 1, 2 … one line each, every MILLIS (1 unless told)
//! - `burst N`: prints N numbered lines as fast as it can, then ends
//! - `serve PORT`: answers every HTTP request on 127.0.0.1 with 200 and `ok`
//! - `exit-when PATH STATUS`: ends with STATUS once PATH exists
//! - `calls N`: nanoseconds that getppid(2) takes and that personality(2) takes, each on a line: the quickest mean of a
//!   hundredth of N
//! - `callers N TOTAL COMMAND…`: N callers run, for each number below TOTAL, all the commands one after another; a
//!   command is one argument of words with blanks between, `{}` in it is the number

use std::hint::black_box;
use std::io::{BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
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
        ["calls", times] => calls(number(times)),
        ["callers", callers, total, ref commands @ ..] => run_all(number(callers), number(total), commands),
        _ => {
            eprintln!(
                "usage: workload count [MILLIS] | burst N | serve PORT | exit-when PATH STATUS | calls N | callers N TOTAL COMMAND…"
            );
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

const BATCHES: u32 = 100;

/// Two calls that do next to nothing: one that every seccomp profile allows, and one that Docker's allows by its
/// argument, which the kernel has to run the filter for.
fn calls(times: u32) -> io::Result<()> {
    // the quickest of some batches: others on the machine only ever add
    let mean = |call: &dyn Fn()| {
        let batch = |_| {
            let since = Instant::now();
            (0..times / BATCHES).for_each(|_| call());
            since.elapsed().as_nanos() as f64 / f64::from(times / BATCHES)
        };
        (0..BATCHES).map(batch).fold(f64::INFINITY, f64::min)
    };
    println!("{:.1}", mean(&|| _ = black_box(rustix::process::getppid())));
    println!("{:.1}", mean(&|| _ = black_box(wharf_sys::sched::set_personality(u32::MAX))));
    Ok(())
}

/// Runs the commands of every number below `total`, by `callers` at once, each taking the next number.
fn run_all(callers: usize, total: usize, commands: &[&str]) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= total {
                return Ok(());
            }
            for command in commands {
                let line = command.replace("{}", &number.to_string());
                let mut words = line.split_ascii_whitespace();
                let program = words.next().unwrap_or_default();
                let mut command = Command::new(program);
                let status = command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
                if !status.success() {
                    return Err(io::Error::other(format!("{line}: {status}")));
                }
            }
        }
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(work)).collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().map_err(|_| io::Error::other("a caller panicked"))?)
    })
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
