//! Values of the domain as containerd's messages, and back.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use lifecycle_metadata::{AnyValue, Descriptor};
use lifecycle_snapshots::Mount;
use prost_types::{Any, FieldMask, Timestamp};
use tonic::Status;
use wharf_containerd::containerd::types;
use wharf_kinds::Kind;
use wharf_vocab::{Digest, Labels};

use crate::status::status;

pub(crate) fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Some(match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Timestamp { seconds: after.as_secs() as i64, nanos: after.subsec_nanos() as i32 },
        Err(before) => {
            let before = before.duration();
            match before.subsec_nanos() {
                0 => Timestamp { seconds: -(before.as_secs() as i64), nanos: 0 },
                nanos => {
                    Timestamp { seconds: -(before.as_secs() as i64) - 1, nanos: 1_000_000_000 - nanos as i32 }
                }
            }
        }
    })
}

/// Seconds that a protobuf timestamp may have: the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// `None` for no time, and for one that is out of protobuf's range.
pub(crate) fn system_time(time: Option<Timestamp>) -> Option<SystemTime> {
    let time = time.filter(|time| SECONDS.contains(&time.seconds) && time.nanos < 1_000_000_000)?;
    let nanos = Duration::from_nanos(u64::try_from(time.nanos).ok()?);
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    };
    whole?.checked_add(nanos)
}

pub(crate) fn labels(labels: HashMap<String, String>) -> Labels {
    labels.into_iter().collect()
}

pub(crate) fn label_map(labels: Labels) -> HashMap<String, String> {
    labels.into_iter().collect()
}

pub(crate) fn mask(mask: Option<FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}

pub(crate) fn any(value: AnyValue) -> Any {
    Any { type_url: value.type_url, value: value.value }
}

pub(crate) fn any_value(any: Any) -> AnyValue {
    AnyValue { type_url: any.type_url, value: any.value }
}

pub(crate) fn descriptor(descriptor: Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type,
        digest: descriptor.digest.into(),
        size: descriptor.size,
        annotations: label_map(descriptor.annotations),
    }
}

/// InvalidArgument for a digest that is none.
pub(crate) fn descriptor_from(descriptor: types::Descriptor) -> Result<Descriptor, Status> {
    let digest = Digest::parse(&descriptor.digest).map_err(|error| {
        let text = format!("target.Digest {:?} invalid: {error}: invalid argument", descriptor.digest);
        status(Kind::InvalidArgument, text)
    })?;
    Ok(Descriptor {
        media_type: descriptor.media_type,
        digest,
        size: descriptor.size,
        annotations: labels(descriptor.annotations),
    })
}

pub(crate) fn mounts(mounts: Vec<Mount>) -> Vec<types::Mount> {
    let convert =
        |m: Mount| types::Mount { r#type: m.kind, source: m.source, target: m.target, options: m.options };
    mounts.into_iter().map(convert).collect()
}

pub(crate) fn mounts_from(mounts: Vec<types::Mount>) -> Vec<Mount> {
    let convert =
        |m: types::Mount| Mount { kind: m.r#type, source: m.source, target: m.target, options: m.options };
    mounts.into_iter().map(convert).collect()
}

/// A part of a request that must be there.
pub(crate) fn required<T>(part: Option<T>, name: &str) -> Result<T, Status> {
    part.ok_or_else(|| status(Kind::InvalidArgument, format_args!("{name} required: invalid argument")))
}

/// A size or count that the wire says as a signed number.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wire() {
        for seconds in [0i64, 1, -1, 1_700_000_000, -1_700_000_000] {
            for nanos in [0, 1, 999_999_999] {
                let wire = Timestamp { seconds, nanos };
                assert_eq!(timestamp(system_time(Some(wire)).unwrap()), Some(wire));
            }
        }
        assert_eq!(system_time(Some(Timestamp { seconds: 0, nanos: -1 })), None);
        assert_eq!(system_time(Some(Timestamp { seconds: i64::MIN, nanos: 0 })), None);
    }
}
