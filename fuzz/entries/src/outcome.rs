//! A number for what became of an input.

use std::fmt::{Debug, Display};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Words of an error that are told apart; what follows is mostly the input's.
const WORDS: usize = 12;

/// The same number for the same refusal, whatever values it names; for what was accepted, `count` tells apart.
pub(crate) fn of<T, E: Display>(stage: &str, result: &Result<T, E>, count: impl Fn(&T) -> usize) -> u64 {
    let mut hash = DefaultHasher::new();
    stage.hash(&mut hash);
    match result {
        Ok(value) => count(value).checked_ilog2().hash(&mut hash),
        Err(e) => {
            let text = e.to_string();
            // what stands between quotes is the input's
            let plain: String = text.split('"').step_by(2).collect();
            for word in plain.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty()).take(WORDS)
            {
                word.hash(&mut hash);
            }
        }
    }
    hash.finish()
}

/// The value, or a panic that says what was wrong with what.
pub(crate) fn must<T, E: Debug>(result: Result<T, E>, what: &str, input: &dyn Debug) -> T {
    match result {
        Ok(value) => value,
        Err(e) => panic!("{what}: {e:?}, for {input:?}"),
    }
}
