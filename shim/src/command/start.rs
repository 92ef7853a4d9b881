//! `start`: makes the socket, becomes two processes, of which the child serves it; tells the daemon where it is, and ends.
//!
//! A fork and not the program anew: starting a program costs a millisecond, for which whoever runs a container waits.
//!
//! How the daemon asks and wants to be answered:
//!
//! | daemon | stdin | env MAX_SHIM_VERSION | answer |
//! |---|---|---|---|
//! | containerd ≥ 2.3, wharf-lifecycled | `BootstrapParams` whose id and namespace are the flags' | | `BootstrapResult`, version 3 |
//! | containerd 1.7 to 2.2 | the options' `Any`, or nothing | 2 (or what it can) | JSON of that version, at most 3 |
//! | containerd 1.6 | the options' `Any`, or nothing | not set | the plain address: version 2 |

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::Any;
use wharf_cgroups::{Cgroup, Driver, Hierarchies, Plan};
use wharf_containerd::containerd::runtime::bootstrap::v1::{BootstrapParams, BootstrapResult, LogLevel};

use super::flags::Flags;
use super::serve::{self, Server};
use super::socket::{self, Bound, DEFAULT_DIR};
use super::{CommandError, SOCKET_DIR_LINK};
use crate::options::Options;
use crate::task::{Settings, SpecFacts};

/// The newest task API that this shim speaks.
const VERSION: i32 = 3;
const MAX_INPUT: u64 = 10 * 1024 * 1024;

/// How the daemon wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Protobuf,
    Json(i32),
    Plain,
}

/// What the daemon asks, from flags, environment and stdin.
#[derive(Debug)]
struct Request {
    answer: Answer,
    /// The daemon's gRPC and ttrpc sockets.
    address: String,
    ttrpc: String,
    socket_dir: Option<String>,
    options: Options,
    debug: bool,
}

/// Starts or finds the server and gives the daemon the answer. A daemon that is not there to take it does not know
/// of the server, and may have cleaned the bundle up before there was one: the server is ended again.
pub(super) fn start(
    flags: &Flags,
    deliver: impl FnOnce(&[u8]) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut input = Vec::new();
    let read = io::stdin().lock().take(MAX_INPUT).read_to_end(&mut input);
    read.map_err(|e| CommandError::Input(e.to_string()))?;
    let env = |key: &str| std::env::var(key).ok();
    let request = understand(&input, flags, env).map_err(CommandError::Input)?;
    let bundle =
        std::env::current_dir().map_err(|source| CommandError::Server { act: "find the bundle", source })?;
    let at = |name: &str| bundle.join(name);
    let of_bundle = |name: &str, act| {
        let path = at(name);
        move |source| CommandError::Bundle { path, act, source }
    };

    let facts = SpecFacts::read(&bundle).map_err(of_bundle("config.json", "read"))?;
    let group = facts.group.unwrap_or_else(|| flags.id.clone());
    let dir = request.socket_dir.as_deref().unwrap_or(DEFAULT_DIR);
    let path = socket::path(Path::new(dir), &request.address, &flags.namespace, &group);
    let address = format!("unix://{}", path.display());
    if let Some(dir) = &request.socket_dir {
        let _ = fs::remove_file(at(SOCKET_DIR_LINK));
        std::os::unix::fs::symlink(dir, at(SOCKET_DIR_LINK)).map_err(of_bundle(SOCKET_DIR_LINK, "link"))?;
    }
    // of containerd 1.6, which finds the shim again by it
    fs::write(at("address"), &address).map_err(of_bundle("address", "write"))?;
    let Bound::New(listener) = socket::bind(&path)? else {
        return deliver(&encode(request.answer, &address));
    };

    let undo = |e| {
        let _ = fs::remove_file(&path);
        e
    };
    let Some(pid) = fork().map_err(undo)? else {
        return serve::serve(Server {
            listener,
            bundle,
            debug: request.debug,
            settings: Settings {
                namespace: flags.namespace.clone(),
                socket_dir: request.socket_dir.map(PathBuf::from),
                socket: Some(path),
                events: Some(PathBuf::from(request.ttrpc)).filter(|path| path != ""),
            },
        });
    };
    let stop = |e| {
        if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        undo(e)
    };
    fs::write(at("shim.pid"), pid.to_string()).map_err(of_bundle("shim.pid", "write")).map_err(stop)?;
    join_cgroup(&request.options.shim_cgroup, pid).map_err(stop)?;
    adjust_oom_score(pid);
    deliver(&encode(request.answer, &address)).map_err(stop)
}

fn understand(input: &[u8], flags: &Flags, env: impl Fn(&str) -> Option<String>) -> Result<Request, String> {
    // an Any of options can be read as BootstrapParams too: the names tell
    let params = BootstrapParams::decode(input).ok();
    let params = params.filter(|p| p.instance_id == flags.id && p.namespace == flags.namespace);
    if let Some(params) = params {
        let options = params.extensions.iter().filter_map(|e| e.value.as_ref());
        let mut options =
            options.filter(|any| any.type_url.ends_with(wharf_containerd::type_url::RUNC_OPTIONS));
        return Ok(Request {
            answer: Answer::Protobuf,
            options: Options::from_any(options.next_back())?,
            debug: flags.debug || params.log_level <= LogLevel::Debug as i32,
            address: params.containerd_grpc_address,
            ttrpc: params.containerd_ttrpc_address,
            socket_dir: params.socket_dir.filter(|dir| dir.starts_with('/')),
        });
    }
    let options = Any::decode(input).map_err(|e| format!("neither bootstrap parameters nor options: {e}"))?;
    // options of another runtime's kind concern the shim only in Create, which refuses them
    let options = Options::from_any(Some(&options)).unwrap_or_default();
    let answer = match env("MAX_SHIM_VERSION") {
        None => Answer::Plain,
        Some(max) => Answer::Json(max.parse().unwrap_or(2).clamp(2, VERSION)),
    };
    Ok(Request {
        answer,
        address: flags.address.clone(),
        ttrpc: env("TTRPC_ADDRESS").unwrap_or_default(),
        socket_dir: None,
        options,
        debug: flags.debug,
    })
}

