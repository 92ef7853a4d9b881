//! The detach keys in a terminal client's input.

/// Looks for a key sequence in a stream, holding back what may be its beginning.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<u8>,
    held: Vec<u8>,
}

/// What a piece of input comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// These bytes are for the process.
    Input(Vec<u8>),
    /// These bytes are for the process; then the keys came. What followed them is dropped.
    Detach(Vec<u8>),
}

impl Keys {
    /// `None` for no keys.
    pub(super) fn new(keys: &[u8]) -> Option<Keys> {
        (!keys.is_empty()).then(|| Keys { keys: keys.to_vec(), held: Vec::new() })
    }

    pub(super) fn take(&mut self, input: &[u8]) -> Typed {
        let mut out = Vec::with_capacity(self.held.len() + input.len());
        for byte in input {
            self.held.push(*byte);
            while !self.keys.starts_with(&self.held) {
                out.push(self.held.remove(0));
            }
            if self.held.len() == self.keys.len() {
                self.held.clear();
                return Typed::Detach(out);
            }
        }
        Typed::Input(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(text: &[u8]) -> Keys {
        Keys::new(text).unwrap()
    }

    #[test]
    fn keys_are_found_whole_or_cut() {
        assert_eq!(keys(b"\x10\x11").take(b"ls\x10\x11rest"), Typed::Detach(b"ls".to_vec()));
        let mut k = keys(b"\x10\x11");
        assert_eq!(k.take(b"ls\x10"), Typed::Input(b"ls".to_vec()));
        assert_eq!(k.take(b"\x11"), Typed::Detach(Vec::new()));
    }

    #[test]
    fn a_beginning_that_does_not_go_on_is_input() {
        let mut k = keys(b"\x10\x11");
        assert_eq!(k.take(b"\x10"), Typed::Input(Vec::new()));
        assert_eq!(k.take(b"x"), Typed::Input(b"\x10x".to_vec()));
        assert_eq!(k.take(b"\x10\x10\x11"), Typed::Detach(b"\x10".to_vec()));
        assert_eq!(keys(b"aab").take(b"aaab"), Typed::Detach(b"a".to_vec()));
    }

    #[test]
    fn no_keys_is_none() {
        assert!(Keys::new(b"").is_none());
    }

    proptest! {
        #[test]
        fn input_without_the_keys_passes_unchanged(chunks in proptest::collection::vec("[ab]{0,6}", 0..8)) {
            let mut k = keys(b"abc");
            let mut out = Vec::new();
            for chunk in &chunks {
                match k.take(chunk.as_bytes()) {
                    Typed::Input(bytes) => out.extend(bytes),
                    Typed::Detach(_) => prop_assert!(false, "no c was typed"),
                }
            }
            out.extend(k.held);
            prop_assert_eq!(out, chunks.concat().into_bytes());
        }

        #[test]
        fn the_first_occurrence_detaches(text in "[abc]{0,20}", cut in 0usize..20) {
            let mut k = keys(b"abca");
            let (first, second) = text.as_bytes().split_at(cut.min(text.len()));
            let mut seen = Vec::new();
            let mut detached = false;
            for part in [first, second] {
                if detached { break; }
                match k.take(part) {
                    Typed::Input(bytes) => seen.extend(bytes),
                    Typed::Detach(bytes) => { seen.extend(bytes); detached = true; }
                }
            }
            match text.find("abca") {
                Some(at) => { prop_assert!(detached); prop_assert_eq!(seen, text.as_bytes()[..at].to_vec()); }
                None => prop_assert!(!detached),
            }
        }
    }
}
