//! `{{ … }}` in the words of a mount: what earlier mounts of the same activation came to.
//!
//! `{{ source 0 }}`, `{{ target 0 }}` and `{{ mount 0 }}` are the source, the target and the mount point of the first
//! mount; `{{ overlay 0 2 }}` is the mount points of the first three joined with colons, `{{ overlay 2 0 }}` the same
//! backwards.

use lifecycle_metadata::{ActiveMount, MountSpec};

use crate::error::ActivateError;

/// Bytes that a text may have after everything is put in.
const MAX_TEXT: usize = 1 << 20;

/// Fills in the source, the target and the options.
pub(crate) fn fill(mount: &mut MountSpec, active: &[ActiveMount]) -> Result<(), ActivateError> {
    for text in [&mut mount.source, &mut mount.target].into_iter().chain(&mut mount.options) {
        if text.contains("{{") {
            *text = evaluate(text, active)?;
        }
    }
    Ok(())
}

fn evaluate(text: &str, active: &[ActiveMount]) -> Result<String, ActivateError> {
    let wrong = |why: String| ActivateError::Invalid(format!("{text:?}: {why}"));
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) =
            after.split_once("}}").ok_or_else(|| wrong("an opening brace without a closing one".into()))?;
        let (inside, trims_before) = match inside.strip_prefix("- ") {
            Some(inside) => (inside, true),
            None => (inside, false),
        };
        let (inside, trims_after) = match inside.strip_suffix(" -") {
            Some(inside) => (inside, true),
            None => (inside, false),
        };
        out.push_str(if trims_before { before.trim_end() } else { before });
        out.push_str(&call(inside, active).map_err(wrong)?);
        rest = if trims_after { after.trim_start() } else { after };
        if out.len() + rest.len() > MAX_TEXT {
            return Err(ActivateError::Invalid("a formatted mount is longer than 1 MiB".into()));
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn call(inside: &str, active: &[ActiveMount]) -> Result<String, String> {
    let mut words = inside.split_whitespace();
    let function = words.next().unwrap_or_default();
    let numbers: Vec<usize> = words
        .map(|word| {
            let number = word.parse::<i64>().map_err(|_| format!("{word:?} is no number"))?;
            usize::try_from(number)
                .ok()
                .filter(|n| *n < active.len())
                .ok_or_else(|| format!("index out of bounds: {number}, has {} active mounts", active.len()))
        })
        .collect::<Result<_, _>>()?;
    match (function, numbers.as_slice()) {
        ("source", [n]) => Ok(active[*n].mount.source.clone()),
        ("target", [n]) => Ok(active[*n].mount.target.clone()),
        ("mount", [n]) => Ok(active[*n].point.clone()),
        ("overlay", [first, last]) => {
            let (low, high) = (*first.min(last), *first.max(last));
            let mut points: Vec<&str> = active[low..=high].iter().map(|m| m.point.as_str()).collect();
            if first > last {
                points.reverse();
            }
            Ok(points.join(":"))
        }
        ("source" | "target" | "mount", _) => Err(format!("{function} takes one number")),
        ("overlay", _) => Err("overlay takes two numbers".into()),
        _ => Err(format!("function {function:?} is not defined")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn active(n: usize) -> Vec<ActiveMount> {
        let one = |n: usize| ActiveMount {
            mount: MountSpec { source: format!("s{n}"), target: format!("t{n}"), ..MountSpec::default() },
            point: format!("/m/{n}"),
            at: SystemTime::UNIX_EPOCH,
            data: Default::default(),
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn earlier_mounts_are_put_in() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("{{ source 0 }}:{{target 1}}", "s0:t1"),
            ("upperdir={{ mount 2 }}/upper", "upperdir=/m/2/upper"),
            ("lowerdir={{ overlay 0 2 }}", "lowerdir=/m/0:/m/1:/m/2"),
            ("{{ overlay 2 0 }}", "/m/2:/m/1:/m/0"),
            ("{{ overlay 1 1 }}", "/m/1"),
            ("a {{- mount 0 -}} b", "a {{- mount 0 -}} b".replace(" {{- mount 0 -}} ", "/m/0").as_str()),
        ] {
            let mut mount = MountSpec { options: vec![text.into()], ..MountSpec::default() };
            fill(&mut mount, &active(3)).unwrap();
            assert_eq!(mount.options, [wanted], "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "{{ mount 3 }}",
            "{{ mount -1 }}",
            "{{ mount }}",
            "{{ mount 0 1 }}",
            "{{ overlay 0 3 }}",
            "{{ overlay 0 }}",
            "{{ exec 0 }}",
            "{{ }}",
            "{{ mount 0",
            "{{ mount zero }}",
        ] {
            let mut mount = MountSpec { source: text.into(), ..MountSpec::default() };
            assert!(matches!(fill(&mut mount, &active(3)), Err(ActivateError::Invalid(_))), "{text}");
        }
    }
}
