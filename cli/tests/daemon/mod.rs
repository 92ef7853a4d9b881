//! A daemon that answers with canned JSON: what the docker CLI and wharf print of it can be compared.

// each test file that includes this module uses a part of it
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// A request as it came: its method and its path without the version, query included.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
}

/// What a handler does with a connection: return the status, the content type and the body.
pub type Answer = (u16, &'static str, Vec<u8>);

/// A handler may take the connection over (then it returns None) or answer.
pub type Handler = dyn Fn(&Request, &mut UnixStream) -> Option<Answer> + Send + Sync;

pub struct Daemon {
    dir: tempfile::TempDir,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    /// Listens; `handler` is asked first, then the canned answers.
    pub fn start(handler: Box<Handler>) -> Daemon {
        let dir = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(dir.path().join("s")).expect("a socket");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, requests): (Arc<Handler>, _) = (handler.into(), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, requests) = (handler.clone(), requests.clone());
                std::thread::spawn(move || serve(stream, &*handler, &requests));
            }
        });
        Daemon { dir, log }
    }

    pub fn canned() -> Daemon {
        Daemon::start(Box::new(|_, _| None))
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("s").display())
    }

    /// An empty folder for the client's configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().expect("not poisoned").clone()
    }
}

fn serve(mut stream: UnixStream, handler: &Handler, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    while let Some(request) = read(&mut reader) {
        log.lock().expect("not poisoned").push(request.clone());
        let head = request.method == "HEAD";
        let (status, kind, body) = if request.path == "/_ping" {
            (200, "text/plain", b"OK".to_vec())
        } else {
            match handler(&request, &mut stream) {
                Some((0, ..)) => return,
                Some(answer) => answer,
                None => canned(&request),
            }
        };
        let reason = if status < 300 { "OK" } else { "Error" };
        let mut answer = format!(
            "HTTP/1.1 {status} {reason}\r\nApi-Version: 1.51\r\nOstype: linux\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        if !head {
            answer.extend(body);
        }
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<UnixStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = match target.strip_prefix("/v1.") {
        Some(rest) => rest[rest.find('/')?..].to_owned(),
        None => target,
    };
    Some(Request { method, path, body })
}

const DATA: &[(&str, &str)] = &[
    ("/containers/json", include_str!("data/containers.json")),
    ("/containers/web/json", include_str!("data/container.json")),
    ("/containers/web/top", include_str!("data/top.json")),
    ("/images/json", include_str!("data/images.json")),
    ("/images/busybox/json", include_str!("data/image.json")),
    ("/images/busybox/history", include_str!("data/history.json")),
    ("/info", include_str!("data/info.json")),
    ("/version", include_str!("data/version.json")),
    ("/events", include_str!("data/events.json")),
];

/// When the canned objects were made: the same for every client that asks in this run.
fn three_days_ago() -> u64 {
    static THEN: OnceLock<u64> = OnceLock::new();
    *THEN.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        // and a minute, so that it stays three days
        now - 3 * 86400 - 60
    })
}

fn canned(request: &Request) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    match DATA.iter().find(|(known, _)| *known == path) {
        Some((_, text)) => {
            let text = text.replace("THREE_DAYS_AGO", &three_days_ago().to_string());
            (200, "application/json", text.into_bytes())
        }
        None => {
            let kind = path.split('/').nth(1).unwrap_or_default().trim_end_matches('s');
            let name = path.split('/').nth(2).unwrap_or_default();
            let body = format!("{{\"message\":\"No such {kind}: {name}\"}}");
            (404, "application/json", body.into_bytes())
        }
    }
}

