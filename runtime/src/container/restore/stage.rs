//! The mount namespace that CRIU is started in: CRIU wants the root filesystem to be a mount of its own, and mount points
//! in it to be there. All of it is mounted where nobody else sees it, and gone with the last process that is there.

use crate::container::ContainerError;
use crate::plan::ContainerPlan;
use crate::plan::mounts::MountKind;
use crate::rootfs::mount::{attach, clone_of, open_target};
use crate::rootfs::resolve::{Root, Target};
use crate::state::StateDir;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind_recursive, unmount};
use rustix::process::{chroot, fchdir};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use wharf_sys::mount::{MountChange, Propagation, mount_setattr};
use wharf_sys::namespace::{Namespaces, setns, unshare};

/// Below the container's state.
pub const NAME: &str = "criu-root";
const OWN: &str = "/proc/self/ns/mnt";

/// This process's stay there. To be ended by [`Stage::leave`].
pub struct Stage {
    namespace: OwnedFd,
    root: OwnedFd,
    cwd: OwnedFd,
    name: String,
    at: PathBuf,
}

impl Stage {
    /// Enters a new one, where mounts of the host appear and none goes back to the host.
    pub fn enter(dir: &StateDir) -> Result<Self, ContainerError> {
        let failed = |act: &str| ContainerError::act::<Errno>(format!("{act} for criu"));
        let path = dir.path().join(NAME);
        std::fs::create_dir(&path).map_err(ContainerError::act(format!("creating {}", path.display())))?;
        let at = path.canonicalize().map_err(ContainerError::act(format!("finding {}", path.display())))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open("/", flags, Mode::empty()).map_err(failed("opening the root directory"))?;
        let cwd = open(".", flags, Mode::empty()).map_err(failed("opening the working directory"))?;
        let namespace = open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("opening the mount namespace"))?;
        unshare(Namespaces::MOUNT).map_err(ContainerError::act("making a mount namespace for criu"))?;
        let mut stage = Self { namespace, root, cwd, name: String::new(), at };
        let change =
            MountChange { propagation: Some(Propagation::Slave), recursive: true, ..MountChange::default() };
        let name = mount_setattr(CWD, c"/", &change).and_then(|()| std::fs::read_link(OWN));
        match name {
            Ok(name) => {
                stage.name = name.to_string_lossy().into_owned();
                Ok(stage)
            }
            Err(e) => {
                let error = ContainerError::act("preparing a mount namespace for criu")(e);
                stage.leave()?;
                Err(error)
            }
        }
    }

    /// Which one it is, as links in /proc say.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Where the root filesystem is mounted.
    pub fn root(&self) -> &Path {
        &self.at
    }

    /// Makes missing mount points of the root filesystem and mounts it, bare. Those below another mount of the container
    /// are made there: bind mounts are mounted meanwhile, and what is in a tmpfs comes back with it.
    pub fn prepare(&mut self, plan: &ContainerPlan) -> Result<Root, ContainerError> {
        let failed = || ContainerError::act::<Errno>(format!("mounting {}", plan.rootfs.display()));
        mount_bind_recursive(&plan.rootfs, &self.at).map_err(failed())?;
        let made = self.make_points(plan);
        unmount(&self.at, UnmountFlags::DETACH).map_err(failed())?;
        made?;
        mount_bind_recursive(&plan.rootfs, &self.at).map_err(failed())?;
        self.open_root()
    }

    fn open_root(&self) -> Result<Root, ContainerError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(&self.at, flags, Mode::empty())
            .map_err(ContainerError::act(format!("opening {}", self.at.display())))?;
        Ok(Root::new(fd))
    }

    fn make_points(&self, plan: &ContainerPlan) -> Result<(), ContainerError> {
        let root = self.open_root()?;
        let on_tmpfs = |path: &Path| {
            plan.mounts.iter().any(|m| {
                let tmpfs = matches!(&m.kind, MountKind::Fs { fstype, .. } if fstype == "tmpfs");
                tmpfs && path != m.target && path.starts_with(&m.target)
            })
        };
        for op in &plan.mounts {
            match &op.kind {
                // it is part of what is mounted at /sys, or saved with its tmpfs
                MountKind::Cgroup | MountKind::Change => {}
                _ if on_tmpfs(&op.target) => {}
                MountKind::Fs { .. } => {
                    open_target(&root, &op.target, Target::Directory)?;
                }
                MountKind::Bind { source, recursive, .. } => {
                    let failed = || ContainerError::act::<Errno>(format!("opening {}", source.display()));
                    let fd = open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed())?;
                    let stat = fstat(&fd).map_err(failed())?;
                    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                    let kind = if is_dir { Target::Directory } else { Target::File };
                    let target = open_target(&root, &op.target, kind)?;
                    attach(clone_of(&fd, source, *recursive)?, &target, &op.target)?;
                }
            }
        }
        Ok(())
    }

    /// Goes back to where this process was.
    pub fn leave(self) -> Result<(), ContainerError> {
        let failed = || "leaving the mount namespace for criu";
        setns(&self.namespace, Namespaces::MOUNT).map_err(ContainerError::act(failed()))?;
        fchdir(&self.root)
            .and_then(|()| chroot("."))
            .and_then(|()| fchdir(&self.cwd))
            .map_err(ContainerError::act::<Errno>(failed()))
    }
}
