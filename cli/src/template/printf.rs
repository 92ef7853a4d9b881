//! Go's `fmt.Sprintf` for the values that templates have.

use super::quote::quote;
use super::value::Value;

/// Widths and precisions beyond this are refused, as Go refuses those beyond a million.
const MAX_WIDTH: usize = 1_000_000;

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats `args` by `format`; mistakes show up in the text, as in Go: `%!d(string=hi)`.
pub(crate) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut args_left = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            chars.next();
        }
        spec.width = number(&mut chars, &mut args_left, &mut out, "WIDTH");
        if chars.peek() == Some(&'.') {
            chars.next();
            spec.precision = Some(number(&mut chars, &mut args_left, &mut out, "PREC").unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args_left.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(arg) => out.push_str(&one(verb, &spec, arg)),
            },
        }
    }
    let extra: Vec<String> = args_left.map(|arg| format!("{}={}", arg.type_name(), arg.print())).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn number(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    args: &mut std::slice::Iter<'_, Value>,
    out: &mut String,
    what: &str,
) -> Option<usize> {
    if chars.peek() == Some(&'*') {
        chars.next();
        return match args.next() {
            Some(Value::Int(n)) if (0..=MAX_WIDTH as i64).contains(n) => usize::try_from(*n).ok(),
            _ => {
                out.push_str(&format!("%!(BAD{what})"));
                None
            }
        };
    }
    let mut value: Option<usize> = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        value = Some((value.unwrap_or(0) * 10 + digit as usize).min(MAX_WIDTH));
        chars.next();
    }
    value
}

fn one(verb: char, spec: &Spec, arg: &Value) -> String {
    if verb == 'T' {
        return pad(spec, arg.type_name().to_owned());
    }
    let text = match (arg, verb) {
        (Value::List(items), 's' | 'q' | 'd' | 'x') => {
            let shown: Vec<String> = items.iter().map(|item| one(verb, spec, item)).collect();
            return format!("[{}]", shown.join(" "));
        }
        (Value::Str(s), 'v' | 's') => {
            truncate(spec, if spec.sharp && verb == 'v' { quote(s) } else { s.clone() })
        }
        (Value::Str(s), 'q') => quote(&truncate(spec, s.clone())),
        (Value::Str(s), 'x') => s.bytes().map(|b| format!("{b:02x}")).collect(),
        (Value::Str(s), 'X') => s.bytes().map(|b| format!("{b:02X}")).collect(),
        (Value::Bool(b), 'v' | 't') => b.to_string(),
        (Value::Int(n), _) if is_integer_verb(verb) => integer(verb, spec, (*n).into()),
        (Value::Uint(n), _) if is_integer_verb(verb) => integer(verb, spec, (*n).into()),
        (Value::Float(n), 'v' | 'g' | 'f' | 'F' | 'e' | 'E' | 'G') => float(verb, spec, *n),
        (_, 'v') => arg.print_for_verb(),
        (Value::Nil(_) | Value::Missing, _) => return format!("%!{verb}(<nil>)"),
        _ => return format!("%!{verb}({}={})", arg.type_name(), arg.print()),
    };
    let numeric = matches!(arg, Value::Int(_) | Value::Uint(_) | Value::Float(_));
    if spec.zero && !spec.minus && numeric { zero_pad(spec, text) } else { pad(spec, text) }
}

fn is_integer_verb(verb: char) -> bool {
    matches!(verb, 'v' | 'd' | 'x' | 'X' | 'o' | 'b' | 'c' | 'q' | 'U')
}

