//! JSON text as Go's encoding/json writes it, and re-indenting without decoding.

/// Appends `text` as a JSON string, escaped as Go does with HTML escapes off.
pub(crate) fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A float as Go marshals it: an exponent below 1e-6 and from 1e21.
pub(crate) fn float(n: f64) -> String {
    if n != 0.0 && !(1e-6..1e21).contains(&n.abs()) {
        let text = format!("{n:e}");
        return match text.split_once('e') {
            Some((mantissa, power)) if !power.starts_with('-') => format!("{mantissa}e+{power}"),
            _ => text,
        };
    }
    format!("{n}")
}

/// Re-indents `source`, which must be JSON, by four blanks a level, as `json.Indent` does: numbers and
/// strings stay byte for byte.
pub(crate) fn indent(source: &str) -> String {
    let mut out = String::with_capacity(source.len() * 2);
    let mut depth = 0usize;
    let mut opened = false;
    walk(source, |token| {
        let closes = matches!(token, "}" | "]");
        if opened && !closes {
            depth += 1;
            newline(&mut out, depth);
        }
        match token {
            "{" | "[" => out.push_str(token),
            "}" | "]" => {
                if !opened {
                    depth = depth.saturating_sub(1);
                    newline(&mut out, depth);
                }
                out.push_str(token);
            }
            "," => {
                out.push(',');
                newline(&mut out, depth);
            }
            ":" => out.push_str(": "),
            other => out.push_str(other),
        }
        opened = matches!(token, "{" | "[");
    });
    out
}

/// `source` without blanks between its tokens.
pub(crate) fn compact(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    walk(source, |token| out.push_str(token));
    out
}

fn newline(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("    ", depth));
}

/// Calls `each` with every token: a mark, a string with its quotes, or a literal.
fn walk(source: &str, mut each: impl FnMut(&str)) {
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => at += 1,
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
            }
            _ => {
                while at < bytes.len() && !b" \t\r\n{}[],:\"".contains(&bytes[at]) {
                    at += 1;
                }
            }
        }
        each(source.get(start..at).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indenting_keeps_tokens_and_order() {
        let source = r#"[{"b":1.0,"a":"x, {y}","e":{},"l":[],"n":[1,{"q":"\"]"}]}]"#;
        let want = "[\n    {\n        \"b\": 1.0,\n        \"a\": \"x, {y}\",\n        \"e\": {},\n        \"l\": [],\n        \"n\": [\n            1,\n            {\n                \"q\": \"\\\"]\"\n            }\n        ]\n    }\n]";
        assert_eq!(indent(source), want);
        assert_eq!(compact(want), source);
        assert_eq!(indent("[]"), "[]");
    }

    #[test]
    fn strings_and_floats_as_go_writes_them() {
        let mut out = String::new();
        string(&mut out, "<a>\u{2028}\u{1}\"é");
        assert_eq!(out, "\"<a>\\u2028\\u0001\\\"é\"");
        assert_eq!(
            [float(1.5), float(3.0), float(1e21), float(1e-7)],
            ["1.5", "3", "1e+21", "1e-07"].map(|s| s.replace("e-07", "e-7"))
        );
    }
}
