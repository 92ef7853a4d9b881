//! The life of an activation: record, mount, finish the record; forget, unmount.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::SystemTime;

use lifecycle_metadata::{Activation, ActiveMount, Metadata, MetadataError, MountSpec, Reclaim, Scope};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use wharf_failpoints::Point;
use wharf_mounts::{Mount, attach_loop, is_attached, release_loop};
use wharf_vocab::Labels;

use crate::error::ActivateError;
use crate::plan::{Handler, Plan, Preparation, Step, plan};
use crate::{prepare, template};

/// What an activation is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub mounts: Vec<MountSpec>,
    pub labels: Labels,
    /// Everything is mounted, and a bind mount of the result is left to the caller.
    pub temporary: bool,
    /// Types and preparations (`format/*`) that the caller sees to itself.
    pub allowed: Vec<String>,
}

/// The mounts that this daemon made; cheap to clone.
#[derive(Clone)]
pub struct Mounts(Arc<Inner>);

struct Inner {
    metadata: Metadata,
    /// `<number>/<order>` for each mount: a mount point, or a link to a device.
    targets: PathBuf,
    /// Below these directories are made for clients.
    roots: Vec<PathBuf>,
    /// Activations that somebody is at, by namespace and name.
    busy: Mutex<HashSet<(String, String)>>,
    released: Condvar,
}

struct Busy<'a> {
    inner: &'a Inner,
    key: (String, String),
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.inner.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.inner.released.notify_all();
    }
}

/// Tells one run of the machine from the next.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

