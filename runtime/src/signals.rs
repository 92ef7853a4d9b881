//! Signal names and numbers as `kill` takes them.

/// By number, from 1 (signal(7), x86 and Arm).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=SIGRTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(i) = NAMES.iter().position(|n| *n == name) {
        return Some(i as i32 + 1);
    }
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        r => r.strip_prefix(sign)?.parse::<i32>().ok(),
    };
    let number = match name {
        "IOT" => 6,
        "POLL" => 29,
        "CLD" => 17,
        n if n.starts_with("RTMIN") => SIGRTMIN.checked_add(offset(n.get(5..)?, '+')?)?,
        n if n.starts_with("RTMAX") => SIGRTMAX.checked_sub(offset(n.get(5..)?, '-')?)?,
        _ => return None,
    };
    (1..=SIGRTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("SYS", 31),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for bad in ["FOO", "", "65", "-1", "RTMIN+99", "RTMIN3", "99999999999"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
