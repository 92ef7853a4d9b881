use std::time::Duration;

use super::*;
use crate::container::phase::{Ended, Run};

fn view(phase: Phase) -> View {
    let record: Record = serde_json::from_value(serde_json::json!({
        "id": "0123456789abcdef", "name": "web", "created": "2020-01-01T00:00:00Z", "image_id": "sha256:1",
        "image_name": "", "os": "linux", "config": {"Image": "debian", "Labels": {"tier": "front"}},
        "host": {"NetworkMode": "none"}, "command": ["sh", "-c", "echo hi"], "runtime": "r",
        "phase": {"phase": "created", "failure": null}, "started_before": true
    }))
    .unwrap();
    View {
        record: Arc::new(Record { phase, ..record }),
        removing: false,
        removed: false,
        exits: 0,
        last_exit: 0,
        removal_error: None,
        execs: Vec::new(),
    }
}

fn at(seconds: i64) -> Time {
    Time::from_unix(seconds, 0).unwrap()
}

fn chosen(filters: Filters) -> Chosen {
    Chosen {
        names: filters.values("name").map(NamePattern::new).collect(),
        ids: filters.values("id").map(str::to_owned).collect(),
        exited: filters.values("exited").map(|v| v.parse().unwrap()).collect(),
        all: true,
        images: None,
        before: None,
        since: None,
        task: None,
        filters,
    }
}

#[test]
fn status_reads_as_dockers() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let run = Run { pid: 1, started_at: at(820), paused: false, oom_killed: false };
    let ended = Ended { started_at: at(820), finished_at: at(940), code: 3, ..Ended::default() };
    assert_eq!(status(&view(Phase::Running(run.clone())), now), "Up 3 minutes");
    assert_eq!(status(&view(Phase::Running(Run { paused: true, ..run })), now), "Up 3 minutes (Paused)");
    assert_eq!(status(&view(Phase::Exited { ended: ended.clone() }), now), "Exited (3) About a minute ago");
    assert_eq!(status(&view(Phase::Restarting { ended }), now), "Restarting (3) About a minute ago");
    assert_eq!(status(&view(Phase::Created { failure: None }), now), "Created");
}

#[test]
fn filters_choose() {
    let ended = Ended { started_at: at(1), finished_at: at(2), code: 3, ..Ended::default() };
    let view = view(Phase::Exited { ended });
    for (filters, takes) in [
        (Filters::of([("name", "we")]), true),
        (Filters::of([("name", "^eb")]), false),
        (Filters::of([("name", "^web$")]), true),
        (Filters::of([("id", "0123")]), true),
        (Filters::of([("id", "123")]), false),
        (Filters::of([("status", "exited")]), true),
        (Filters::of([("status", "running")]), false),
        (Filters::of([("exited", "3")]), true),
        (Filters::of([("exited", "0")]), false),
        (Filters::of([("label", "tier=front")]), true),
        (Filters::of([("label", "tier=back")]), false),
        (Filters::of([("network", "none")]), true),
        (Filters::of([("network", "host")]), false),
    ] {
        assert_eq!(chosen(filters.clone()).takes(&view, 0), takes, "{filters:?}");
    }
}

#[test]
fn the_command_is_shown_quoted() {
    let words: Vec<String> = ["sh", "-c", "echo hi"].map(str::to_owned).to_vec();
    assert_eq!(command_line(&words), "sh -c 'echo hi'");
}
