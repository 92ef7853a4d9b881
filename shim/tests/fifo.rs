//! Output through FIFOs, as containerd's clients have it.

#[allow(dead_code)] // each test uses some of it
mod stack;

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use stack::{Bundle, TIMEOUT};
use wharf_containerd::containerd::task::v3::{
    CreateTaskRequest, CreateTaskResponse, StartRequest, StartResponse, WaitRequest, WaitResponse,
};

fn run(bundle: &Bundle, fifo: &Path) -> (stack::Shim, u32) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let mut shim = bundle.start();
    let request = CreateTaskRequest {
        id: bundle.id.clone(),
        bundle: bundle.path().to_str().unwrap().to_owned(),
        stdout: fifo.to_str().unwrap().to_owned(),
        options: Some(bundle.options()),
        ..CreateTaskRequest::default()
    };
    let _: CreateTaskResponse = shim.call("Create", &request).unwrap();
    let started: StartResponse =
        shim.call("Start", &StartRequest { id: bundle.id.clone(), ..StartRequest::default() }).unwrap();
    (shim, started.pid)
}

fn wait(shim: &mut stack::Shim, bundle: &Bundle) -> WaitResponse {
    shim.call("Wait", &WaitRequest { id: bundle.id.clone(), ..WaitRequest::default() }).unwrap()
}

/// containerd's client opens its FIFO in the background, and stops doing so when it hears of the end.
#[test]
fn root_a_reader_that_opens_after_the_process_has_ended_gets_its_output_before_the_end_is_told() {
    let bundle = Bundle::new("late-reader", &["echo", "hi"]);
    let fifo = bundle.dir().join("out");
    let (mut shim, pid) = run(&bundle, &fifo);
    let deadline = Instant::now() + TIMEOUT;
    // the shim reaps it at its end
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "the process does not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::fs::File::open(fifo).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    wait(&mut shim, &bundle);
    assert_eq!(reader.join().unwrap(), "hi\n");
    shim.delete(&bundle.id, "");
    shim.shutdown();
}

#[test]
fn root_output_that_nobody_reads_holds_the_news_of_the_end_up_but_briefly() {
    let bundle = Bundle::new("no-reader", &["echo", "hi"]);
    let fifo = bundle.dir().join("out");
    let (mut shim, _) = run(&bundle, &fifo);
    // the shim is asked with a deadline
    assert_eq!(wait(&mut shim, &bundle).exit_status, 0);
    shim.delete(&bundle.id, "");
    shim.shutdown();
}
