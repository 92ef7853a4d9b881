//! Paths cleaned by their text alone.

/// The components of `path` with `.` and empty ones dropped and `..` taken off, never above the start.
///
/// Cgroup directories have no symlinks, so the text alone decides where a path leads.
pub(crate) fn clean(path: &str) -> Vec<&str> {
    let mut out = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            name => out.push(name),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn dot_dot_never_climbs_above_the_start() {
        assert_eq!(clean("/a/../../b/./c//"), ["b", "c"]);
        assert_eq!(clean("../../x"), ["x"]);
        assert!(clean("/..").is_empty());
    }
}
