//! A container's mounts: Docker's defaults, and those asked for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount as SpecMount;

/// A mount asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Mount {
    /// A directory or file of the host.
    Bind {
        /// Absolute, on the host.
        source: PathBuf,
        /// Absolute, in the container.
        destination: String,
        /// Whether it can be written.
        read_only: ReadOnly,
        /// Whether mounts below the source come with it.
        recursive: bool,
        /// Whether later mounts are seen on the other side; none is `rprivate`.
        propagation: Option<Propagation>,
    },
    /// Memory.
    Tmpfs {
        /// Absolute, in the container.
        destination: String,
        /// `size=64m,exec` over Docker's `noexec,nosuid,nodev`; empty is none.
        options: String,
    },
    /// Anything else, put into the spec as it is.
    Other(SpecMount),
}

/// How far a bind cannot be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReadOnly {
    /// It can.
    #[default]
    No,
    /// With what is mounted below it where the kernel can, else itself (Docker's `:ro`).
    Default,
    /// Itself, but not what is mounted below it.
    NonRecursive,
    /// With what is mounted below it, or it is an error.
    Recursive,
}

/// Whether mounts made later are seen on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// Neither way, all mounts below too.
    RPrivate,
    /// Both ways.
    Shared,
    /// Both ways, all mounts below too.
    RShared,
    /// Into the container.
    Slave,
    /// Into the container, all mounts below too.
    RSlave,
}

impl Propagation {
    /// The mount option.
    pub const fn as_str(self) -> &'static str {
        match self {
            Propagation::Private => "private",
            Propagation::RPrivate => "rprivate",
            Propagation::Shared => "shared",
            Propagation::RShared => "rshared",
            Propagation::Slave => "slave",
            Propagation::RSlave => "rslave",
        }
    }

    /// The option's meaning, if it is one.
    pub fn parse(text: &str) -> Option<Propagation> {
        use Propagation as P;
        [P::Private, P::RPrivate, P::Shared, P::RShared, P::Slave, P::RSlave]
            .into_iter()
            .find(|p| p.as_str() == text)
    }
}

/// A mount that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not absolute, or the root.
    #[error("invalid mount destination {0:?}: it must be an absolute path below /")]
    Destination(String),
    /// Twice the same place.
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    /// A tmpfs option that Docker does not take.
    #[error("Invalid tmpfs option {0:?}")]
    TmpfsOption(String),
    /// `readonly-force-recursive` on a kernel without mount_setattr.
    #[error("mount {0:?}: recursively read-only mounts need Linux 5.12 or later")]
    RecursiveReadOnly(String),
}

const DEFAULT_SHM: u64 = 64 << 20;

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> SpecMount {
    let mut m = SpecMount::default();
    m.set_destination(destination.into())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    m
}

fn defaults() -> Vec<SpecMount> {
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
    ]
}

/// What decides about the default mounts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) shm_size: u64,
    pub(crate) no_shm: bool,
    pub(crate) readonly_root: bool,
    pub(crate) writable_sys: bool,
    pub(crate) writable_cgroups: bool,
    pub(crate) recursive_read_only: bool,
}

/// The mounts in the order to make them, and the propagation that the root needs for them.
pub(crate) fn plan(asked: &[Mount], o: Options) -> Result<(Vec<SpecMount>, Option<Propagation>), MountError> {
    let mut own: BTreeSet<PathBuf> = BTreeSet::new();
    for m in asked {
        let destination = m.destination();
        let normal = clean(&destination).ok_or_else(|| MountError::Destination(destination.clone()))?;
        if !own.insert(normal) {
            return Err(MountError::Duplicate(destination));
        }
    }
    let mut out = Vec::new();
    for mut m in defaults() {
        let destination = m.destination().clone();
        let under_own_dev = own.contains(Path::new("/dev")) && destination.starts_with("/dev");
        if own.contains(&destination) || under_own_dev {
            continue;
        }
        if destination == Path::new("/dev/shm") {
            if o.no_shm {
                continue;
            }
            let size = if o.shm_size == 0 { DEFAULT_SHM } else { o.shm_size };
            add_option(&mut m, &format!("size={size}"));
        }
        let text = destination.to_string_lossy();
        let stays_writable = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"].contains(&&*text);
        if o.readonly_root && !stays_writable && !has_option(&m, "ro") {
            add_option(&mut m, "ro");
        }
        if (o.writable_sys && text == "/sys") || (o.writable_cgroups && text == "/sys/fs/cgroup") {
            let options = m.options().clone().unwrap_or_default();
            m.set_options(Some(options.into_iter().filter(|o| o != "ro").collect()));
        }
        out.push(m);
    }
    let mut root = None;
    let mut sorted: Vec<&Mount> = asked.iter().collect();
    // a mount must not hide those below it
    sorted.sort_by_key(|m| Path::new(&m.destination()).components().count());
    for m in sorted {
        root = root_propagation(root, m);
        out.push(m.to_spec(o.recursive_read_only)?);
    }
    Ok((out, root))
}

