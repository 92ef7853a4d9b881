//! A connection to systemd: its private socket or a message bus, asked one thing at a time.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wire::{Kind, Message, Value};
use super::{SystemdError, Whose};

/// How long systemd may take for one answer or one job.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// A line of the authentication is at most this long.
const MAX_LINE: usize = 4096;
/// Messages for somebody else that are read while waiting; a busy host sends some hundred a second.
const MAX_UNASKED: usize = 100_000;

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const SYSTEMD: &str = "org.freedesktop.systemd1";

/// An authenticated connection.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    address: PathBuf,
    serial: u32,
    /// Whether there is a bus between: messages then need a destination.
    routed: bool,
    /// Finished jobs that were announced before they were waited for.
    finished: Vec<(String, String)>,
}

impl Bus {
    /// Connects to the manager: on its own socket, which needs no bus, else on the bus.
    pub fn connect(whose: Whose) -> Result<Bus, SystemdError> {
        let mut first = None;
        for (path, routed) in addresses(whose) {
            match UnixStream::connect(&path) {
                Ok(stream) => return Bus::on(stream, &path, routed),
                Err(source) => {
                    first.get_or_insert(SystemdError::Connect { path, source });
                }
            }
        }
        Err(first.unwrap_or(SystemdError::NoAddress))
    }

    /// Authenticates on a stream that is connected. `routed`: it leads to a bus rather than to systemd itself.
    pub fn on(stream: UnixStream, address: &Path, routed: bool) -> Result<Bus, SystemdError> {
        let mut bus = Bus { stream, address: address.to_owned(), serial: 0, routed, finished: Vec::new() };
        let uid: String =
            rustix::process::geteuid().as_raw().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        let deadline = Instant::now() + PATIENCE;
        // BEGIN is not held back until OK: systemd reads 256 bytes during the authentication, and a whole call that
        // is read along with BEGIN stays in its buffer, unnoticed until more arrives
        bus.send(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes(), deadline)?;
        let answer = bus.line(deadline)?;
        if !answer.starts_with("OK ") {
            return Err(SystemdError::Refused { path: bus.address, answer });
        }
        if routed {
            bus.call_on(
                ("org.freedesktop.DBus", "/org/freedesktop/DBus"),
                "org.freedesktop.DBus",
                "Hello",
                vec![],
            )?;
            let rule = format!("type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'");
            let bus_itself = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
            bus.call_on(bus_itself, "org.freedesktop.DBus", "AddMatch", vec![Value::Str(rule)])?;
            bus.call("Subscribe", vec![]).or_else(|e| {
                if e.is("org.freedesktop.systemd1.AlreadySubscribed") { Ok(vec![]) } else { Err(e) }
            })?;
        }
        Ok(bus)
    }

    /// Calls a method of the manager.
    pub fn call(&mut self, method: &str, body: Vec<Value>) -> Result<Vec<Value>, SystemdError> {
        self.call_on((SYSTEMD, MANAGER_PATH), MANAGER, method, body)
    }

    /// Calls a method that begins a job, and waits for the job's end.
    pub fn job(&mut self, method: &'static str, unit: &str, body: Vec<Value>) -> Result<(), SystemdError> {
        let answer = self.call(method, body)?;
        let job = match answer.first() {
            Some(Value::Path(path)) => path.clone(),
            _ => return Err(self.malformed("an answer without a job")),
        };
        let result = self.wait(&job, unit)?;
        if result == "done" {
            return Ok(());
        }
        Err(SystemdError::Job { method, unit: unit.to_owned(), result })
    }

    /// A property of the manager.
    pub fn property(&mut self, name: &str) -> Result<Value, SystemdError> {
        let body = vec![Value::Str(MANAGER.into()), Value::Str(name.into())];
        let to = (SYSTEMD, MANAGER_PATH);
        let mut answer = self.call_on(to, "org.freedesktop.DBus.Properties", "Get", body)?;
        match answer.pop() {
            Some(Value::Variant(inner)) => Ok(*inner),
            _ => Err(self.malformed("a property without a value")),
        }
    }

    fn call_on(
        &mut self,
        (destination, path): (&str, &str),
        interface: &str,
        member: &str,
        body: Vec<Value>,
    ) -> Result<Vec<Value>, SystemdError> {
        self.serial += 1;
        let mut message = Message::new(Kind::Call, self.serial);
        message.path = path.to_owned();
        message.interface = interface.to_owned();
        message.member = member.to_owned();
        message.body = body;
        if self.routed {
            message.destination = destination.to_owned();
        }
        let deadline = Instant::now() + PATIENCE;
        self.send(&message.encode(), deadline)?;
        for _ in 0..MAX_UNASKED {
            let answer = self.receive(deadline)?;
            if answer.reply_to == self.serial {
                match answer.kind {
                    Kind::Return => return Ok(answer.body),
                    Kind::Error => {
                        let text = answer.body.first().and_then(Value::text).unwrap_or_default().to_owned();
                        return Err(SystemdError::Call {
                            method: member.to_owned(),
                            name: answer.error,
                            text,
                        });
                    }
                    _ => {}
                }
            }
            if let Some(done) = removed(&answer) {
                self.finished.push((done.0, done.1));
            }
        }
        Err(self.malformed("no end of messages that were not asked for"))
    }

