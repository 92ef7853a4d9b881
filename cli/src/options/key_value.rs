//! Variables, labels and other `name=value` lists, from flags and from files.

use std::collections::BTreeMap;
use std::path::PathBuf;

const MAX_FILE: u64 = 16 << 20;

/// `-e`: `NAME=value`, or `NAME` to take this process's value (sent bare if there is none, which unsets it).
pub(crate) fn env(text: &str) -> Result<String, String> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(std::env::var(name).map_or_else(|_| text.to_owned(), |value| format!("{name}={value}")))
}

/// `-l`: anything with a name.
pub(crate) fn label(text: &str) -> Result<String, String> {
    if text.split('=').next().is_none_or(str::is_empty) {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok(text.to_owned())
}

/// What a line of a file means that has no `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare {
    /// This process's variable of that name, or nothing.
    Environment,
    /// The name alone.
    Keep,
}

/// The pairs of all files, then those of the flags.
pub(crate) fn merge(files: &[PathBuf], flags: Vec<String>, bare: Bare) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for path in files {
        out.extend(read(path, bare)?);
    }
    out.extend(flags);
    Ok(out)
}

fn read(path: &PathBuf, bare: Bare) -> Result<Vec<String>, String> {
    use std::io::Read as _;
    let shown = path.display();
    let failed = |bad: std::io::Error| format!("open {shown}: {}", crate::error::go_text(&bad));
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)).map_err(failed)?;
    let text =
        String::from_utf8(bytes).map_err(|_| format!("invalid env file ({shown}): invalid utf8 bytes"))?;
    parse(text.trim_start_matches('\u{feff}'), bare)
        .map_err(|bad| format!("invalid env file ({shown}): {bad}"))
}

fn parse(text: &str, bare: Bare) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        if name.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        match (value, bare) {
            (Some(value), _) => out.push(format!("{name}={value}")),
            (None, Bare::Keep) => out.push(name.to_owned()),
            (None, Bare::Environment) => {
                if let Ok(value) = std::env::var(name) {
                    out.push(format!("{name}={value}"));
                }
            }
        }
    }
    Ok(out)
}

/// Pairs as a map; a name alone has an empty value, the last of a name wins.
pub(crate) fn to_map(pairs: &[String]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (pair.clone(), String::new()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_taken_from_flags_files_and_the_environment() {
        assert_eq!(env("A=b=c").as_deref(), Ok("A=b=c"));
        assert_eq!(env("A=").as_deref(), Ok("A="));
        assert_eq!(env("WHARF_NO_SUCH_VARIABLE").as_deref(), Ok("WHARF_NO_SUCH_VARIABLE"));
        assert_eq!(env("=x"), Err("invalid environment variable: =x".to_owned()));
        let text = "# comment\n  A=1 2 \n\nB=\nWHARF_NO_SUCH_VARIABLE\n";
        assert_eq!(parse(text, Bare::Environment).expect("parses"), ["A=1 2 ", "B="]);
        assert_eq!(parse("a.label\nb=c", Bare::Keep).expect("parses"), ["a.label", "b=c"]);
        assert_eq!(parse("a b=c", Bare::Keep), Err("variable 'a b' contains whitespaces".to_owned()));
        assert_eq!(parse("=c", Bare::Keep), Err("no variable name on line '=c'".to_owned()));
        assert_eq!(
            to_map(&["a=1".to_owned(), "b".to_owned(), "a=2".to_owned()]),
            BTreeMap::from([("a".into(), "2".into()), ("b".into(), String::new())])
        );
    }
}
