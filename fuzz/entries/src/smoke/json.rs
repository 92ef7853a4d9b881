//! Changes of JSON that leave it JSON.

use serde_json::Value;

use super::rng::Rng;

/// Bytes that one repetition may add.
const MAX_REPEATED: usize = 32 << 10;
const NUMBERS: [i64; 14] = [
    0,
    1,
    -1,
    7,
    64,
    255,
    4096,
    65536,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 32,
    i64::MAX,
    i64::MIN,
];
const STRINGS: [&str; 20] = [
    "",
    ".",
    "..",
    "/",
    "/..",
    "../../x",
    "//",
    "a\0b",
    "/proc",
    "/proc/self/fd",
    "/dev",
    "/sys/fs/cgroup",
    "ä",
    "=",
    ",",
    "0-",
    "4294967296",
    "18446744073709551615",
    "-1",
    "%",
];

/// Every string and key of a document, for use elsewhere in others.
pub fn words(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(s) => out.push(s.clone()),
        Value::Array(list) => list.iter().for_each(|v| words(v, out)),
        Value::Object(map) => map.iter().for_each(|(k, v)| {
            out.push(k.clone());
            words(v, out);
        }),
        _ => {}
    }
}

/// Changes one value somewhere in the document.
pub fn change(value: &mut Value, dictionary: &[String], rng: &mut Rng) {
    let inside = rng.below(8) != 0;
    match value {
        Value::Array(list) if inside && !list.is_empty() => {
            let at = rng.below(list.len());
            match rng.below(10) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                2 => {
                    let most = MAX_REPEATED / list[at].to_string().len().max(1);
                    (0..rng.below(300.min(most))).for_each(|_| list.push(list[at].clone()));
                }
                _ => change(&mut list[at], dictionary, rng),
            }
        }
        Value::Object(map) if inside && !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let Some(key) = rng.pick(&keys) else { return };
            if rng.below(16) == 0 {
                let taken = map.remove(key);
                if let (Some(name), Some(taken), 0) = (rng.pick(dictionary), taken, rng.below(2)) {
                    map.insert(name.clone(), taken);
                }
            } else if let Some(inner) = map.get_mut(key) {
                change(inner, dictionary, rng);
            }
        }
        Value::String(s) if inside => *s = string(s, dictionary, rng),
        other => *other = fresh(other, dictionary, rng),
    }
}

fn string(old: &str, dictionary: &[String], rng: &mut Rng) -> String {
    let word = match rng.below(3) {
        0 => rng.pick(&STRINGS).copied().unwrap_or_default(),
        _ => rng.pick(dictionary).map_or("", String::as_str),
    };
    match rng.below(6) {
        0 => format!("{old}{word}"),
        1 => format!("{word}/{old}"),
        2 => {
            let half: String = old.chars().take(rng.below(old.len() + 1)).collect();
            half + word
        }
        3 => old.repeat(1 + rng.below(40.min(MAX_REPEATED / old.len().max(1)))),
        _ => word.to_owned(),
    }
}

fn fresh(old: &Value, dictionary: &[String], rng: &mut Rng) -> Value {
    match rng.below(12) {
        0 => Value::Null,
        1 => Value::Bool(rng.below(2) == 0),
        2 => string("", dictionary, rng).into(),
        3 => Value::Array(vec![old.clone()]),
        4 => Value::Array(Vec::new()),
        5 => rng.next().into(),
        6 => 0.5.into(),
        7 if !old.is_number() => Value::Object(serde_json::Map::new()),
        _ => match old.as_i64() {
            Some(n) if rng.below(3) == 0 => n.wrapping_add(rng.below(5) as i64 - 2).into(),
            Some(_) => rng.pick(&NUMBERS).copied().unwrap_or_default().into(),
            None => old.clone(),
        },
    }
}
