//! wharf: the command a person types. Docker's verbs, flags and output, over the Docker Engine API.

mod app;
mod commands;
mod config;
mod error;
mod flags;
mod globals;
mod help;
mod json;
mod options;
mod output;
mod session;
mod stream;
mod template;
mod terminal;
mod transport;
mod verb;

use std::process::exit;

use error::CliError;

fn main() {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let code = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => match runtime.block_on(app::run(&args)) {
            Ok(()) => 0,
            Err(bad) => {
                report(&bad);
                bad.code()
            }
        },
        Err(bad) => {
            session::warn(&format!("wharf: cannot start: {bad}"));
            125
        }
    };
    // threads that copy standard input may still be blocked in a read: nothing to wait for
    terminal::restore();
    exit(code.into());
}

fn report(bad: &CliError) {
    // a reader that went away wants no more output, and no complaint either
    if matches!(bad, CliError::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe) {
        return;
    }
    let text = bad.to_string();
    if !text.is_empty() {
        session::warn(&text);
    }
}
