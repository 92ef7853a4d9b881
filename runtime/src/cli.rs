//! The command line: runc's commands, flags, outputs and exit codes.

mod args;
mod checkpoint;
mod create;
mod events;
mod exec;
mod features;
mod list;
mod ps;
mod restore;
mod signal;
mod spec;
mod state;
mod update;

use crate::container::ContainerError;
use crate::state::StateRoot;
use crate::{log, self_exe};
use args::{Arguments, Command, LogFormat};
use clap::Parser;
use wharf_sys::fds::Inherited;
use wharf_sys::protected_start::COMMANDS;

/// A command that failed.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: i32,
}

impl Failure {
    /// Exit code 1.
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(e: E) -> Self {
        Self::new(e.to_string())
    }
}

/// What a command ends with: the exit code of this process.
type Outcome = Result<i32, Failure>;

/// runc puts the command's name in front of these.
fn prefixed(command: &str, code: i32) -> impl FnOnce(ContainerError) -> Failure {
    let command = command.to_owned();
    move |e| Failure { message: format!("{command} failed: {e}"), code }
}

/// Runs the program; returns its exit code.
pub fn main() -> i32 {
    // the commands that enter a container's namespaces (an argument of that name to another command costs an exec),
    // before the parse, which is half of what a start costs, and would be done again after the exec; what fails here
    // fails again in `isolate`, where it can be reported
    if std::env::args_os().skip(1).any(|a| COMMANDS.iter().any(|command| a == *command)) {
        let _ = self_exe::protect();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            // help and version are no errors
            let code = i32::from(e.use_stderr());
            let _ = e.print();
            return code;
        }
    };
    // before anything is opened
    let inherited = match &arguments.command {
        Command::Create(_) => Inherited::find().unwrap_or_default(),
        _ => Inherited::default(),
    };
    let format = match arguments.global.log_format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    let path = arguments.global.log.as_deref().filter(|p| *p != std::path::Path::new("/dev/stderr"));
    if let Err(e) = log::open(path, format, arguments.global.debug) {
        eprintln!("opening log file: {e}");
        return 1;
    }
    match run(arguments, inherited) {
        Ok(code) => code,
        Err(failure) => {
            log::fatal(&failure.message);
            failure.code
        }
    }
}

fn run(arguments: Arguments, inherited: Inherited) -> Outcome {
    let global = arguments.global;
    let root = StateRoot::new(global.root.clone().unwrap_or_else(crate::rootless::default_root));
    match arguments.command {
        Command::Create(args) => {
            isolate()?;
            create::create(&root, &global, args, inherited)
        }
        Command::Run(args) => {
            isolate()?;
            create::run(&root, &global, args)
        }
        Command::Exec(args) => {
            isolate()?;
            exec::exec(&root, args)
        }
        Command::Start(args) => signal::start(&root, &args.id),
        Command::State(args) => state::state(&root, &args.id),
        Command::Kill(args) => signal::kill(&root, args),
        Command::Delete(args) => signal::delete(&root, args),
        Command::Pause(args) => signal::pause(&root, &args.id),
        Command::Resume(args) => signal::resume(&root, &args.id),
        Command::List(args) => list::list(&root, global.root.as_deref(), args),
        Command::Ps(args) => ps::ps(&root, args),
        Command::Spec(args) => spec::spec(args),
        Command::Features => features::features(),
        Command::Update(args) => update::update(&root, args),
        Command::Checkpoint(args) => checkpoint::checkpoint(&root, *args),
        Command::Restore(args) => {
            isolate()?;
            restore::restore(&root, &global, *args)
        }
        Command::Events(args) => events::events(&root, args),
    }
}

/// Before this process enters a container's namespaces: its executable cannot be written to, nobody there can look
/// into it or trace it, and no descriptor that it was started with goes further than it is meant to.
fn isolate() -> Result<(), Failure> {
    self_exe::protect().map_err(|e| Failure::new(format!("protecting the runtime's executable: {e}")))?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|e| Failure::new(format!("making the runtime undumpable: {e}")))?;
    wharf_sys::fds::cloexec_from(3).map_err(|e| Failure::new(format!("closing inherited descriptors: {e}")))
}
