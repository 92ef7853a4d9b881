//! Paths of an archive, made harmless as far as that can be told without looking.

use std::ffi::{CStr, CString};

/// Components below the root, none of them empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EntryPath(Vec<CString>);

impl EntryPath {
    pub(crate) fn root() -> Self {
        EntryPath(Vec::new())
    }

    /// A leading slash means the root of the target. `a/../b` is `b`; `None` if the path leaves the root.
    pub(crate) fn parse(path: &[u8]) -> Option<Self> {
        let mut parts = Vec::new();
        for part in path.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop()?;
                }
                part => parts.push(CString::new(part).ok()?),
            }
        }
        Some(EntryPath(parts))
    }

    /// Parent and last component; `None` for the root.
    pub(crate) fn split(&self) -> Option<(EntryPath, CString)> {
        let (name, parent) = self.0.split_last()?;
        Some((EntryPath(parent.to_vec()), name.clone()))
    }

    pub(crate) fn components(&self) -> impl DoubleEndedIterator<Item = &CString> {
        self.0.iter()
    }

    pub(crate) fn push(&mut self, name: CString) {
        self.0.push(name);
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn join(&self, name: &CStr) -> EntryPath {
        let mut parts = self.0.clone();
        parts.push(name.to_owned());
        EntryPath(parts)
    }

    /// Where a symbolic link in this directory points, as far as its text says. An absolute one starts at the
    /// root, and one that leaves the root stops there, as a changed root would have it.
    pub(crate) fn follow(&self, link: &[u8]) -> EntryPath {
        let mut parts = if link.starts_with(b"/") { Vec::new() } else { self.0.clone() };
        for part in link.split(|&b| b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.extend(CString::new(part)),
            }
        }
        EntryPath(parts)
    }

    /// Relative, without a leading slash; `.` for the root.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return b".".to_vec();
        }
        self.0.iter().map(|part| part.to_bytes()).collect::<Vec<_>>().join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(path: &str) -> Option<String> {
        Some(String::from_utf8(EntryPath::parse(path.as_bytes())?.to_bytes()).unwrap())
    }

    #[test]
    fn paths_stay_below_the_root() {
        for (path, want) in [
            ("a/b", Some("a/b")),
            ("/a//./b/", Some("a/b")),
            ("./", Some(".")),
            ("", Some(".")),
            ("a/../b", Some("b")),
            ("..", None),
            ("a/../../b", None),
            ("/../etc", None),
        ] {
            assert_eq!(clean(path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let here = EntryPath::parse(b"usr/bin").unwrap();
        for (link, want) in
            [("../lib", "usr/lib"), ("/etc", "etc"), ("../../../x", "x"), ("y/./z", "usr/bin/y/z")]
        {
            assert_eq!(here.follow(link.as_bytes()).to_bytes(), want.as_bytes());
        }
    }
}