fn encode(answer: Answer, address: &str) -> Vec<u8> {
    match answer {
        Answer::Plain => address.as_bytes().to_vec(),
        Answer::Json(version) => {
            let json = serde_json::json!({"version": version, "address": address, "protocol": "ttrpc"});
            json.to_string().into_bytes()
        }
        Answer::Protobuf => BootstrapResult {
            version: VERSION,
            address: address.to_owned(),
            protocol: "ttrpc".to_owned(),
            ..BootstrapResult::default()
        }
        .encode_to_vec(),
    }
}

/// The server's pid; `None` in the server.
fn fork() -> Result<Option<u32>, CommandError> {
    let failed = |act| move |source| CommandError::Server { act, source };
    if std::env::var_os("SCHED_CORE").is_some_and(|v| !v.is_empty()) {
        wharf_sys::core_sched::create_for_process_group().map_err(failed("enable sched core support"))?;
    }
    wharf_sys::fork::fork_server().map_err(failed("start"))
}

fn join_cgroup(path: &str, pid: u32) -> Result<(), CommandError> {
    if path.is_empty() {
        return Ok(());
    }
    let failed = |reason: String| CommandError::Cgroup { path: path.to_owned(), reason };
    let hierarchies = Hierarchies::detect().map_err(|e| failed(e.to_string()))?;
    let plan = Plan::new(&hierarchies, Driver::Cgroupfs, Some(Path::new(path)), "");
    let paths = plan.map_err(|e| failed(e.to_string()))?.paths().clone();
    // it has to be there: what is made here nobody would remove
    let cgroup = Cgroup::from_paths(&paths).map_err(|e| failed(e.to_string()))?;
    if !cgroup.exists() {
        return Err(failed("it does not exist".to_owned()));
    }
    cgroup.add(pid as i32).map_err(|e| failed(e.to_string()))
}

/// The kernel's OOM killer is to prefer the shim to the daemon, slightly; where that is not allowed it is
/// as it was.
fn adjust_oom_score(pid: u32) {
    let parent = rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get());
    let score = fs::read_to_string(format!("/proc/{parent}/oom_score_adj"));
    if let Some(score) = score.ok().and_then(|s| s.trim().parse::<i32>().ok()) {
        let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), (score + 1).min(1000).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_containerd::containerd::runc::v1::Options as Wire;
    use wharf_containerd::containerd::runtime::bootstrap::v1::Extension;
    use wharf_containerd::type_url::RUNC_OPTIONS;

    fn flags() -> Flags {
        let line = "-namespace ns -id web -address /c.sock start";
        Flags::parse(line.split(' ').map(Into::into)).unwrap()
    }

    fn options() -> Any {
        wharf_containerd::to_any(RUNC_OPTIONS, &Wire { binary_name: "crun".into(), ..Wire::default() })
    }

    #[test]
    fn bootstrap_parameters_of_this_container_are_answered_in_protobuf() {
        let params = BootstrapParams {
            instance_id: "web".into(),
            namespace: "ns".into(),
            containerd_grpc_address: "/d.sock".into(),
            containerd_ttrpc_address: "/d.sock.ttrpc".into(),
            socket_dir: Some("/run/d/s".into()),
            extensions: vec![Extension { value: Some(options()) }],
            ..BootstrapParams::default()
        };
        let request = understand(&params.encode_to_vec(), &flags(), |_| Some("2".into())).unwrap();
        assert_eq!(request.answer, Answer::Protobuf);
        assert_eq!((request.address.as_str(), request.ttrpc.as_str()), ("/d.sock", "/d.sock.ttrpc"));
        assert_eq!(request.socket_dir.as_deref(), Some("/run/d/s"));
        assert_eq!(request.options.binary_name, "crun");
        let result = BootstrapResult::decode(&encode(request.answer, "unix:///x")[..]).unwrap();
        assert_eq!(
            (result.version, result.address.as_str(), result.protocol.as_str()),
            (3, "unix:///x", "ttrpc")
        );
    }

    #[test]
    fn older_daemons_are_told_by_their_environment() {
        let input = options().encode_to_vec();
        let env = |max: Option<&'static str>| {
            move |key: &str| match key {
                "MAX_SHIM_VERSION" => max.map(str::to_owned),
                "TTRPC_ADDRESS" => Some("/t".to_owned()),
                _ => None,
            }
        };
        for (max, answer, text) in [
            (None, Answer::Plain, "unix:///x"),
            (Some("2"), Answer::Json(2), r#"{"address":"unix:///x","protocol":"ttrpc","version":2}"#),
            (Some("9"), Answer::Json(3), r#"{"address":"unix:///x","protocol":"ttrpc","version":3}"#),
        ] {
            let request = understand(&input, &flags(), env(max)).unwrap();
            assert_eq!(request.answer, answer);
            assert_eq!((request.address.as_str(), request.ttrpc.as_str()), ("/c.sock", "/t"));
            assert_eq!(request.options.binary_name, "crun");
            assert_eq!(String::from_utf8(encode(answer, "unix:///x")).unwrap(), text);
        }
        assert_eq!(understand(b"", &flags(), env(None)).unwrap().options, Options::default());
        assert!(understand(b"\xff", &flags(), env(None)).is_err());
    }
}
