//! Talking to the service manager (sd_notify(3), sd_watchdog_enabled(3)).

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::MissedTickBehavior;

/// The service manager, if one started this process.
#[derive(Debug, Clone)]
pub struct Manager {
    address: OsString,
    /// Time after which the manager takes a silent process for stuck.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` with `WATCHDOG_PID`.
    pub fn of_environment() -> Option<Self> {
        let address = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        Some(Manager { address, watchdog })
    }

    /// The daemon serves.
    pub fn ready(&self) -> io::Result<()> {
        self.send(b"READY=1")
    }

    /// The configuration is being read again; [`Manager::ready`] says that this is over.
    pub fn reloading(&self) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(format!("RELOADING=1\nMONOTONIC_USEC={microseconds}").as_bytes())
    }

    /// Says twice in each interval that the daemon is alive, for ever; returns at once if nobody wants to know.
    ///
    /// To be spawned on the threads that serve: when those are stuck, so is this, and the manager restarts the daemon.
    pub async fn keep_alive(self) {
        let Some(interval) = self.watchdog else { return };
        let mut ticks = tokio::time::interval(interval / 2);
        // after a stall one sign of life is as good as all that were missed
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let sent = self.send(b"WATCHDOG=1");
            match &sent {
                Err(error) if !failing => tracing::warn!(%error, "failed to tell the watchdog"),
                _ => {}
            }
            failing = sent.is_err();
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        send(&self.address, message)
    }
}

/// The interval, if it is meant for the process `own`. What is no number counts as not set, as for systemd's library.
fn watchdog(microseconds: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    let microseconds: u64 = microseconds?.parse().ok()?;
    if let Some(pid) = pid
        && pid.parse() != Ok(own)
    {
        return None;
    }
    // a timer of less than a millisecond cannot be kept
    (microseconds >= 2_000).then(|| Duration::from_micros(microseconds))
}

fn send(address: &OsStr, message: &[u8]) -> io::Result<()> {
    // a leading @ stands for the NUL of an abstract socket
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    // a manager that does not read must not stop a thread that serves
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer).expect("receive");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn manager(watchdog: Option<Duration>) -> (tempfile::TempDir, UnixDatagram, Manager) {
        let at = tempfile::tempdir().expect("folder");
        let path = at.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
        (at, socket, Manager { address: path.into(), watchdog })
    }

    #[test]
    fn readiness_arrives_at_either_kind_of_socket() {
        let (_at, by_path, manager) = manager(None);
        manager.ready().expect("send");
        let name = format!("wharf-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("address");
        let by_name = UnixDatagram::bind_addr(&address).expect("bind");
        send(format!("@{name}").as_ref(), b"READY=1").expect("send");
        for socket in [by_path, by_name] {
            assert_eq!(receive(&socket), "READY=1");
        }
    }

    #[test]
    fn reload_is_announced_with_its_time() {
        let (_at, socket, manager) = manager(None);
        manager.reloading().expect("send");
        let message = receive(&socket);
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("fields");
        assert!(time.parse::<u64>().expect("number") > 0, "{message}");
    }

    #[test]
    fn watchdog_is_for_the_process_it_names() {
        let of = |usec: &str, pid: Option<&str>| watchdog(Some(usec.into()), pid.map(Into::into), 42);
        assert_eq!(of("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", Some("42")), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", Some("43")), None, "meant for another");
        assert_eq!(of("3000000", Some("x")), None);
        assert_eq!(of("soon", None), None);
        assert_eq!(of("0", None), None);
        assert_eq!(watchdog(None, Some("42".into()), 42), None);
    }

    #[test]
    fn stuck_runtime_gives_no_sign_of_life() {
        let interval = Duration::from_millis(100);
        let (_at, socket, manager) = manager(Some(interval));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("runtime");
        let begin = Instant::now();
        runtime.spawn(manager.keep_alive());
        for _ in 0..4 {
            assert_eq!(receive(&socket), "WATCHDOG=1");
        }
        assert!(begin.elapsed() >= interval, "twice in each interval: {:?}", begin.elapsed());
        let (held, hold) = std::sync::mpsc::channel::<()>();
        let (stuck, is_stuck) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            stuck.send(()).expect("awaited");
            let _ = hold.recv();
        });
        is_stuck.recv().expect("the only thread is held");
        // what was sent before
        socket.set_nonblocking(true).expect("nonblocking");
        while socket.recv(&mut [0; 16]).is_ok() {}
        socket.set_nonblocking(false).expect("blocking");
        socket.set_read_timeout(Some(interval * 4)).expect("timeout");
        assert!(socket.recv(&mut [0; 16]).is_err(), "silent while the runtime is stuck");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
        drop(held);
        assert_eq!(receive(&socket), "WATCHDOG=1", "and alive again");
    }
}
