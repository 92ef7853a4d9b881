//! Saving a container's processes to files through CRIU. Happens only when it is asked for by name, and takes no option
//! from annotations, which an image can have a say in: no configuration file of CRIU's is read for a container.

pub mod external;

use super::ContainerError;
use super::exec::saved_spec;
use super::status::{Container, Status};
use crate::criu::{self, Choices, Feature, Message, Notice, Streams, Version, Worker};
use crate::log;
use crate::rootfs::resolve::Root;
use crate::spec::Spec;
use external::External;
use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{FileType, Mode, OFlags, fstat};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

const LOG: &str = "dump.log";
/// In the directory of the images: what the standard streams were.
pub const DESCRIPTORS: &str = "descriptors.json";
/// The oldest CRIU that has the requests made here; that takes external pid namespaces and tells that pages are served
/// by a stop; that freezes by version 2's freezer.
pub const OLDEST: u32 = 30_000;
pub const EXTERNAL_NAMESPACES: u32 = 31_500;
const STATUS_READY: u32 = 31_500;
const UNIFIED_FREEZER: u32 = 31_400;
/// How many lines of CRIU's log that tell of an error are repeated, and how much of it is looked at.
const MAX_LINES: usize = 20;
const MAX_LOG: u64 = 8 << 20;

/// How to save it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub images: PathBuf,
    pub work: Option<PathBuf>,
    /// Of an earlier pre-dump, relative to the images.
    pub parent: Option<PathBuf>,
    pub pre_dump: bool,
    pub leave_running: bool,
    pub tcp_skip_in_flight: bool,
    pub link_remap: bool,
    pub status_fd: Option<i32>,
    pub page_server: Option<(String, u16)>,
    pub choices: Choices,
}

/// Saves the processes; unless they are to go on they are gone then.
pub fn checkpoint(container: &Container, options: &Options) -> Result<(), ContainerError> {
    let status = container.status();
    if matches!(status, Status::Created | Status::Stopped) {
        return Err(ContainerError::Refused(format!(
            "Container cannot be checkpointed in {} state",
            status.as_str()
        )));
    }
    let version = criu::version()?;
    version.at_least(OLDEST)?;
    let images = open_dir(&options.images)?;
    if let Some(parent) = &options.parent {
        if parent.is_absolute() {
            return Err(ContainerError::Refused("--parent-path must be relative".into()));
        }
        let parent = options.images.join(parent);
        if !parent.is_dir() {
            return Err(ContainerError::Refused(format!(
                "invalid --parent-path: {} is not a directory",
                parent.display()
            )));
        }
    }
    let work = options.work.as_deref().map(open_dir).transpose()?;
    let spec = saved_spec(container)?;
    let mut message = flags(container, options, version);
    message.number(1, images.as_raw_fd() as u64);
    if let Some(work) = &work {
        message.number(17, work.as_raw_fd() as u64);
    }
    namespaces(&spec, version, &mut message)?;
    if options.pre_dump {
        criu::require(Feature::MemTrack)?;
    } else {
        mounts(container, &spec, &mut message)?;
        descriptors(container, &options.images)?;
    }
    if options.choices.lazy_pages {
        criu::require(Feature::LazyPages)?;
    }
    let kind = if options.pre_dump { criu::PRE_DUMP } else { criu::DUMP };
    let mut status = options.status_fd;
    let stopped = |notice: Notice| {
        if notice.script == "status-ready"
            && let Some(fd) = status.take()
            && let Err(e) = std::fs::write(format!("/proc/self/fd/{fd}"), [0])
        {
            log::warn(&format!("telling --status-fd {fd} that pages are served: {e}"));
        }
        Ok(())
    };
    let worker = Worker::start(Streams::None)?;
    worker.run(kind, &message, stopped).inspect_err(|_: &ContainerError| {
        quote(&options.work.as_ref().unwrap_or(&options.images).join(LOG));
    })
}

/// A directory for images or logs, made if it is missing.
pub fn open_dir(path: &Path) -> Result<std::fs::File, ContainerError> {
    let failed = || ContainerError::act(format!("opening {}", path.display()));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed())?;
    std::fs::File::open(path).map_err(failed())
}

