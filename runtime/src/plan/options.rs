//! fstab-style mount options → attributes, propagation and filesystem parameters. Pure.

use wharf_sys::mount::{Propagation, attr};

/// Attribute bits to set and to clear on a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attrs {
    pub set: u64,
    pub clear: u64,
}

impl Attrs {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
    fn add(&mut self, bit: u64, on: bool) {
        if on {
            self.set |= bit;
            self.clear &= !bit;
        } else {
            self.clear |= bit;
            self.set &= !bit;
        }
    }
    /// The access-time modes are one field: setting one means clearing the field first.
    fn access_time(&mut self, mode: u64) {
        self.set = (self.set & !attr::ATIME_FIELD) | mode;
        self.clear |= attr::ATIME_FIELD;
    }
}

/// A parameter for the filesystem itself (fsconfig(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Param {
    Flag(String),
    Pair(String, String),
}

/// All options of one mount, sorted out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `bind` (false) or `rbind` (true).
    pub bind: Option<bool>,
    pub remount: bool,
    pub attrs: Attrs,
    /// Applied to the mount and all below it (`rro`, `rnosuid`, …).
    pub recursive_attrs: Attrs,
    /// In the order given; true: recursive.
    pub propagation: Vec<(Propagation, bool)>,
    pub params: Vec<Param>,
    pub tmpcopyup: bool,
    /// `idmap` (false) or `ridmap` (true).
    pub idmap: Option<bool>,
}

/// Every option this parser knows by name, for `features`.
pub const KNOWN: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

fn attribute(name: &str, attrs: &mut Attrs) -> bool {
    match name {
        "ro" => attrs.add(attr::RDONLY, true),
        "rw" => attrs.add(attr::RDONLY, false),
        "nosuid" => attrs.add(attr::NOSUID, true),
        "suid" => attrs.add(attr::NOSUID, false),
        "nodev" => attrs.add(attr::NODEV, true),
        "dev" => attrs.add(attr::NODEV, false),
        "noexec" => attrs.add(attr::NOEXEC, true),
        "exec" => attrs.add(attr::NOEXEC, false),
        "nosymfollow" => attrs.add(attr::NOSYMFOLLOW, true),
        "symfollow" => attrs.add(attr::NOSYMFOLLOW, false),
        "nodiratime" => attrs.add(attr::NODIRATIME, true),
        "diratime" => attrs.add(attr::NODIRATIME, false),
        "noatime" => attrs.access_time(attr::NOATIME),
        "strictatime" => attrs.access_time(attr::STRICTATIME),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => attrs.access_time(attr::RELATIME),
        _ => return false,
    }
    true
}

fn propagation(name: &str) -> Option<(Propagation, bool)> {
    Some(match name {
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        _ => return None,
    })
}

/// Sorts options out. Unknown names are parameters for the filesystem, which refuses what it does not know.
pub fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Options {
    let mut out = Options::default();
    for option in options {
        if let Some(p) = propagation(option) {
            out.propagation.push(p);
            continue;
        }
        if attribute(option, &mut out.attrs) {
            continue;
        }
        if let Some(rest) = option.strip_prefix('r')
            && attribute(rest, &mut out.recursive_attrs)
        {
            continue;
        }
        match option {
            "bind" => out.bind = Some(out.bind.unwrap_or(false)),
            "rbind" => out.bind = Some(true),
            "remount" => out.remount = true,
            "tmpcopyup" => out.tmpcopyup = true,
            "idmap" => out.idmap = Some(false),
            "ridmap" => out.idmap = Some(true),
            // either the default, or without effect on how the mount behaves
            "" | "defaults" | "async" | "nomand" | "nolazytime" | "noiversion" | "iversion" | "silent"
            | "loud" => {}
            "sync" | "dirsync" | "mand" | "lazytime" => out.params.push(Param::Flag(option.to_owned())),
            _ => out.params.push(match option.split_once('=') {
                Some((key, value)) => Param::Pair(key.to_owned(), value.to_owned()),
                None => Param::Flag(option.to_owned()),
            }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_options_of_dev_are_sorted_out() {
        let o = parse(["nosuid", "strictatime", "mode=755", "size=65536k"]);
        assert_eq!(o.attrs.set, attr::NOSUID | attr::STRICTATIME);
        assert_eq!(o.attrs.clear, attr::ATIME_FIELD);
        assert_eq!(
            o.params,
            [Param::Pair("mode".into(), "755".into()), Param::Pair("size".into(), "65536k".into())]
        );
        assert_eq!(o.bind, None);
    }

    #[test]
    fn the_last_of_two_opposite_options_wins() {
        assert_eq!(parse(["ro", "rw"]).attrs, Attrs { set: 0, clear: attr::RDONLY });
        assert_eq!(parse(["rw", "ro"]).attrs, Attrs { set: attr::RDONLY, clear: 0 });
    }

    #[test]
    fn recursive_names_do_not_swallow_plain_ones() {
        let o = parse(["rbind", "rro", "rprivate", "relatime"]);
        assert_eq!(o.bind, Some(true));
        assert_eq!(o.recursive_attrs.set, attr::RDONLY);
        assert_eq!(o.propagation, [(Propagation::Private, true)]);
        assert_eq!(o.attrs.clear, attr::ATIME_FIELD);
        assert!(o.params.is_empty());
    }

    #[test]
    fn every_known_name_is_no_filesystem_parameter() {
        for name in KNOWN.iter().filter(|n| !["sync", "dirsync", "mand", "lazytime"].contains(n)) {
            assert!(parse([*name]).params.is_empty(), "{name}");
        }
    }
}
