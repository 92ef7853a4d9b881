//! `checkpoint`.

use super::args::CheckpointArgs;
use super::{Failure, Outcome};
use crate::container::checkpoint::{Options, checkpoint as save};
use crate::container::delete::destroy;
use crate::container::status::Container;
use crate::criu::Choices;
use crate::state::StateRoot;

/// Where the images are unless a flag says.
pub const IMAGES: &str = "checkpoint";

pub fn checkpoint(root: &StateRoot, args: CheckpointArgs) -> Outcome {
    warn_rootless();
    let container = Container::load(root, &args.id)?;
    let options = options(&args)?;
    save(&container, &options)?;
    if !options.leave_running && !options.pre_dump {
        destroy(&container)?;
    }
    Ok(0)
}

fn options(args: &CheckpointArgs) -> Result<Options, Failure> {
    let cgroups_mode = cgroups_mode(args.manage_cgroups_mode.as_deref())?;
    check_empty_namespaces(&args.empty_ns)?;
    let page_server = match &args.page_server {
        None => None,
        Some(text) => {
            let (address, port) = text
                .rsplit_once(':')
                .filter(|(address, port)| !address.is_empty() && !port.is_empty())
                .ok_or_else(|| Failure::new("Use --page-server ADDRESS:PORT to specify page server"))?;
            let port = port.parse().map_err(|_| Failure::new("Invalid port number"))?;
            Some((address.trim_matches(['[', ']']).to_owned(), port))
        }
    };
    if let Some(fd) = args.status_fd
        && !wharf_sys::fds::is_open(fd)
    {
        return Err(Failure::new(format!("invalid --status-fd argument {fd}: not open")));
    }
    Ok(Options {
        images: args.image_path.clone().unwrap_or_else(|| IMAGES.into()),
        work: args.work_path.clone(),
        parent: args.parent_path.clone(),
        pre_dump: args.pre_dump,
        leave_running: args.leave_running,
        tcp_skip_in_flight: args.tcp_skip_in_flight,
        link_remap: args.link_remap,
        status_fd: args.status_fd,
        page_server,
        choices: Choices {
            tcp_established: args.tcp_established,
            ext_unix_sk: args.ext_unix_sk,
            shell_job: args.shell_job,
            file_locks: args.file_locks,
            auto_dedup: args.auto_dedup,
            lazy_pages: args.lazy_pages,
            cgroups_mode,
        },
    })
}

/// The number that CRIU has for a mode (enum criu_cg_mode).
pub fn cgroups_mode(flag: Option<&str>) -> Result<u64, Failure> {
    match flag.unwrap_or_default() {
        "ignore" => Ok(0),
        "soft" => Ok(3),
        "full" => Ok(4),
        "strict" => Ok(5),
        "" => Ok(6),
        _ => Err(Failure::new("invalid manage-cgroups-mode value")),
    }
}

/// Only that of the network can be left empty, and always is.
pub fn check_empty_namespaces(flags: &[String]) -> Result<(), Failure> {
    match flags.iter().find(|ns| *ns != "network") {
        Some(other) => Err(Failure::new(format!("namespace {other:?} is not supported"))),
        None => Ok(()),
    }
}

/// CRIU needs the host's root.
pub fn warn_rootless() {
    if crate::rootless::is_unprivileged() {
        crate::log::warn("runw checkpoint is untested with rootless containers");
    }
}
