//! Go's `path.Match` patterns, by which Docker filters image names.

/// Whether the whole text matches. `*` and `?` do not match a slash; none if the pattern is malformed.
pub(crate) fn matches(pattern: &str, text: &str) -> Option<bool> {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    if !is_well_formed(&pattern) {
        return None;
    }
    Some(run(&pattern, &text))
}

/// The last `*` is the only place to come back to: what was matched before it need not change.
fn run(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            back = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if t < text.len()
            && p < pattern.len()
            && let Some(length) = one(&pattern[p..], text[t])
        {
            p += length;
            t += 1;
            continue;
        }
        match &mut back {
            Some((after, at)) if *at < text.len() && text[*at] != '/' => {
                *at += 1;
                (p, t) = (*after, *at);
            }
            _ => return false,
        }
    }
}

/// How much of the pattern the letter matched.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern[0] {
        '?' => (letter != '/').then_some(1),
        '\\' => (pattern.get(1) == Some(&letter)).then_some(2),
        '[' => {
            let (is_in, length) = class(pattern, letter)?;
            is_in.then_some(length)
        }
        plain => (plain == letter).then_some(1),
    }
}

/// `[a-z]`, `[^a]`: whether the letter is in it, and its length; none if it is malformed.
fn class(pattern: &[char], letter: char) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let (mut is_in, mut any) = (false, false);
    loop {
        if *pattern.get(at)? == ']' && any {
            return Some((is_in != negated, at + 1));
        }
        let low = bound(pattern, &mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            bound(pattern, &mut at)?
        } else {
            low
        };
        is_in |= (low..=high).contains(&letter);
        any = true;
    }
}

fn bound(pattern: &[char], at: &mut usize) -> Option<char> {
    let letter = match *pattern.get(*at)? {
        '-' | ']' => return None,
        '\\' => {
            *at += 1;
            *pattern.get(*at)?
        }
        other => other,
    };
    *at += 1;
    Some(letter)
}

fn is_well_formed(pattern: &[char]) -> bool {
    let mut at = 0;
    while at < pattern.len() {
        at += match pattern[at] {
            '\\' if at + 1 == pattern.len() => return false,
            '\\' => 2,
            '[' => match class(&pattern[at..], 'x') {
                Some((_, length)) => length,
                None => return false,
            },
            _ => 1,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_go_s() {
        for (pattern, text, expected) in [
            ("busy*", "busybox", Some(true)),
            ("busy*", "busybox:latest", Some(true)),
            ("*", "a/b", Some(false)),
            ("*/*", "a/b", Some(true)),
            ("a*c*e", "abcde", Some(true)),
            ("a?c", "abc", Some(true)),
            ("a?c", "a/c", Some(false)),
            ("[a-c]x", "bx", Some(true)),
            ("[^a-c]x", "bx", Some(false)),
            ("\\*", "*", Some(true)),
            ("", "", Some(true)),
            ("*:1.*", "app:1.2", Some(true)),
            ("[", "x", None),
            ("[a", "x", None),
            ("[-]", "x", None),
            ("a\\", "x", None),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_long_time() {
        let pattern = "*a".repeat(50);
        assert_eq!(matches(&pattern, &"b".repeat(5000)), Some(false));
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[\\\\*?\\[\\]a-c^/-]{0,12}", text in "[a-c/]{0,8}") {
            matches(&pattern, &text);
        }
    }
}