fn root_propagation(now: Option<Propagation>, m: &Mount) -> Option<Propagation> {
    let Mount::Bind { propagation: Some(p), .. } = m else { return now };
    match (p, now) {
        (Propagation::Shared | Propagation::RShared, _) => Some(Propagation::Shared),
        (Propagation::Slave | Propagation::RSlave, None) => Some(Propagation::RSlave),
        _ => now,
    }
}

/// The path without `.`, `..` and doubled slashes; none if it is relative or the root.
fn clean(path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut out = PathBuf::from("/");
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(out.pop()),
            name => out.push(name),
        }
    }
    (out != Path::new("/")).then_some(out)
}

fn add_option(m: &mut SpecMount, option: &str) {
    let mut options = m.options().clone().unwrap_or_default();
    options.push(option.to_owned());
    m.set_options(Some(options));
}

fn has_option(m: &SpecMount, option: &str) -> bool {
    m.options().iter().flatten().any(|o| o == option)
}

impl Mount {
    fn destination(&self) -> String {
        match self {
            Mount::Bind { destination, .. } | Mount::Tmpfs { destination, .. } => destination.clone(),
            Mount::Other(m) => m.destination().to_string_lossy().into_owned(),
        }
    }

    fn to_spec(&self, rro: bool) -> Result<SpecMount, MountError> {
        match self {
            Mount::Other(m) => Ok(m.clone()),
            Mount::Tmpfs { destination, options } => {
                let options = tmpfs_options(options)?;
                let options: Vec<&str> = options.iter().map(String::as_str).collect();
                Ok(mount(destination, "tmpfs", "tmpfs", &options))
            }
            Mount::Bind { source, destination, read_only, recursive, propagation } => {
                let mut options = vec![if *recursive { "rbind" } else { "bind" }];
                match (read_only, rro) {
                    (ReadOnly::No, _) => {}
                    (ReadOnly::Default | ReadOnly::Recursive, true) => options.push("rro"),
                    (ReadOnly::Default, false) | (ReadOnly::NonRecursive, _) => options.push("ro"),
                    (ReadOnly::Recursive, false) => {
                        return Err(MountError::RecursiveReadOnly(destination.clone()));
                    }
                }
                options.push(propagation.unwrap_or(Propagation::RPrivate).as_str());
                let mut m = mount(destination, "bind", "", &options);
                m.set_source(Some(source.clone()));
                Ok(m)
            }
        }
    }
}

