//! wharfd: the Docker Engine API daemon.
//!
//! Containers do not depend on this process: it may be killed at any instant, and its start is recovery.

mod flags;
mod listen;
mod notify;
mod pidfile;
mod run;
mod settings;

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    let flags = flags::Flags::parse();
    let settings = settings::Settings::resolve(&flags)?;
    run::start_logging(&settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("wharfd").build()?;
    let ended = runtime.block_on(run::run(settings));
    // what still waits for a client or a stuck shim must not hold up the end
    runtime.shutdown_background();
    ended
}
