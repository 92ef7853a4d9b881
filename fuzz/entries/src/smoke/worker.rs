//! One target's process.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, setrlimit};
use wharf_fuzz_entries::Target;

use super::mutate::Mutator;
use super::rng::Rng;

/// The present input, in the working folder.
pub const INPUT: &str = "input";
/// Memory that the process may write to; inputs have 64 KiB.
const MAX_MEMORY: u64 = 512 << 20;
/// One input; most take less than a thousandth of it.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Inputs that are kept because something new became of them.
const MAX_KEPT: usize = 4096;
/// Bytes of one of them, so that all of them take an eighth of the memory at most.
const MAX_KEPT_INPUT: usize = 16 << 10;
/// The process's exit status when an input takes too long.
const TOO_LONG: i32 = 124;

/// Runs the seeds, then mutated inputs until the time is over. A finding ends the process.
pub fn run(target: &Target, seeds: &Path, work: &Path, seconds: u64, seed: u64) -> anyhow::Result<()> {
    setrlimit(Resource::Data, Rlimit { current: Some(MAX_MEMORY), maximum: Some(MAX_MEMORY) })
        .context("bound the memory")?;
    // a finding is an input, not a core file
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).context("no core files")?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(seeds).with_context(|| format!("list {}", seeds.display()))? {
        paths.push(entry.with_context(|| format!("list {}", seeds.display()))?.path());
    }
    // the order of a directory is not the same everywhere
    paths.sort();
    let mut kept = Vec::new();
    for path in &paths {
        kept.push(fs::read(path).with_context(|| format!("read {}", path.display()))?);
    }
    ensure!(!kept.is_empty(), "no seeds in {}", seeds.display());
    let file = fs::File::create(work.join(INPUT)).context("make the file of the present input")?;
    let mut loop_ = Loop { target, file, seen: HashSet::new(), slowest: Duration::ZERO, inputs: 0 };
    let begin = Instant::now();
    let started = AtomicU64::new(0);
    let (done, over) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let started = &started;
        scope.spawn(move || watch(&over, begin, started));
        let result = loop_.go(kept, begin, Duration::from_secs(seconds), seed, started);
        drop(done);
        result
    })
}

/// Ends the process when one input takes too long.
fn watch(over: &mpsc::Receiver<()>, begin: Instant, started: &AtomicU64) {
    while over.recv_timeout(Duration::from_millis(500)) == Err(mpsc::RecvTimeoutError::Timeout) {
        let since = begin.elapsed().saturating_sub(Duration::from_millis(started.load(Ordering::Relaxed)));
        if since > MAX_TIME {
            eprintln!("an input takes more than {} s", MAX_TIME.as_secs());
            std::process::exit(TOO_LONG);
        }
    }
}

struct Loop<'a> {
    target: &'a Target,
    file: fs::File,
    seen: HashSet<u64>,
    slowest: Duration,
    inputs: u64,
}

impl Loop<'_> {
    fn go(
        &mut self,
        mut kept: Vec<Vec<u8>>,
        begin: Instant,
        time: Duration,
        seed: u64,
        started: &AtomicU64,
    ) -> anyhow::Result<()> {
        let mutator = Mutator::new(self.target.form, &kept);
        for seed in &kept {
            self.one(seed, begin, started)?;
        }
        let mut rng = Rng::new(seed);
        while begin.elapsed() < time {
            let (old, other) = (rng.below(kept.len()), rng.below(kept.len()));
            let input = mutator.mutate(&kept[old], &kept[other], &mut rng);
            if self.one(&input, begin, started)? && kept.len() < MAX_KEPT && input.len() <= MAX_KEPT_INPUT {
                kept.push(input);
            }
        }
        println!(
            "{}: {} inputs in {} s, {} outcomes, the slowest {} ms, nothing found",
            self.target.name,
            self.inputs,
            begin.elapsed().as_secs(),
            self.seen.len(),
            self.slowest.as_millis()
        );
        Ok(())
    }

    /// Whether something new became of the input.
    fn one(&mut self, input: &[u8], begin: Instant, started: &AtomicU64) -> anyhow::Result<bool> {
        self.file.write_all_at(input, 0).context("keep the present input")?;
        self.file.set_len(input.len() as u64).context("keep the present input")?;
        let before = begin.elapsed();
        started.store(before.as_millis() as u64, Ordering::Relaxed);
        let outcome = (self.target.entry)(input);
        self.slowest = self.slowest.max(begin.elapsed().saturating_sub(before));
        self.inputs += 1;
        Ok(self.seen.insert(outcome))
    }
}
