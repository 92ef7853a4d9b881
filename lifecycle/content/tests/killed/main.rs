//! Random operations over content, ingests, snapshots, leases, images and containers in a process that is killed with
//! SIGKILL at arbitrary instants, against a model: after each start the records are those of an operation that was
//! wholly done, done up to one of its steps, or not begun; every record has its file and every file its record; the
//! collector kept what something refers to and nothing else; and the operation that was broken off can be repeated.

mod model;
mod world;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use model::{Model, Op};
use proptest::prelude::*;
use world::World;

/// Where the worker's stores are.
const ROOT: &str = "WHARF_KILLED_ROOT";

/// Does the operations that its input names, and says of each when it begins and what came of it.
#[test]
#[ignore = "the process that the other test kills"]
fn worker() {
    let Some(root) = std::env::var_os(ROOT) else { panic!("{ROOT} names no folder") };
    let world = World::open(Path::new(&root));
    world.collect();
    let mut out = std::io::stdout();
    writeln!(out, "\nready").unwrap();
    for line in std::io::stdin().lines() {
        let op = Op::decode(&line.unwrap());
        writeln!(out, "begun").unwrap();
        let outcome = if world.perform(op) { "yes" } else { "no" };
        writeln!(out, "{outcome}").unwrap();
    }
}

fn start_worker(root: &Path, ops: &[Op]) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ROOT, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines: String = ops.iter().map(|op| op.encode() + "\n").collect();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child
}

/// What the worker said before it was killed.
struct Heard {
    outcomes: Vec<bool>,
    /// One more operation had begun.
    is_within: bool,
}

/// Lets the worker run on for a while after it has begun as many operations, kills it, and hears it out.
fn run_and_kill(root: &Path, ops: &[Op], kill_at: usize, within: Duration) -> Heard {
    let mut child = start_worker(root, ops);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard = Heard { outcomes: Vec::new(), is_within: false };
    let mut begun = 0;
    let mut is_killed = false;
    for line in lines.by_ref() {
        let line = line.unwrap();
        match line.as_str() {
            "begun" => {
                begun += 1;
                heard.is_within = true;
            }
            "yes" | "no" => {
                heard.outcomes.push(line == "yes");
                heard.is_within = false;
            }
            _ => {}
        }
        if begun == kill_at && heard.is_within && !is_killed {
            // not a wait for anything: the instant is what is random
            let until = Instant::now() + within;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            is_killed = true;
        }
    }
    child.wait().unwrap();
    assert!(
        is_killed || heard.outcomes.len() == ops.len(),
        "the worker ended by itself: {:?}",
        heard.outcomes
    );
    heard
}

/// One start of the worker.
#[derive(Debug, Clone)]
struct Round {
    ops: Vec<Op>,
    kill_at: usize,
    within: Duration,
}

fn round() -> impl Strategy<Value = Round> {
    let op = proptest::array::uniform6(any::<u8>()).prop_map(Op);
    let ops = proptest::collection::vec(op, 1..30);
    (ops, any::<prop::sample::Index>(), 0..6_000u64).prop_map(|(ops, at, micros)| {
        let kill_at = at.index(ops.len()) + 1;
        Round { ops, kill_at, within: Duration::from_micros(micros) }
    })
}

fn run(rounds: &[Round]) {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    for round in rounds {
        // the worker begins with a collection
        model.collect();
        let heard = run_and_kill(dir.path(), &round.ops, round.kill_at, round.within);
        for (op, outcome) in round.ops.iter().zip(&heard.outcomes) {
            let stages = model.perform(*op);
            let predicted = stages.is_ok();
            assert_eq!(predicted, *outcome, "{op:?} in {model:#?}");
            model = stages.unwrap_or_else(|unchanged| unchanged);
        }
        let world = World::open(dir.path());
        let mut possible = vec![model.clone()];
        let broken_off = round.ops.get(heard.outcomes.len()).filter(|_| heard.is_within);
        if let Some(op) = broken_off {
            possible.extend(model.stages(*op));
        }
        for one in &mut possible {
            one.collect();
        }
        world.collect();
        let found = world.read();
        let Some(which) = possible.iter().position(|one| one.state() == found) else {
            panic!("after {broken_off:?} there is\n{found:#?}\nwhich is none of\n{possible:#?}");
        };
        world.check_files();
        model = possible.swap_remove(which);
        if let Some(op) = broken_off {
            let outcome = world.perform(*op);
            let stages = model.perform(*op);
            assert_eq!(outcome, stages.is_ok(), "repeating {op:?} in {model:#?}");
            model = stages.unwrap_or_else(|unchanged| unchanged);
            assert_eq!(world.read(), model.state());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: (ProptestConfig::default().cases / 32).max(1),
        max_shrink_iters: 32,
        ..ProptestConfig::default()
    })]
    #[test]
    fn root_nothing_is_lost_or_left_wherever_the_process_is_killed(
        rounds in proptest::collection::vec(round(), 1..6),
    ) {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        run(&rounds);
    }
}