/// Mount options that exclude each other, first the one that sets the flag.
const FLAGS: [[&str; 2]; 13] = [
    ["ro", "rw"],
    ["nosuid", "suid"],
    ["nodev", "dev"],
    ["noexec", "exec"],
    ["sync", "async"],
    ["dirsync", ""],
    ["remount", ""],
    ["mand", "nomand"],
    ["noatime", "atime"],
    ["nodiratime", "diratime"],
    ["bind", ""],
    ["relatime", "norelatime"],
    ["strictatime", "nostrictatime"],
];
const DATA: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// Docker's options for every tmpfs, then the given; of options that exclude each other the last counts.
fn tmpfs_options(given: &str) -> Result<Vec<String>, MountError> {
    let all: Vec<&str> = ["noexec", "nosuid", "nodev", "rprivate"]
        .into_iter()
        .chain(given.split(',').filter(|o| !o.is_empty()))
        .collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut out = Vec::new();
    for option in all.into_iter().rev().filter(|o| *o != "defaults") {
        let key = if Propagation::parse(option).is_some() {
            "propagation".to_owned()
        } else if let Some([name, _]) = FLAGS.iter().find(|f| f.contains(&option)) {
            (*name).to_owned()
        } else {
            match option.split_once('=') {
                Some((name, _)) if DATA.contains(&name) => format!("{name}="),
                _ => return Err(MountError::TmpfsOption(option.to_owned())),
            }
        };
        if seen.insert(key) {
            out.push(option.to_owned());
        }
    }
    out.reverse();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Options = Options {
        shm_size: 0,
        no_shm: false,
        readonly_root: false,
        writable_sys: false,
        writable_cgroups: false,
        recursive_read_only: false,
    };

    fn bind(destination: &str, read_only: ReadOnly, propagation: Option<Propagation>) -> Mount {
        Mount::Bind {
            source: "/src".into(),
            destination: destination.into(),
            read_only,
            recursive: true,
            propagation,
        }
    }

    fn options(mounts: &[SpecMount], destination: &str) -> String {
        let found = mounts.iter().find(|m| m.destination() == Path::new(destination));
        found.map(|m| m.options().clone().unwrap_or_default().join(",")).unwrap_or_else(|| "none".into())
    }

    #[test]
    fn defaults_are_dockers() {
        let (m, root) = plan(&[], PLAIN).unwrap();
        assert_eq!(m.len(), 7);
        assert_eq!(options(&m, "/dev/shm"), "nosuid,noexec,nodev,mode=1777,size=67108864");
        assert_eq!(options(&m, "/sys"), "nosuid,noexec,nodev,ro");
        assert_eq!(root, None);
    }

    #[test]
    fn a_users_mount_takes_the_place_of_a_default() {
        let (m, _) =
            plan(&[bind("/dev/", ReadOnly::No, None), bind("/sys/fs/cgroup", ReadOnly::No, None)], PLAIN)
                .unwrap();
        let names: Vec<_> = m.iter().map(|m| m.destination().to_str().unwrap()).collect();
        assert_eq!(names, ["/proc", "/sys", "/dev/", "/sys/fs/cgroup"]);
    }

    #[test]
    fn mounts_are_made_from_the_top_down() {
        let asked = ["/a/b/c", "/a", "/a/b"].map(|d| bind(d, ReadOnly::No, None));
        let (m, _) = plan(&asked, PLAIN).unwrap();
        let names: Vec<_> = m[7..].iter().map(|m| m.destination().to_str().unwrap()).collect();
        assert_eq!(names, ["/a", "/a/b", "/a/b/c"]);
    }

    #[test]
    fn a_read_only_root_leaves_proc_and_dev_writable() {
        let (m, _) = plan(&[], Options { readonly_root: true, ..PLAIN }).unwrap();
        assert!(!options(&m, "/dev/shm").contains("ro,") && !options(&m, "/proc").ends_with("ro"));
        assert!(options(&m, "/sys/fs/cgroup").contains("ro"));
    }

    #[test]
    fn privileged_can_write_sys() {
        let (m, _) = plan(&[], Options { writable_sys: true, writable_cgroups: true, ..PLAIN }).unwrap();
        assert_eq!(options(&m, "/sys"), "nosuid,noexec,nodev");
        assert_eq!(options(&m, "/sys/fs/cgroup"), "nosuid,noexec,nodev");
    }

    #[test]
    fn read_only_binds_are_recursive_where_the_kernel_can() {
        for (read_only, rro, want) in [
            (ReadOnly::Default, false, "rbind,ro,rprivate"),
            (ReadOnly::Default, true, "rbind,rro,rprivate"),
            (ReadOnly::NonRecursive, true, "rbind,ro,rprivate"),
        ] {
            let (m, _) =
                plan(&[bind("/x", read_only, None)], Options { recursive_read_only: rro, ..PLAIN }).unwrap();
            assert_eq!(options(&m, "/x"), want);
        }
        assert!(plan(&[bind("/x", ReadOnly::Recursive, None)], PLAIN).is_err());
    }

    #[test]
    fn the_root_follows_the_most_open_propagation() {
        let slave = bind("/x", ReadOnly::No, Some(Propagation::Slave));
        let shared = bind("/y", ReadOnly::No, Some(Propagation::RShared));
        assert_eq!(plan(std::slice::from_ref(&slave), PLAIN).unwrap().1, Some(Propagation::RSlave));
        assert_eq!(plan(&[shared, slave], PLAIN).unwrap().1, Some(Propagation::Shared));
    }

    #[test]
    fn bad_destinations_are_refused() {
        for bad in ["", "x", "/", "/a/..", "/a\0"] {
            assert!(
                matches!(plan(&[bind(bad, ReadOnly::No, None)], PLAIN), Err(MountError::Destination(_))),
                "{bad:?}"
            );
        }
        let twice = ["/a", "/a/./"].map(|d| bind(d, ReadOnly::No, None));
        assert!(matches!(plan(&twice, PLAIN), Err(MountError::Duplicate(_))));
    }

    #[test]
    fn of_tmpfs_options_the_last_counts() {
        assert_eq!(tmpfs_options("").unwrap().join(","), "noexec,nosuid,nodev,rprivate");
        assert_eq!(
            tmpfs_options("exec,size=1m,size=2m").unwrap().join(","),
            "nosuid,nodev,rprivate,exec,size=2m"
        );
        for bad in ["uid", "context=x", "size"] {
            assert!(tmpfs_options(bad).is_err(), "{bad}");
        }
    }
}