    /// The result of a job, from signal JobRemoved(u id, o job, s unit, s result).
    fn wait(&mut self, job: &str, unit: &str) -> Result<String, SystemdError> {
        if let Some(at) = self.finished.iter().position(|(path, _)| path == job) {
            return Ok(self.finished.swap_remove(at).1);
        }
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..MAX_UNASKED {
            let message = self.receive(deadline).map_err(|e| match e {
                SystemdError::Late { .. } => SystemdError::Late { what: format!("the job of unit {unit}") },
                other => other,
            })?;
            if let Some((path, result)) = removed(&message)
                && path == job
            {
                return Ok(result);
            }
        }
        Err(self.malformed("no end of messages that were not asked for"))
    }

    fn malformed(&self, what: &'static str) -> SystemdError {
        SystemdError::Malformed { path: self.address.clone(), what }
    }

    fn io(&self, act: &'static str) -> impl FnOnce(std::io::Error) -> SystemdError {
        let path = self.address.clone();
        move |source| match source.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                SystemdError::Late { what: format!("an answer on {}", path.display()) }
            }
            _ => SystemdError::Io { act, path, source },
        }
    }

    fn limit(&self, deadline: Instant) -> Result<Duration, SystemdError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SystemdError::Late { what: format!("an answer on {}", self.address.display()) });
        }
        Ok(left)
    }

    fn send(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), SystemdError> {
        let left = self.limit(deadline)?;
        self.stream.set_write_timeout(Some(left)).map_err(self.io("set up"))?;
        self.stream.write_all(bytes).map_err(self.io("write to"))
    }

    fn fill(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<(), SystemdError> {
        let mut have = 0;
        while have < buffer.len() {
            let left = self.limit(deadline)?;
            self.stream.set_read_timeout(Some(left)).map_err(self.io("set up"))?;
            match self.stream.read(&mut buffer[have..]) {
                Ok(0) => return Err(self.malformed("the connection was closed")),
                Ok(n) => have += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.io("read from")(e)),
            }
        }
        Ok(())
    }

    fn line(&mut self, deadline: Instant) -> Result<String, SystemdError> {
        let mut out = Vec::new();
        while !out.ends_with(b"\r\n") {
            if out.len() >= MAX_LINE {
                return Err(self.malformed("a line without end in the authentication"));
            }
            let mut byte = [0];
            self.fill(&mut byte, deadline)?;
            out.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&out[..out.len() - 2]).into_owned())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, SystemdError> {
        let mut head = [0u8; 16];
        self.fill(&mut head, deadline)?;
        let length = Message::length(&head).ok_or_else(|| self.malformed("bytes that begin no message"))?;
        let mut bytes = head.to_vec();
        bytes.resize(length, 0);
        self.fill(&mut bytes[16..], deadline)?;
        Message::decode(&bytes).ok_or_else(|| self.malformed("a message that does not hold what it declares"))
    }
}

/// The job and its result, if the message tells of a finished job.
fn removed(message: &Message) -> Option<(String, String)> {
    if message.kind != Kind::Signal || message.interface != MANAGER || message.member != "JobRemoved" {
        return None;
    }
    match &message.body[..] {
        [_, Value::Path(job), _, Value::Str(result)] => Some((job.clone(), result.clone())),
        _ => None,
    }
}

/// Where the manager may be, in the order to try, with whether a bus is there.
fn addresses(whose: Whose) -> Vec<(PathBuf, bool)> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    match whose {
        Whose::System => {
            let mut out = vec![(PathBuf::from("/run/systemd/private"), false)];
            out.extend(variable("DBUS_SYSTEM_BUS_ADDRESS").as_deref().and_then(unix_path).map(|p| (p, true)));
            out.push(("/run/dbus/system_bus_socket".into(), true));
            out
        }
        Whose::User => {
            let run = variable("XDG_RUNTIME_DIR").map_or_else(
                || PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw())),
                PathBuf::from,
            );
            let mut out = vec![(run.join("systemd/private"), false)];
            out.extend(
                variable("DBUS_SESSION_BUS_ADDRESS").as_deref().and_then(unix_path).map(|p| (p, true)),
            );
            out.push((run.join("bus"), true));
            out
        }
    }
}

/// `unix:path=/run/…,guid=…;…`: the first path in a list of addresses.
fn unix_path(address: &str) -> Option<PathBuf> {
    address.split(';').find_map(|one| {
        one.strip_prefix("unix:")?.split(',').find_map(|pair| pair.strip_prefix("path=")).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_addresses_are_paths() {
        assert_eq!(unix_path("unix:path=/run/user/0/bus,guid=ab"), Some("/run/user/0/bus".into()));
        assert_eq!(unix_path("tcp:host=a;unix:path=/b"), Some("/b".into()));
        assert_eq!(unix_path("unix:abstract=/x"), None);
    }
}