/// Command lines whose output is the same for the docker CLI and for wharf, byte for byte.
pub const LISTINGS: &[&[&str]] = &[
    &["ps", "-a"],
    &["ps", "-a", "--no-trunc"],
    &["ps", "-as"],
    &["ps", "-aq"],
    &["container", "ls", "--format", "json"],
    &["ps", "--format", "{{json .}}"],
    &[
        "ps",
        "--format",
        "table {{.Names}}\t{{.Labels}}\t{{.Label \"com.example.some-name\"}}\t{{.Mounts}}\t{{.LocalVolumes}}\t{{.Networks}}",
    ],
    &[
        "ps",
        "--format",
        "{{upper .Names}}|{{title .State}}|{{join (split .Image \":\") \"+\"}}|{{pad .Status 1 2}}|{{truncate .ID 4}}",
    ],
    &[
        "ps",
        "--format",
        "{{if eq .State \"running\"}}{{.Names}} runs{{else}}{{printf \"%-10s|\" .Names}}{{end}}",
    ],
    &["ps", "--format", "{{.Foo}}"],
    &["ps", "--format", "{{.ID"],
    &["ps", "--format", "{{foo .ID}}"],
    &["ps", "--format", "{{lower 5}}"],
    &["ps", "--format", "{{index .ID 99}}"],
    &["images"],
    &["images", "--digests"],
    &["images", "--no-trunc"],
    &["images", "-q"],
    &["images", "--format", "json"],
    &[
        "images",
        "--format",
        "{{.Repository}}:{{.Tag}} {{.Size}} {{.Containers}} {{.SharedSize}} {{.UniqueSize}} {{.VirtualSize}} {{.Digest}}",
    ],
    &["image", "ls", "--format", "raw"],
    &["history", "busybox"],
    &[
        "history",
        "--no-trunc",
        "-H=false",
        "--format",
        "{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}",
        "busybox",
    ],
    &["inspect", "web"],
    &["inspect", "busybox"],
    &["inspect", "--format", "json", "web"],
    &["inspect", "-f", "{{.ID}} {{.Name}} {{.State.Status}} {{.State.Pid}} {{.State.StartedAt}}", "web"],
    &["inspect", "-f", "{{json .State}} {{json .Mounts}} {{json .Config.Env}}", "web"],
    &["inspect", "-f", "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "web"],
    &["inspect", "-f", "{{range .Mounts}}{{.Source}}:{{.Destination}} {{.RW}};{{end}}", "web"],
    &["inspect", "-f", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.NetworkID}}{{end}}", "web"],
    &[
        "inspect",
        "-f",
        "{{index .Config.Labels \"x\"}} {{.Config.Labels}} {{.Config.Entrypoint}} {{.HostConfig.CapAdd}} {{.Config.StopTimeout}}",
        "web",
    ],
    &[
        "inspect",
        "-f",
        "{{.HostConfig.LogConfig}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.NanoCPUs}}",
        "web",
    ],
    &["inspect", "-f", "{{.Nope}}", "web"],
    &["inspect", "-f", "{{.State.Nope}}", "web"],
    &["inspect", "nope"],
    &["inspect", "nope", "web", "-f", "{{.Name}}"],
    &["inspect", "--type", "image", "web"],
    &["inspect", "--type", "what", "web"],
    &["image", "inspect", "busybox", "-f", "{{.RootFS.Layers}} {{.Size}} {{.Os}}/{{.Architecture}}"],
    &["top", "web"],
    &[
        "info",
        "-f",
        "{{.ServerVersion}} {{.NCPU}} {{.MemTotal}} {{.Driver}} {{.Labels}} {{.NFd}} {{.HTTPProxy}}",
    ],
    &["info", "-f", "{{json .SecurityOptions}} {{json .Plugins}} {{range .Warnings}}{{.}}{{end}}"],
    &["info", "-f", "{{.Nope}}"],
    &["version", "-f", "{{json .Server}}"],
    &[
        "version",
        "-f",
        "{{.Server.Version}} {{.Server.APIVersion}} {{range .Server.Components}}{{.Name}} {{end}}",
    ],
    &["events", "--until", "1s"],
    &["events", "--until", "1s", "--format", "json"],
    &[
        "events",
        "--until",
        "1s",
        "--format",
        "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}} {{.TimeNano}}",
    ],
    &["events", "--format", "{{.Nope}}"],
];

/// The environment of a client under test: no host, no terminal width, UTC.
pub fn environment(host: &str, config: &Path) -> BTreeMap<String, String> {
    let pairs = [
        ("PATH", std::env::var("PATH").unwrap_or_default()),
        ("DOCKER_HOST", host.to_owned()),
        ("DOCKER_CONFIG", config.display().to_string()),
        ("TZ", "UTC".to_owned()),
        ("HOME", "/nonexistent".to_owned()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
