//! The key sequence that detaches: its spelling, and finding it in what is typed.

/// ctrl-p, ctrl-q.
pub(crate) const DEFAULT: &[u8] = &[16, 17];

/// Reads `ctrl-p,ctrl-q` or `a,b`: letters, or `ctrl-` and one of `a`-`z @ [ \ ] ^ _`.
pub(crate) fn parse(keys: &str) -> Result<Vec<u8>, String> {
    keys.split(',')
        .map(|key| {
            if let [byte] = key.as_bytes() {
                return Ok(*byte);
            }
            match key.to_ascii_lowercase().strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
                Some(b"@") => Ok(0),
                Some([mark @ b'['..=b'_']) => Ok(mark - b'[' + 27),
                _ => Err(format!("unknown character: '{key}'")),
            }
        })
        .collect()
}

/// Watches input for the sequence. Keys that may be its beginning are held back until it is clear.
#[derive(Debug)]
pub(crate) struct Watcher {
    keys: Vec<u8>,
    matched: usize,
}

impl Watcher {
    /// An empty sequence never detaches.
    pub(crate) fn new(keys: Vec<u8>) -> Watcher {
        Watcher { keys, matched: 0 }
    }

    /// What of `typed` to pass on, and whether the sequence is complete. What follows it is dropped.
    pub(crate) fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len() + self.matched);
        if self.keys.is_empty() {
            out.extend_from_slice(typed);
            return (out, false);
        }
        for &key in typed {
            if key == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if key == self.keys[0] && self.keys.len() > 1 {
                self.matched = 1;
            } else {
                out.push(key);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_spelled_as_docker_spells_them() {
        assert_eq!(parse("ctrl-p,ctrl-q").as_deref(), Ok(DEFAULT));
        assert_eq!(parse("a,ctrl-@,ctrl-[,ctrl-_").as_deref(), Ok(&[b'a', 0, 27, 31][..]));
        assert_eq!(parse("shift-a"), Err("unknown character: 'shift-a'".to_owned()));
        assert!(parse("").is_err() && parse("ctrl-").is_err() && parse("é").is_err());
    }

    #[test]
    fn a_complete_sequence_detaches_and_a_broken_one_is_passed_on() {
        let mut watcher = Watcher::new(DEFAULT.to_vec());
        assert_eq!(watcher.filter(b"ab\x10c"), (b"ab\x10c".to_vec(), false));
        assert_eq!(watcher.filter(b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(watcher.filter(b"\x10"), (b"\x10".to_vec(), false));
        assert_eq!(watcher.filter(b"\x11rest"), (b"".to_vec(), true));
        assert_eq!(Watcher::new(Vec::new()).filter(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
