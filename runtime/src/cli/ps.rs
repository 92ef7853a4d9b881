//! `ps`, in the form of `ps -ef`, read from /proc without running a program; with options of its own through ps(1).

use super::args::{Format, PsArgs};
use super::{Failure, Outcome};
use crate::container::status::{Container, Status};
use crate::state::StateRoot;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn ps(root: &StateRoot, args: PsArgs) -> Outcome {
    let Some((id, options)) = args.id_and_options.split_first() else {
        return Err(Failure::new("runw: \"ps\" requires a minimum of 1 argument(s)"));
    };
    let container = Container::load(root, id)?;
    let mut pids = if container.status() == Status::Stopped { Vec::new() } else { container.processes()? };
    pids.sort_unstable();
    if args.format == Format::Json {
        if pids.is_empty() {
            println!("null");
        } else {
            println!("{}", serde_json::to_string(&pids)?);
        }
        return Ok(0);
    }
    if options.iter().any(|o| o != "-ef") {
        return through(options, &pids);
    }
    println!("UID          PID    PPID  C STIME TTY          TIME CMD");
    let clock = Clock::read();
    for pid in pids {
        if let Some(row) = row(pid, &clock) {
            println!("{row}");
        }
    }
    Ok(0)
}

/// The lines that ps(1) with these options has for the container's processes.
fn through(options: &[String], pids: &[i32]) -> Outcome {
    let output = std::process::Command::new("ps")
        .args(options)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|e| Failure::new(format!("running ps: {e}")))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(Failure::new(format!(
            "ps: {}: {}",
            output.status,
            String::from_utf8_lossy(&said).trim_end()
        )));
    }
    print!("{}", select(&String::from_utf8_lossy(&output.stdout), pids)?);
    Ok(0)
}

/// The title of a table of ps(1), and the lines whose column PID has one of `pids`.
fn select(table: &str, pids: &[i32]) -> Result<String, Failure> {
    let mut lines = table.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Failure::new("couldn't find PID field in ps output"))?;
    let mut out = format!("{title}\n");
    for line in lines.filter(|l| !l.trim().is_empty()) {
        let field = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 =
            field.parse().map_err(|_| Failure::new(format!("unable to parse pid: {field:?} in {line:?}")))?;
        if pids.contains(&pid) {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

/// Ticks a second in what the kernel shows to programs, whatever it uses itself.
const USER_HZ: u64 = 100;

/// When ticks began, and now: seconds after 1970.
struct Clock {
    booted: u64,
    now: u64,
}

impl Clock {
    fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let booted = stat.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self { booted, now }
    }
}

/// None if the process has ended meanwhile.
fn row(pid: i32, clock: &Clock) -> Option<String> {
    let dir = format!("/proc/{pid}");
    let stat = std::fs::read_to_string(format!("{dir}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let (parent, terminal, started) = (number(1), number(4), number(19) / USER_HZ);
    let used = (number(11) + number(12)) / USER_HZ;
    let begin = clock.booted + started;
    let age = clock.now.saturating_sub(begin).max(1);
    let user = user(std::fs::metadata(&dir).ok()?.uid());
    let command = std::fs::read(format!("{dir}/cmdline")).unwrap_or_default();
    let command: Vec<String> = command
        .split(|b| *b == 0)
        .filter(|p| !p.is_empty())
        .map(|p| String::from_utf8_lossy(p).into_owned())
        .collect();
    let command = if command.is_empty() { format!("[{name}]") } else { command.join(" ") };
    Some(format!(
        "{user:<8} {pid:>7} {parent:>7} {:>2} {} {:<8} {:02}:{:02}:{:02} {command}",
        (used * 100 / age).min(99),
        clock_time(begin),
        terminal_name(terminal),
        used / 3600,
        used / 60 % 60,
        used % 60,
    ))
}

fn clock_time(secs: u64) -> String {
    let time = crate::timestamp::seconds(UNIX_EPOCH + std::time::Duration::from_secs(secs));
    time.get(11..16).unwrap_or_default().to_owned()
}

/// Numbers of pseudo-terminals only; others are rare in a container.
fn terminal_name(number: u64) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

fn user(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { uid.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_taken_whole() {
        let table = "USER  PID COMMAND\nroot    1 init 7\nx       7   a  b\n\n";
        assert_eq!(select(table, &[7]).unwrap(), "USER  PID COMMAND\nx       7   a  b\n");
        assert!(select("USER COMMAND\n", &[7]).unwrap_err().message.contains("PID field"));
        assert!(select("PID\nx\n", &[7]).unwrap_err().message.contains("unable to parse pid"));
    }
}