/// Fields of criu_opts.
fn flags(container: &Container, options: &Options, version: Version) -> Message {
    let mut m = options.choices.request(LOG);
    m.number(2, container.pid() as u64)
        .text(13, &container.record.rootfs.to_string_lossy())
        .flag(3, options.leave_running)
        .flag(46, options.tcp_skip_in_flight)
        .flag(18, options.link_remap);
    if let Some(fd) = options.status_fd
        && version < Version(STATUS_READY)
    {
        m.number(49, fd as u64);
    }
    if let Some((address, port)) = &options.page_server {
        m.message(11, Message::default().text(1, address).number(2, (*port).into()));
    }
    if let Some(parent) = &options.parent {
        m.text(14, &parent.to_string_lossy()).flag(15, true);
    }
    let cgroup = &container.record.cgroup.0;
    let unified = cgroup.get("").filter(|_| cgroup.len() == 1 && version >= Version(UNIFIED_FREEZER));
    if let Some(freezer) = cgroup.get("freezer").or(unified) {
        m.text(44, &freezer.to_string_lossy());
    }
    m
}

/// Network and pid namespaces that others made are not saved, but named for the restore.
fn namespaces(spec: &Spec, version: Version, message: &mut Message) -> Result<(), ContainerError> {
    for ns in spec.linux.iter().flat_map(|l| l.namespaces().iter().flatten()) {
        let (kind, key) = match ns.typ() {
            LinuxNamespaceType::Network => ("net", "extRootNetNS"),
            LinuxNamespaceType::Pid => ("pid", "extRootPidNS"),
            _ => continue,
        };
        if let Some(path) = ns.path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
            version.at_least(EXTERNAL_NAMESPACES)?;
            let inode = std::fs::metadata(path)
                .map_err(ContainerError::act(format!("looking at {}", path.display())))?
                .ino();
            message.text(37, &format!("{kind}[{inode}]:{key}"));
        }
    }
    Ok(())
}

/// What is mounted from outside the container: bind mounts, cgroups shown as such, and what hides files.
fn mounts(container: &Container, spec: &Spec, message: &mut Message) -> Result<(), ContainerError> {
    let path = format!("/proc/{}/root", container.pid());
    let root = rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(ContainerError::act(format!("opening {path}")))?;
    let root = Root::new(root);
    for External { target, .. } in external::mounts(&root, spec, &container.record)? {
        external::add(message, &target, &target);
    }
    let linux = spec.linux.as_ref();
    for masked in linux.iter().flat_map(|l| l.masked_paths().iter().flatten()) {
        // one that is not there hides nothing; a directory is hidden by a filesystem of its own
        let file = root.open(Path::new(masked), OFlags::PATH).ok().and_then(|fd| fstat(&fd).ok());
        if file.is_some_and(|s| FileType::from_raw_mode(s.st_mode) != FileType::Directory) {
            external::add(message, masked, external::MASK);
        }
    }
    for device in external::devices(spec) {
        external::add(message, &device, &device);
    }
    Ok(())
}

/// What the standard streams are, by which a restore puts others in their place.
fn descriptors(container: &Container, images: &Path) -> Result<(), ContainerError> {
    let pid = container.pid();
    let link = |fd: i32| {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}"));
        target.map(|t| t.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let path = images.join(DESCRIPTORS);
    let text = serde_json::json!([link(0), link(1), link(2)]).to_string();
    std::fs::write(&path, text).map_err(ContainerError::act(format!("writing {}", path.display())))
}

/// What CRIU's log says of errors, into ours.
pub fn quote(path: &Path) {
    use std::io::{BufRead, BufReader, Read};
    let Ok(file) = std::fs::File::open(path) else { return };
    let lines = BufReader::new(file.take(MAX_LOG)).split(b'\n').map_while(Result::ok);
    let errors = lines.map(|l| String::from_utf8_lossy(&l).into_owned()).filter(|l| l.contains("Error"));
    for line in errors.take(MAX_LINES) {
        log::warn(&format!("{}: {line}", path.display()));
    }
}
