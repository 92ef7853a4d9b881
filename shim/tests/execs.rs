//! Many execs at once, with much output on a terminal, whose ids are used again and again.

#[allow(dead_code)] // each test uses some of it
mod stack;

use std::io::Read;
use std::path::Path;

use stack::Bundle;
use wharf_containerd::containerd::task::v3::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, ExecProcessRequest, KillRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, WaitRequest, WaitResponse,
};
use wharf_containerd::containerd::v1::types::Status;

const CALLERS: usize = 4;
const ROUNDS: usize = 15;
const LAST: usize = 60_000;

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// One exec from its making to its deletion; as soon as its end is told, it counts as ended.
fn run(shim: &mut stack::Shim, bundle: &Bundle, exec_id: &str, round: usize) {
    let out = bundle.dir().join(format!("{exec_id}-{round}"));
    fifo(&out);
    let script = format!("busybox seq -s ' ' {LAST}; exit {round}");
    let exec = ExecProcessRequest {
        id: bundle.id.clone(),
        exec_id: exec_id.into(),
        terminal: true,
        stdout: out.to_str().unwrap().into(),
        spec: Some(bundle.process(&["sh", "-c", &script])),
        ..ExecProcessRequest::default()
    };
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::fs::File::open(&out).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    let () = shim.call("Exec", &exec).unwrap();
    // it waits before the start, as clients do
    let mut other = bundle.connect();
    let wait = WaitRequest { id: bundle.id.clone(), exec_id: exec_id.into() };
    let waiting = std::thread::spawn(move || {
        let ended: WaitResponse = other.call("Wait", &wait).unwrap();
        let WaitRequest { id, exec_id } = wait;
        let state = StateRequest { id: id.clone(), exec_id: exec_id.clone() };
        let state: StateResponse = other.call("State", &state).unwrap();
        let deleted = other.call::<_, DeleteResponse>("Delete", &DeleteRequest { id, exec_id });
        (ended, state, deleted)
    });
    let start = StartRequest { id: bundle.id.clone(), exec_id: exec_id.into() };
    let started: StartResponse = shim.call("Start", &start).unwrap();
    let (ended, state, deleted) = waiting.join().unwrap();
    let deleted = deleted.unwrap_or_else(|e| panic!("{exec_id}, round {round}: {e}"));
    assert_eq!(state.status(), Status::Stopped);
    assert_eq!(ended.exit_status as usize, round);
    assert_eq!((deleted.pid, deleted.exit_status), (started.pid, ended.exit_status));
    assert_eq!((deleted.exited_at, state.exited_at), (ended.exited_at, ended.exited_at));
    let text = reader.join().unwrap();
    let numbers: Vec<_> = (1..=LAST).map(|n| n.to_string()).collect();
    assert!(text.trim_end() == numbers.join(" "), "the output differs");
}

#[test]
fn root_execs_whose_end_was_told_can_be_deleted_at_once() {
    let bundle = Bundle::new("execs", &["sleep", "1000"]);
    let mut shim = bundle.start();
    let request = CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        options: Some(bundle.options()),
        ..CreateTaskRequest::default()
    };
    let _: CreateTaskResponse = shim.call("Create", &request).unwrap();
    let init = StartRequest { id: bundle.id.clone(), ..StartRequest::default() };
    let _: StartResponse = shim.call("Start", &init).unwrap();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let bundle = &bundle;
            scope.spawn(move || {
                let mut shim = bundle.connect();
                for round in 0..ROUNDS {
                    run(&mut shim, bundle, &format!("e{caller}"), round);
                }
            });
        }
    });
    let kill = KillRequest { id: bundle.id.clone(), signal: 9, ..KillRequest::default() };
    let () = shim.call("Kill", &kill).unwrap();
    let wait = WaitRequest { id: bundle.id.clone(), ..WaitRequest::default() };
    let ended: WaitResponse = shim.call("Wait", &wait).unwrap();
    assert_eq!(ended.exit_status, 137);
    shim.delete(&bundle.id, "");
    shim.shutdown();
}