fn integer(verb: char, spec: &Spec, n: i128) -> String {
    let magnitude = n.unsigned_abs();
    let digits = match verb {
        'x' => format!("{}{magnitude:x}", if spec.sharp { "0x" } else { "" }),
        'X' => format!("{}{magnitude:X}", if spec.sharp { "0X" } else { "" }),
        'o' => format!("{}{magnitude:o}", if spec.sharp { "0" } else { "" }),
        'b' => format!("{magnitude:b}"),
        'U' => return format!("U+{magnitude:04X}"),
        'c' | 'q' => {
            let c = u32::try_from(n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            return if verb == 'c' { c.to_string() } else { format!("'{c}'") };
        }
        _ => magnitude.to_string(),
    };
    format!("{}{digits}", sign(spec, n < 0))
}

fn sign(spec: &Spec, negative: bool) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn float(verb: char, spec: &Spec, n: f64) -> String {
    let magnitude = n.abs();
    let digits = match verb {
        'f' | 'F' => format!("{magnitude:.*}", spec.precision.unwrap_or(6)),
        'e' | 'E' => exponent(&format!("{magnitude:.*e}", spec.precision.unwrap_or(6)), verb),
        _ => float_shortest(magnitude),
    };
    format!("{}{digits}", sign(spec, n.is_sign_negative()))
}

/// Rust's `1.5e3` as Go's `1.5e+03`.
fn exponent(text: &str, mark: char) -> String {
    let Some((mantissa, power)) = text.split_once('e') else { return text.to_owned() };
    let (sign, digits) = power.strip_prefix('-').map_or(('+', power), |digits| ('-', digits));
    format!("{mantissa}{mark}{sign}{digits:0>2}")
}

/// Go's `%v` of a float: shortest digits, with an exponent below 1e-4 and from 1e21.
pub(crate) fn float_shortest(n: f64) -> String {
    if n.is_nan() {
        return "NaN".to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if n != 0.0 && !(1e-4..1e21).contains(&n.abs()) {
        return exponent(&format!("{n:e}"), 'e');
    }
    format!("{n}")
}

fn truncate(spec: &Spec, text: String) -> String {
    match spec.precision {
        Some(limit) => text.chars().take(limit).collect(),
        None => text,
    }
}

fn pad(spec: &Spec, text: String) -> String {
    let Some(missing) = spec.width.and_then(|width| width.checked_sub(text.chars().count())) else {
        return text;
    };
    let blanks = if spec.zero && !spec.minus { "0" } else { " " }.repeat(missing);
    if spec.minus { text + &blanks } else { blanks + &text }
}

fn zero_pad(spec: &Spec, text: String) -> String {
    let Some(missing) = spec.width.and_then(|width| width.checked_sub(text.chars().count())) else {
        return text;
    };
    let digits = text.trim_start_matches(['-', '+', ' ']);
    let sign = &text[..text.len() - digits.len()];
    format!("{sign}{}{digits}", "0".repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_flags_and_mistakes_print_as_in_go() {
        let s = |format: &str, args: &[Value]| sprintf(format, args);
        assert_eq!(
            s("%-6s|%6s|%.2s", &[Value::str("ab"), Value::str("cd"), Value::str("efg")]),
            "ab    |    cd|ef"
        );
        assert_eq!(
            s("%05d %+d %x %#x", &[Value::Int(-42), Value::Int(7), Value::Int(255), Value::Int(255)]),
            "-0042 +7 ff 0xff"
        );
        assert_eq!(
            s("%q %v %t", &[Value::str("a\"b"), Value::str("x"), Value::Bool(true)]),
            "\"a\\\"b\" x true"
        );
        assert_eq!(
            s("%.2f %e %v", &[Value::Float(1.005), Value::Float(1500.0), Value::Float(1e21)]),
            "1.00 1.500000e+03 1e+21"
        );
        assert_eq!(s("%d", &[Value::str("hi")]), "%!d(string=hi)");
        assert_eq!(s("%s", &[Value::Int(3)]), "%!s(int=3)");
        assert_eq!(s("%s %s", &[Value::str("a")]), "a %!s(MISSING)");
        assert_eq!(s("a", &[Value::Int(1)]), "a%!(EXTRA int=1)");
        assert_eq!(s("100%%%", &[]), "100%%!(NOVERB)");
        assert_eq!(s("%s", &[Value::List(vec![Value::str("a"), Value::str("b")])]), "[a b]");
    }
}
