//! Dockerfile instructions that set an image's config, as `import --change` takes them.

use std::collections::BTreeMap;

use wharf_docker::image::{Config, Empty};
use wharf_kinds::Kind;

/// Longest instruction, in bytes.
const MAX_LENGTH: usize = 64 << 10;
const MAX_CHANGES: usize = 1000;

/// An instruction that cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(
        "{0} is not a valid change command: want one of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR"
    )]
    Instruction(String),
    #[error("{instruction}: {reason}")]
    Argument { instruction: String, reason: &'static str },
    #[error("more than {MAX_CHANGES} changes, or one longer than {MAX_LENGTH} bytes")]
    TooMuch,
}

impl ChangeError {
    /// Always [`Kind::InvalidArgument`].
    pub const fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// The config that the instructions make of an empty one.
pub(crate) fn apply(changes: &[String]) -> Result<Config, ChangeError> {
    if changes.len() > MAX_CHANGES || changes.iter().any(|c| c.len() > MAX_LENGTH) {
        return Err(ChangeError::TooMuch);
    }
    let mut config = Config::default();
    for change in changes.iter().flat_map(|c| c.lines()).map(str::trim).filter(|c| !c.is_empty()) {
        apply_one(&mut config, change)?;
    }
    Ok(config)
}

fn apply_one(config: &mut Config, change: &str) -> Result<(), ChangeError> {
    let (name, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let (instruction, rest) = (name.to_ascii_uppercase(), rest.trim());
    let wrong = |reason| ChangeError::Argument { instruction: instruction.clone(), reason };
    if rest.is_empty() {
        return Err(wrong("it requires an argument"));
    }
    match instruction.as_str() {
        "CMD" => config.cmd = command(rest),
        "ENTRYPOINT" => config.entrypoint = command(rest),
        "ENV" => {
            for (key, value) in pairs(rest).ok_or_else(|| wrong("want KEY=VALUE"))? {
                config.env.retain(|e| e.split('=').next() != Some(&key));
                config.env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest).ok_or_else(|| wrong("want KEY=VALUE"))?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                for port in ports(port).ok_or_else(|| wrong("want PORT[-PORT][/tcp|/udp|/sctp]"))? {
                    config.exposed_ports.insert(port, Empty {});
                }
            }
        }
        "VOLUME" => {
            let paths =
                json_list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            if paths.iter().any(|p| p.trim().is_empty()) {
                return Err(wrong("a path is empty"));
            }
            config.volumes.extend(paths.into_iter().map(|p| (p, Empty {})));
        }
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "STOPSIGNAL" => config.stop_signal = rest.to_owned(),
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => {
            let base = if config.working_dir.is_empty() { "/" } else { config.working_dir.as_str() };
            config.working_dir = joined(base, rest);
        }
        _ => return Err(ChangeError::Instruction(instruction.chars().take(64).collect())),
    }
    Ok(())
}

/// A JSON list is the words themselves, anything else a line for the shell.
fn command(rest: &str) -> Vec<String> {
    json_list(rest).unwrap_or_else(|| ["/bin/sh", "-c", rest].map(str::to_owned).to_vec())
}

fn json_list(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[').then(|| serde_json::from_str(rest).ok()).flatten()
}

/// `K=V K2="v 2"`, or `K v` as one pair.
fn pairs(rest: &str) -> Option<BTreeMap<String, String>> {
    let words = words(rest)?;
    if !words.first()?.contains('=') {
        let (key, value) = rest.split_once(char::is_whitespace)?;
        return Some([(key.to_owned(), value.trim().to_owned())].into());
    }
    let split = |word: &String| {
        let (key, value) = word.split_once('=')?;
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    };
    words.iter().map(split).collect()
}

/// Words with quotes and backslashes undone; none if a quote is open at the end.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\\', q) if q != Some('\'') => word.get_or_insert_default().push(letters.next()?),
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

fn ports(text: &str) -> Option<Vec<String>> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
    (low > 0 && low <= high).then(|| (low..=high).map(|p| format!("{p}/{protocol}")).collect())
}

/// An absolute path in one spelling.
fn joined(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(changes: &[&str]) -> Result<Config, ChangeError> {
        apply(&changes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn instructions_set_the_config() {
        let config = of(&[
            "CMD [\"a\", \"b c\"]",
            "entrypoint run me",
            "ENV A=1 B=\"two words\" A=3",
            "ENV C spaces are kept",
            "LABEL x='y z' w=\\ v",
            "EXPOSE 80 53/udp 8000-8001",
            "VOLUME /data /more",
            "VOLUME [\"/with space\"]",
            "USER 1000:1000",
            "WORKDIR /srv/x",
            "WORKDIR ../y",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN x",
        ])
        .unwrap();
        assert_eq!(config.cmd, ["a", "b c"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "run me"]);
        assert_eq!(config.env, ["A=3", "B=two words", "C=spaces are kept"]);
        assert_eq!(config.labels["x"], "y z");
        assert_eq!(config.labels["w"], " v");
        assert_eq!(
            config.exposed_ports.keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]
        );
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/data", "/more", "/with space"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/srv/y"));
    }

    #[test]
    fn what_cannot_be_applied_is_refused() {
        for change in [
            "RUN x",
            "FROM x",
            "ENV",
            "ENV A",
            "ENV =x",
            "LABEL a=\"b",
            "EXPOSE 0",
            "EXPOSE 9-1",
            "EXPOSE 80/x",
        ] {
            assert!(of(&[change]).is_err(), "{change}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_change_panics(name in "(CMD|ENV|LABEL|EXPOSE|VOLUME|WORKDIR|USER)", rest in "\\PC{0,100}") {
            let _ = apply(&[format!("{name} {rest}")]);
        }
    }
}
