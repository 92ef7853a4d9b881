//! `fuzz-smoke`: bounded fuzzing on a stable compiler.
//!
//! Each target runs in a process of its own with bounded memory, which keeps its present input in a file: whatever ends
//! the process early, a panic, a bad allocation, a stack used up or an input that takes too long, that file is the
//! finding and goes to `fuzz/artifacts`. A run is repeated exactly by its seed, given the same number of inputs.

mod json;
mod mutate;
mod rng;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Parser;
use wharf_fuzz_entries::{TARGETS, Target};

/// Mutates the seeds of each target and runs them, for a bounded time.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds a target
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// These targets only
    #[arg(long)]
    target: Vec<String>,
    /// Where the random numbers begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run one input through the one target that is named, and nothing else
    #[arg(long)]
    replay: Option<PathBuf>,
    #[arg(long, hide = true)]
    work: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(unknown) = args.target.iter().find(|n| TARGETS.iter().all(|t| t.name != n.as_str())) {
        bail!("no target {unknown}; there are {}", TARGETS.map(|t| t.name).join(", "));
    }
    let chosen =
        || TARGETS.iter().filter(|t| args.target.is_empty() || args.target.iter().any(|n| n == t.name));
    let one = || chosen().next().filter(|_| args.target.len() == 1).context("give one --target");
    if let Some(path) = &args.replay {
        let input = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        println!("outcome {:x}", (one()?.entry)(&input));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(work) = &args.work {
        worker::run(one()?, &seeds(one()?.name), work, args.seconds, args.seed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut clean = true;
    for target in chosen() {
        clean &= supervise(target, &args)?;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn seeds(name: &str) -> PathBuf {
    folder().join("seeds").join(name)
}

/// Runs a target in a process of its own; false if it found something.
fn supervise(target: &Target, args: &Args) -> anyhow::Result<bool> {
    let work = std::env::temp_dir().join(format!("wharf-fuzz-work-{}-{}", std::process::id(), target.name));
    std::fs::create_dir(&work).with_context(|| format!("make {}", work.display()))?;
    let status = Command::new(std::env::current_exe().context("find this program")?)
        .args(["--target", target.name, "--seconds", &args.seconds.to_string()])
        .args(["--seed", &args.seed.to_string(), "--work"])
        .arg(&work)
        // what the target itself makes goes there too
        .env("TMPDIR", &work)
        .status()
        .context("start the target's process")?;
    if !status.success() {
        let artifacts = folder().join("artifacts").join(target.name);
        std::fs::create_dir_all(&artifacts).with_context(|| format!("make {}", artifacts.display()))?;
        let kept = artifacts.join(format!("seed-{}", args.seed));
        std::fs::copy(work.join(worker::INPUT), &kept).context("keep the input")?;
        let name = target.name;
        println!("{name}: FOUND ({status}); again: fuzz-smoke --target {name} --replay {}", kept.display());
    }
    std::fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    Ok(status.success())
}
