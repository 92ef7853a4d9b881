//! A container's environment.

/// Where programs are looked for if the image does not say.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The image's and the user's variables over Docker's own: PATH, HOSTNAME, and TERM with a terminal.
///
/// A later entry replaces an earlier one of the same name in its place; an entry without `=` removes the name.
pub fn container_env(given: &[String], hostname: &str, terminal: bool) -> Vec<String> {
    let mut out = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if terminal {
        out.push("TERM=xterm".to_owned());
    }
    for entry in given {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        let at = out.iter().position(|e| e.split_once('=').is_some_and(|(n, _)| n == name));
        match (entry.contains('='), at) {
            (true, Some(i)) => out[i].clone_from(entry),
            (true, None) => out.push(entry.clone()),
            (false, Some(i)) => drop(out.remove(i)),
            (false, None) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(given: &[&str], terminal: bool) -> Vec<String> {
        let given: Vec<String> = given.iter().map(|s| (*s).to_owned()).collect();
        container_env(&given, "h", terminal)
    }

    #[test]
    fn docker_sets_path_hostname_and_term() {
        assert_eq!(env(&[], true), [DEFAULT_PATH, "HOSTNAME=h", "TERM=xterm"]);
        assert_eq!(env(&["A=1", "PATH=/x"], false), ["PATH=/x", "HOSTNAME=h", "A=1"]);
    }

    #[test]
    fn the_last_value_wins_and_a_bare_name_unsets() {
        assert_eq!(env(&["A=1", "B=2", "A=3"], false)[2..], ["A=3", "B=2"]);
        assert_eq!(env(&["A=1", "A"], false).len(), 2);
        assert_eq!(env(&["HOSTNAME"], false), [DEFAULT_PATH]);
    }
}