impl Mounts {
    /// `targets` is made if it is not there; `roots` are where clients may have directories made, besides it.
    ///
    /// What a crash left half mounted is unmounted, and activations whose mounts are gone are forgotten.
    pub fn open(targets: &Path, roots: &[PathBuf], metadata: Metadata) -> Result<Self, ActivateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(targets)
            .map_err(ActivateError::io("create", targets))?;
        let targets = fs::canonicalize(targets).map_err(ActivateError::io("find", targets))?;
        let mut all = vec![targets.clone()];
        for root in roots {
            all.push(fs::canonicalize(root).map_err(ActivateError::io("find", root))?);
        }
        let mounts = Mounts(Arc::new(Inner {
            metadata,
            targets,
            roots: all,
            busy: Mutex::default(),
            released: Condvar::new(),
        }));
        mounts.recover()?;
        Ok(mounts)
    }

    fn recover(&self) -> Result<(), ActivateError> {
        let inner = &*self.0;
        let boot = fs::read_to_string(BOOT).map_err(ActivateError::io("read", BOOT))?;
        let known = inner.targets.join("boot");
        if fs::read_to_string(&known).is_ok_and(|last| last == boot) {
            let is_whole = |record: &Activation| {
                record.is_finished && record.active.iter().all(|one| inner.is_mounted(one))
            };
            inner.metadata.activations().retain(is_whole)?;
        } else {
            // nothing is mounted any more, and the devices that links lead to are somebody else's
            inner.metadata.activations().retain(|_| false)?;
            for id in inner.numbers()? {
                let directory = inner.targets.join(id.to_string());
                for path in entries(&directory)? {
                    if path.is_symlink() {
                        fs::remove_file(&path).map_err(ActivateError::io("remove", &path))?;
                    }
                }
            }
            fs::write(&known, boot).map_err(ActivateError::io("write", &known))?;
        }
        if let Err(error) = self.sweep() {
            // it must not keep the rest from being served; the collector tries again
            tracing::error!(%error, "unmounting what the last run left");
        }
        Ok(())
    }

    /// Mounts what is for the daemon to mount, under a name. The record tells what is left to the caller.
    ///
    /// Unimplemented if nothing is, AlreadyExists for a name in use: nothing was done.
    pub fn activate(&self, scope: &Scope, name: &str, request: Request) -> Result<Activation, ActivateError> {
        let inner = &*self.0;
        let plan = plan(&request.mounts, request.temporary, &request.allowed)?;
        let _busy = inner.take(scope, name);
        let activations = inner.metadata.activations();
        let id = activations.begin(scope, name, request.labels)?;
        wharf_failpoints::hit(Point::MountBegin);
        let directory = inner.targets.join(id.to_string());
        let mut active = Vec::new();
        let mounted = inner.mount_all(&directory, plan, request.temporary, &mut active);
        let finished = mounted.and_then(|system| {
            wharf_failpoints::check(Point::MountAll).map_err(ActivateError::io("finish", &directory))?;
            Ok(activations.finish(scope, name, active.clone(), system)?)
        });
        if finished.is_ok() {
            wharf_failpoints::hit(Point::MountFinished);
        }
        finished.inspect_err(|_| {
            if let Err(error) = inner.unmount_all(&directory) {
                tracing::warn!(%error, name, "undoing an activation that failed");
            }
            if let Err(error) = activations.remove(scope, name) {
                tracing::warn!(%error, name, "forgetting an activation that failed");
            }
        })
    }

    /// Unmounts it, the last mount first. What cannot be unmounted now is tried again by the collector.
    pub fn deactivate(&self, scope: &Scope, name: &str) -> Result<(), ActivateError> {
        let inner = &*self.0;
        let _busy = inner.take(scope, name);
        let record = inner.metadata.activations().remove(scope, name)?;
        wharf_failpoints::hit(Point::MountForgotten);
        inner.unmount_all(&inner.targets.join(record.id.to_string()))
    }

    pub fn info(&self, scope: &Scope, name: &str) -> Result<Activation, MetadataError> {
        self.0.metadata.activations().get(scope, name)
    }

    /// See [`lifecycle_metadata::Activations::list`].
    pub fn list(
        &self,
        scope: &Scope,
        filters: &[String],
    ) -> Result<Vec<(String, Activation)>, MetadataError> {
        self.0.metadata.activations().list(scope, filters)
    }

    /// See [`lifecycle_metadata::Activations::update`].
    pub fn update(
        &self,
        scope: &Scope,
        name: &str,
        labels: &Labels,
        mask: &[String],
    ) -> Result<Activation, MetadataError> {
        self.0.metadata.activations().update(scope, name, labels, mask)
    }

    /// Unmounts what has no record. How many activations that were; the first failure, after trying all.
    pub fn sweep(&self) -> Result<u64, ActivateError> {
        let inner = &*self.0;
        // directories first: one made after this look is not judged, and its record was made before it
        let present = inner.numbers()?;
        if present.is_empty() {
            return Ok(0);
        }
        let recorded = inner.metadata.activations().in_use()?;
        let (mut removed, mut failed) = (0, None);
        for id in present.into_iter().filter(|id| !recorded.contains(id)) {
            match inner.unmount_all(&inner.targets.join(id.to_string())) {
                Ok(()) => removed += 1,
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        failed.map_or(Ok(removed), Err)
    }
}

impl Inner {
    /// Waits until nobody else is at the activation.
    fn take(&self, scope: &Scope, name: &str) -> Busy<'_> {
        let key = (scope.namespace.clone(), name.to_owned());
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while busy.contains(&key) {
            busy = self.released.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        busy.insert(key.clone());
        Busy { inner: self, key }
    }

    /// Mounts in order; `active` has what was mounted, also after a failure. What is left to the caller.
    fn mount_all(
        &self,
        directory: &Path,
        plan: Plan,
        temporary: bool,
        active: &mut Vec<ActiveMount>,
    ) -> Result<Vec<MountSpec>, ActivateError> {
        DirBuilder::new().mode(0o700).create(directory).map_err(ActivateError::io("create", directory))?;
        for (n, step) in plan.now.into_iter().enumerate() {
            let handler = step.handler;
            let mount = self.prepare(step, active)?;
            let point = directory.join(format!("{n:03}"));
            match handler {
                Some(Handler::Loop) => {
                    let read_only = mount.options.iter().any(|option| option == "ro");
                    attach_loop(Path::new(&mount.source), &point, read_only)?;
                }
                Some(Handler::Erofs) => mount_image(&mount, &point)?,
                None => mount_at(&mount, &point)?,
            }
            let point = point.to_string_lossy().into_owned();
            active.push(ActiveMount { mount, point, at: SystemTime::now(), data: Default::default() });
            wharf_failpoints::check(Point::MountMade).map_err(ActivateError::io("go on in", directory))?;
        }
        let mut system = Vec::new();
        for step in plan.later {
            system.push(self.prepare(step, active)?);
        }
        if let (true, Some(last)) = (temporary, active.last()) {
            system.push(MountSpec {
                kind: "bind".into(),
                source: last.point.clone(),
                target: String::new(),
                options: vec!["rbind".into()],
            });
        }
        Ok(system)
    }

    fn prepare(&self, step: Step, active: &[ActiveMount]) -> Result<MountSpec, ActivateError> {
        let mut mount = step.mount;
        for preparation in step.preparations {
            match preparation {
                Preparation::Format => template::fill(&mut mount, active)?,
                Preparation::Mkdir => prepare::make_directories(&mut mount, &self.roots)?,
                Preparation::Mkfs => prepare::make_file_system(&mut mount, &self.roots)?,
            }
        }
        Ok(mount)
    }

    /// The last first. Only what is empty once it is unmounted is removed: nothing is ever removed recursively.
    fn unmount_all(&self, directory: &Path) -> Result<(), ActivateError> {
        let mut points = match entries(directory) {
            Err(ActivateError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            other => other?,
        };
        points.sort();
        let mut failed = None;
        for point in points.iter().rev() {
            if let Err(e) = unmount(point) {
                failed = failed.or(Some(e));
            }
            wharf_failpoints::hit(Point::MountUnmade);
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        match fs::remove_dir(directory) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(ActivateError::io("remove", directory)(e))
            }
            _ => Ok(()),
        }
    }

    fn is_mounted(&self, one: &ActiveMount) -> bool {
        let point = Path::new(&one.point);
        if one.mount.kind == "loop" { is_attached(point) } else { is_mount_point(point) }
    }

    fn numbers(&self) -> Result<Vec<u64>, ActivateError> {
        let names = entries(&self.targets)?;
        Ok(names.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect())
    }
}

impl Reclaim for Mounts {
    fn name(&self) -> &'static str {
        "mounts"
    }

    fn reclaim(&self) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.sweep()?)
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, ActivateError> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    };
    list().map_err(ActivateError::io("list", directory))
}

