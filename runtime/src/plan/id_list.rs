//! Lists of CPUs and of memory nodes: `0-3,7` (cpuset(7), "List format"). Pure.

/// As many as the kernel's usual limits (NR_CPUS of distributions is at most 8192, MAX_NUMNODES 1024).
pub const MAX_CPU: u32 = 8191;
pub const MAX_NODE: u32 = 1023;

/// The numbers of a list in its order; the error says what is wrong with it.
pub fn parse(text: &str, max: u32) -> Result<Vec<u32>, String> {
    let mut out = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| {
            let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
            let n = s.parse::<u32>().ok().filter(|_| digits);
            n.filter(|n| *n <= max).ok_or_else(|| {
                format!("{text:?} is not a list like \"0-3,7\" of numbers from 0 to {max} ({part:?})")
            })
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{text:?} has a range that ends before it begins ({part:?})"));
        }
        for n in first..=last {
            if !out.contains(&n) {
                out.push(n);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_numbers_are_listed_once() {
        assert_eq!(parse("0-2,7, 1", 9).unwrap(), [0, 1, 2, 7]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in ["", ",", "1,", "a", "3-1", "-1", "1-", "0-10", "+1", "0-9876543210"] {
            assert!(parse(bad, 9).is_err(), "{bad}");
        }
    }
}
