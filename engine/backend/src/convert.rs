//! Between the wire's messages and the types of this crate.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wharf_containerd::containerd::types as wire;

use crate::types::{Descriptor, Labels, Mount};

impl From<wire::Descriptor> for Descriptor {
    fn from(d: wire::Descriptor) -> Self {
        Self {
            media_type: d.media_type,
            digest: d.digest,
            size: u64::try_from(d.size).unwrap_or(0),
            annotations: d.annotations.into_iter().collect(),
        }
    }
}

impl From<Descriptor> for wire::Descriptor {
    fn from(d: Descriptor) -> Self {
        Self {
            media_type: d.media_type,
            digest: d.digest,
            size: i64::try_from(d.size).unwrap_or(i64::MAX),
            annotations: d.annotations.into_iter().collect(),
        }
    }
}

impl From<wire::Mount> for Mount {
    fn from(m: wire::Mount) -> Self {
        Self { kind: m.r#type, source: m.source, target: m.target, options: m.options }
    }
}

impl From<Mount> for wire::Mount {
    fn from(m: Mount) -> Self {
        Self { r#type: m.kind, source: m.source, target: m.target, options: m.options }
    }
}

pub(crate) fn mounts(list: Vec<wire::Mount>) -> Vec<Mount> {
    list.into_iter().map(Mount::from).collect()
}

pub(crate) fn wire_mounts(list: &[Mount]) -> Vec<wire::Mount> {
    list.iter().cloned().map(wire::Mount::from).collect()
}

pub(crate) fn labels(map: HashMap<String, String>) -> Labels {
    map.into_iter().collect()
}

pub(crate) fn wire_labels(map: &Labels) -> HashMap<String, String> {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// A missing or absurd timestamp is the epoch.
pub(crate) fn time(stamp: Option<prost_types::Timestamp>) -> SystemTime {
    exact_time(stamp).unwrap_or(UNIX_EPOCH)
}

/// None when the stamp is missing, zero, or Go's zero time (year 1).
pub(crate) fn exact_time(stamp: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    let stamp = stamp?;
    let seconds = u64::try_from(stamp.seconds).ok()?;
    let nanos = u32::try_from(stamp.nanos).ok()?;
    if seconds == 0 && nanos == 0 {
        return None;
    }
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos.min(999_999_999)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_zero_time_is_no_time() {
        let year_one = prost_types::Timestamp { seconds: -62_135_596_800, nanos: 0 };
        assert_eq!(exact_time(Some(year_one)), None);
        assert_eq!(exact_time(None), None);
        let real = prost_types::Timestamp { seconds: 5, nanos: 7 };
        assert_eq!(exact_time(Some(real)), Some(UNIX_EPOCH + Duration::new(5, 7)));
    }
}
