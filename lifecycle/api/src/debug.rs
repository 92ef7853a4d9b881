//! The debug address: what the process is doing, for a person at its socket.
//!
//! containerd serves Go's profiles there. What has a counterpart here has its path: the command line, the memory,
//! and for `goroutine` the threads and where in the kernel each is.

use std::fmt::Write as _;
use std::fs;

use crate::pages::{Page, Pages};

const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "/debug/vars           command line and memory, as JSON\n\
                     /debug/pprof/cmdline  the command line, its words ended by NUL\n\
                     /debug/pprof/goroutine  the threads\n";

pub(crate) struct Debug;

impl Pages for Debug {
    async fn page(&self, path: &str) -> Option<Page> {
        let (kind, text) = match path {
            "/debug/vars" => ("application/json; charset=utf-8", vars()),
            "/debug/pprof/cmdline" => (TEXT, command_line().join("\0")),
            "/debug/pprof/goroutine" | "/debug/threads" => (TEXT, threads()),
            "/" | "/debug/" | "/debug/pprof/" => (TEXT, INDEX.to_owned()),
            _ => return None,
        };
        Some(Page { kind, text })
    }
}

fn command_line() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

fn vars() -> String {
    let words: Vec<_> = command_line().iter().map(|word| quoted(word)).collect();
    let mut text = format!("{{\n\"cmdline\": [{}],\n\"memory\": {{", words.join(","));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let fields = status.lines().filter_map(|line| line.split_once(':'));
    let memory = fields.filter_map(|(name, value)| {
        let kibibytes: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(format!("{}: {}", quoted(name), kibibytes * 1024))
    });
    text.push_str(&memory.collect::<Vec<_>>().join(","));
    text.push_str("}\n}\n");
    text
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Name, state and place in the kernel of every thread.
pub fn threads() -> String {
    let mut text = String::new();
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return text };
    for task in tasks.flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or("?").trim();
        let id = task.file_name();
        let _ = writeln!(text, "thread {} {:?} [{state}]", id.to_string_lossy(), read("comm").trim_end());
        for line in read("stack").lines().take(32) {
            let _ = writeln!(text, "\t{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_say_what_the_process_is() {
        let page = async |path: &str| Debug.page(path).await.map(|page| page.text);
        let vars = page("/debug/vars").await.expect("page");
        assert!(vars.contains("\"cmdline\": [\"") && vars.contains("\"VmRSS\": "), "{vars}");
        let threads = page("/debug/pprof/goroutine").await.expect("page");
        assert!(threads.starts_with("thread ") && threads.contains(&format!("{}", std::process::id())));
        assert!(page("/debug/pprof/heap").await.is_none());
        assert_eq!(quoted("a\"\\\n"), "\"a\\\"\\\\\\u000a\"");
    }
}
