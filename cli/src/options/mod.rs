//! The little languages of docker's flags: each parses into the type that the API takes.

pub(crate) mod device;
pub(crate) mod filter;
pub(crate) mod instant;
pub(crate) mod key_value;
pub(crate) mod limit;
pub(crate) mod mode;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod security;
pub(crate) mod volume;

/// The fields of one line of comma-separated values, with `"quoted, parts"`.
pub(crate) fn csv(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields[last].push('"');
            }
            '"' if quoted => quoted = false,
            '"' if fields[last].is_empty() => quoted = true,
            '"' => return Err("parse error: bare \" in non-quoted-field".to_owned()),
            ',' if !quoted => fields.push(String::new()),
            '\n' | '\r' if !quoted => return Err("parse error: more than one line".to_owned()),
            c => fields[last].push(c),
        }
    }
    if quoted { Err("parse error: extraneous or missing \" in quoted-field".to_owned()) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn csv_fields_may_be_quoted() {
        let fields = |line| super::csv(line).expect(line);
        assert_eq!(fields("a=1,b=2"), ["a=1", "b=2"]);
        assert_eq!(fields("\"volume-opt=o=x,y\",ro"), ["volume-opt=o=x,y", "ro"]);
        assert_eq!(fields("\"a\"\"b\""), ["a\"b"]);
        assert!(super::csv("\"a").is_err() && super::csv("a\"b").is_err());
    }
}
