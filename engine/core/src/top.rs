//! `docker top`: the processes of a container as `ps` shows them, read from /proc.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use wharf_docker::container::TopResponse;

use crate::engine::Engine;
use crate::error::EngineError;

/// Clock ticks a second in /proc; the kernel's USER_HZ, 100 on every Linux that Docker runs on.
const TICKS: u64 = 100;

impl Engine {
    /// Lists the container's processes. `ps_args` knows `-ef` (the default), `aux`, and `-o` with common columns.
    pub async fn top(&self, wanted: &str, ps_args: &str) -> Result<TopResponse, EngineError> {
        let handle = self.find(wanted)?;
        let view = handle.view();
        match view.record.phase.word() {
            "running" | "paused" => {}
            "restarting" => return Err(EngineError::Restarting(handle.id.clone())),
            _ => return Err(EngineError::NotRunning(handle.id.clone())),
        }
        let columns = columns(ps_args)?;
        let pids = self.shared.lifecycle.pids(&handle.id).await?;
        tokio::task::spawn_blocking(move || table(&pids, &columns))
            .await
            .map_err(|error| EngineError::Internal(error.to_string()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    User,
    Uid,
    Pid,
    Ppid,
    C,
    Cpu,
    Mem,
    Vsz,
    Rss,
    Stat,
    StartTime,
    Tty,
    TtyLong,
    Time,
    Cmd,
    Args,
    Comm,
    Nlwp,
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::User => "USER",
            Column::Uid => "UID",
            Column::Pid => "PID",
            Column::Ppid => "PPID",
            Column::C => "C",
            Column::Cpu => "%CPU",
            Column::Mem => "%MEM",
            Column::Vsz => "VSZ",
            Column::Rss => "RSS",
            Column::Stat => "STAT",
            Column::StartTime => "STIME",
            Column::Tty => "TTY",
            Column::TtyLong => "TT",
            Column::Time => "TIME",
            Column::Cmd => "CMD",
            Column::Args | Column::Comm => "COMMAND",
            Column::Nlwp => "NLWP",
        }
    }

    fn named(name: &str) -> Option<Column> {
        Some(match name {
            "user" | "euser" | "ruser" | "uname" => Column::User,
            "uid" | "euid" | "ruid" => Column::Uid,
            "pid" | "tgid" => Column::Pid,
            "ppid" => Column::Ppid,
            "c" => Column::C,
            "pcpu" | "%cpu" => Column::Cpu,
            "pmem" | "%mem" => Column::Mem,
            "vsz" | "vsize" => Column::Vsz,
            "rss" | "rssize" => Column::Rss,
            "stat" | "state" | "s" => Column::Stat,
            "stime" | "start" | "start_time" | "lstart" => Column::StartTime,
            "tty" | "tt" | "tname" => Column::TtyLong,
            "time" | "cputime" => Column::Time,
            "cmd" => Column::Cmd,
            "args" | "command" => Column::Args,
            "comm" | "ucmd" | "ucomm" => Column::Comm,
            "nlwp" | "thcount" => Column::Nlwp,
            _ => return None,
        })
    }
}

/// What of `ps` is understood; the rest is an error, as an unknown option is to `ps`.
fn columns(ps_args: &str) -> Result<Vec<Column>, EngineError> {
    use Column as C;
    let full = vec![C::Uid, C::Pid, C::Ppid, C::C, C::StartTime, C::Tty, C::Time, C::Cmd];
    let mut words = ps_args.split_whitespace();
    let mut chosen: Option<Vec<Column>> = None;
    while let Some(word) = words.next() {
        if let Some(rest) = word.strip_prefix("-o").or_else(|| (word == "o").then_some("")) {
            let list = if rest.is_empty() { words.next().unwrap_or_default() } else { rest };
            let own = chosen.get_or_insert_with(Vec::new);
            for name in list.split(',') {
                let name = name.split('=').next().unwrap_or_default().to_lowercase();
                let column = Column::named(&name)
                    .ok_or_else(|| EngineError::Invalid(format!("ps: unknown column {name:?}")))?;
                own.push(column);
            }
            continue;
        }
        match word.trim_start_matches('-') {
            "ef" | "fe" | "e" | "f" | "A" | "a" => {}
            "aux" | "axu" | "u" | "auxw" | "auxww" if chosen.is_none() => {
                chosen = Some(vec![
                    C::User,
                    C::Pid,
                    C::Cpu,
                    C::Mem,
                    C::Vsz,
                    C::Rss,
                    C::TtyLong,
                    C::Stat,
                    C::StartTime,
                    C::Time,
                    C::Args,
                ]);
            }
            "ax" | "x" if chosen.is_none() => {
                chosen = Some(vec![C::Pid, C::TtyLong, C::Stat, C::Time, C::Args]);
            }
            _ => return Err(EngineError::Invalid(format!("ps: unsupported option {word:?}"))),
        }
    }
    let columns = chosen.unwrap_or(full);
    if !columns.contains(&C::Pid) {
        return Err(EngineError::Internal("Couldn't find PID field in ps output".to_owned()));
    }
    Ok(columns)
}

fn table(pids: &[u32], columns: &[Column]) -> TopResponse {
    let users = host_users();
    let boot = boot_time();
    let total = total_memory();
    let wanted: HashSet<u32> = pids.iter().copied().collect();
    let mut sorted: Vec<u32> = wanted.into_iter().collect();
    sorted.sort_unstable();
    let processes = sorted
        .into_iter()
        .filter_map(|pid| Process::read(pid, boot))
        .map(|process| columns.iter().map(|column| process.show(*column, &users, total)).collect())
        .collect();
    TopResponse { processes, titles: columns.iter().map(|column| column.title().to_owned()).collect() }
}

/// What /proc tells of a process.
struct Process {
    pid: u32,
    ppid: u32,
    uid: u32,
    state: char,
    tty: u32,
    ticks: u64,
    /// Seconds since the epoch.
    started: u64,
    threads: u64,
    vsize: u64,
    rss_pages: u64,
    comm: String,
    args: String,
}

/// As `ps` shows of a command line at most, bytes.
const COMMAND_LINE: u64 = 4096;

impl Process {
    fn read(pid: u32, boot: u64) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).ok()?);
        // the container chooses its length
        let mut cmdline = Vec::new();
        let _ = std::fs::File::open(format!("/proc/{pid}/cmdline"))
            .and_then(|file| file.take(COMMAND_LINE).read_to_end(&mut cmdline));
        // the name stands in brackets and may contain any of the separators
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let comm = stat.get(open + 1..close)?.to_owned();
        let fields: Vec<&str> = stat.get(close + 2..)?.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.trim().parse::<u64>().ok()).unwrap_or(0);
        let args = String::from_utf8_lossy(&cmdline).trim_end_matches('\0').replace('\0', " ");
        Some(Process {
            pid,
            ppid: u32::try_from(number(1)).unwrap_or(0),
            uid,
            state: fields.first()?.chars().next()?,
            tty: u32::try_from(number(4)).unwrap_or(0),
            ticks: number(11) + number(12),
            started: boot + number(19) / TICKS,
            threads: number(17),
            vsize: number(20),
            rss_pages: number(21),
            args: if args.is_empty() { format!("[{comm}]") } else { args },
            comm,
        })
    }

    fn show(&self, column: Column, users: &HashMap<u32, String>, total_memory: u64) -> String {
        let name = || users.get(&self.uid).cloned().unwrap_or_else(|| self.uid.to_string());
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let alive = now.saturating_sub(self.started).max(1);
        let rss = self.rss_pages * 4;
        match column {
            Column::User | Column::Uid => name(),
            Column::Pid => self.pid.to_string(),
            Column::Ppid => self.ppid.to_string(),
            Column::C => (self.ticks * 100 / TICKS / alive).min(99).to_string(),
            Column::Cpu => format!("{:.1}", (self.ticks * 100 / TICKS) as f64 / alive as f64),
            Column::Mem => format!("{:.1}", rss as f64 * 100.0 / total_memory.max(1) as f64),
            Column::Vsz => (self.vsize / 1024).to_string(),
            Column::Rss => rss.to_string(),
            Column::Stat => self.state.to_string(),
            Column::StartTime => start_time(self.started, now),
            Column::Tty | Column::TtyLong => tty_name(self.tty),
            Column::Time => {
                let seconds = self.ticks / TICKS;
                format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
            }
            Column::Cmd | Column::Args => self.args.clone(),
            Column::Comm => self.comm.clone(),
            Column::Nlwp => self.threads.to_string(),
        }
    }
}