fn mount_at(mount: &MountSpec, point: &Path) -> Result<(), ActivateError> {
    let MountSpec { kind, source, target, options } = mount.clone();
    let planned = wharf_mounts::plan(&[Mount { kind, source, target, options }])?;
    match DirBuilder::new().mode(0o700).create(point) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(ActivateError::io("create", point)(e));
        }
        _ => {}
    }
    Ok(wharf_mounts::execute(&planned, point)?)
}

/// A file with an image: the kernel reads it itself (Linux 6.12), or through a loop device.
fn mount_image(mount: &MountSpec, point: &Path) -> Result<(), ActivateError> {
    if mount.options.iter().any(|option| option.starts_with("X-containerd.dmverity=")) {
        return Err(ActivateError::Unsupported("dm-verity for an EROFS image".into()));
    }
    let mut mount = mount.clone();
    mount.options.retain(|option| option != "loop");
    if !mount.options.iter().any(|option| option == "ro") {
        mount.options.push("ro".into());
    }
    match mount_at(&mount, point) {
        Err(ActivateError::Mount(e)) if e.os_error() == Some(rustix::io::Errno::NOTBLK.raw_os_error()) => {
            mount.options.push("loop".into());
            mount_at(&mount, point)
        }
        other => other,
    }
}

fn is_mount_point(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(CWD, path, flags, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Unmounts what is at a point, or releases the device that it leads to, and removes the point.
fn unmount(point: &Path) -> Result<(), ActivateError> {
    if point.is_symlink() {
        return Ok(release_loop(point, None)?);
    }
    wharf_mounts::unmount_all(point)?;
    match fs::remove_dir(point) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(ActivateError::io("remove", point)(e)),
        _ => Ok(()),
    }
}
