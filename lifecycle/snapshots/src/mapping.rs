//! User and group mappings of a snapshot, from the labels that containerd's clients give:
//! `containerd.io/snapshot/uidmapping` and `…/gidmapping`, `<container id>:<host id>:<size>`, several after commas.

use wharf_vocab::Labels;

use crate::error::SnapshotError;

const UID: &str = "containerd.io/snapshot/uidmapping";
const GID: &str = "containerd.io/snapshot/gidmapping";

/// Ranges that the kernel takes for one user namespace.
const MAX_RANGES: usize = 340;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdMapping {
    users: Option<Ranges>,
    groups: Option<Ranges>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ranges {
    text: String,
    /// The host's id of the container's 0.
    root: u32,
}

impl IdMapping {
    /// `None` without such labels. InvalidArgument for one that cannot be read or does not map the root user.
    pub(crate) fn of(labels: &Labels) -> Result<Option<IdMapping>, SnapshotError> {
        let ranges = |name: &'static str| labels.get(name).map(|text| Ranges::parse(name, text)).transpose();
        let (users, groups) = (ranges(UID)?, ranges(GID)?);
        Ok((users.is_some() || groups.is_some()).then_some(IdMapping { users, groups }))
    }

    pub(crate) fn root_user(&self) -> Option<u32> {
        self.users.as_ref().map(|ranges| ranges.root)
    }

    pub(crate) fn root_group(&self) -> Option<u32> {
        self.groups.as_ref().map(|ranges| ranges.root)
    }

    /// For whoever mounts: `uidmap=` and `gidmap=`.
    pub(crate) fn options(&self) -> Vec<String> {
        let option = |name: &str, ranges: &Option<Ranges>| Some(format!("{name}={}", ranges.as_ref()?.text));
        [option("uidmap", &self.users), option("gidmap", &self.groups)].into_iter().flatten().collect()
    }
}

impl Ranges {
    fn parse(label: &'static str, text: &str) -> Result<Ranges, SnapshotError> {
        let wrong = || SnapshotError::Mapping { label, text: text.chars().take(128).collect() };
        let mut root = None;
        if text.split(',').count() > MAX_RANGES {
            return Err(wrong());
        }
        for range in text.split(',') {
            let parts = range.split(':').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>();
            let Some(&[inside, outside, size]) = parts.as_deref() else { return Err(wrong()) };
            let fits = |start: u32| start.checked_add(size).is_some();
            if size == 0 || !fits(inside) || !fits(outside) {
                return Err(wrong());
            }
            if inside == 0 {
                root = Some(outside);
            }
        }
        Ok(Ranges { text: text.into(), root: root.ok_or_else(wrong)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(value: &str) -> Labels {
        Labels::from([(UID.to_owned(), value.to_owned()), (GID.to_owned(), value.to_owned())])
    }

    #[test]
    fn mappings_are_read_and_given_on() {
        let mapping = IdMapping::of(&labels("0:100000:65536,65536:7:1")).unwrap().unwrap();
        assert_eq!((mapping.root_user(), mapping.root_group()), (Some(100_000), Some(100_000)));
        let text = "=0:100000:65536,65536:7:1";
        assert_eq!(mapping.options(), [format!("uidmap{text}"), format!("gidmap{text}")]);
        assert_eq!(IdMapping::of(&Labels::new()).unwrap(), None);
    }

    #[test]
    fn mappings_that_cannot_be_are_refused() {
        for value in ["", "0", "0:1", "0:1:0", "1:2:3", "0:4294967295:2", "0:-1:5", "0:1:2:3", "0:1:2,"] {
            assert!(IdMapping::of(&labels(value)).is_err(), "{value:?}");
        }
    }
}