/// `14:03` for today, `Nov20` before, as `ps -f`.
fn start_time(started: u64, now: u64) -> String {
    let at =
        i64::try_from(started).ok().and_then(|s| jiff::Timestamp::from_second(s).ok()).unwrap_or_default();
    let format = if now.saturating_sub(started) < 86_400 { "%H:%M" } else { "%b%d" };
    at.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string()
}

/// Terminals by number: Linux gives pseudo-terminals majors 136 to 143.
fn tty_name(device: u32) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

fn host_users() -> HashMap<u32, String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
            Some((uid.parse().ok()?, name.to_owned()))
        })
        .collect()
}

fn boot_time() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0)
}

/// In KiB.
fn total_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_columns_are_those_of_ps_ef() {
        let titles: Vec<_> = columns("").unwrap().iter().map(|c| c.title()).collect();
        assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(columns("-ef").unwrap(), columns("").unwrap());
        assert_eq!(columns("-o pid,comm").unwrap(), [Column::Pid, Column::Comm]);
        assert!(columns("-o comm").is_err());
        assert!(columns("--help").is_err());
    }

    #[test]
    fn this_process_is_read() {
        let me = std::process::id();
        let table = table(&[me], &columns("").unwrap());
        assert_eq!(table.processes.len(), 1);
        assert_eq!(table.processes[0][1], me.to_string());
    }

    #[test]
    fn terminals_have_names() {
        assert_eq!(tty_name(0), "?");
        assert_eq!(tty_name((136 << 8) | 5), "pts/5");
    }
}
