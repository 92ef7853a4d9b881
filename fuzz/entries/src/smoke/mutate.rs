//! New inputs from old ones.

use serde_json::Value;
use wharf_fuzz_entries::Form;

use super::json;
use super::rng::Rng;

/// Bytes of an input.
pub const MAX_INPUT: usize = 64 << 10;
const BLOCK: usize = 512;
const BYTES: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'/', b':', b'.', b'0', b'9', b'\n', b'@'];

/// Makes inputs of one form.
#[derive(Debug)]
pub struct Mutator {
    form: Form,
    dictionary: Vec<String>,
}

impl Mutator {
    pub fn new(form: Form, seeds: &[Vec<u8>]) -> Self {
        let mut dictionary = Vec::new();
        for seed in seeds {
            match serde_json::from_slice::<Value>(seed) {
                Ok(value) => json::words(&value, &mut dictionary),
                Err(_) => dictionary.extend(
                    String::from_utf8_lossy(seed)
                        .split(|c: char| c.is_ascii_control() || ":,@/\u{fffd}".contains(c))
                        .filter(|w| !w.is_empty() && w.len() < 64)
                        .map(str::to_owned),
                ),
            }
        }
        dictionary.extend(["..", "../untouched", "/", ".wh.", "99999999999999999999"].map(str::to_owned));
        dictionary.sort();
        dictionary.dedup();
        Mutator { form, dictionary }
    }

    /// One to eight changes of `old`, some of them parts of `other`.
    pub fn mutate(&self, old: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
        let changes = 1 << rng.below(4);
        // some of the JSON is broken as text
        if self.form == Form::Json
            && rng.below(8) != 0
            && let Ok(mut value) = serde_json::from_slice::<Value>(old)
        {
            let mut text = None;
            for _ in 0..changes {
                json::change(&mut value, &self.dictionary, rng);
                // a repetition of repetitions would grow without bound
                match serde_json::to_vec(&value) {
                    Ok(changed) if changed.len() <= MAX_INPUT => text = Some(changed),
                    _ => break,
                }
            }
            if let Some(text) = text {
                return text;
            }
        }
        let mut out = old.to_vec();
        (0..changes).for_each(|_| self.change(&mut out, other, rng));
        out.truncate(MAX_INPUT);
        if self.form == Form::Tar && rng.below(16) != 0 {
            right_checksums(&mut out);
        }
        out
    }

    fn change(&self, out: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
        let at = rng.below(out.len() + 1);
        let end = (at + 1 + rng.below(16)).min(out.len());
        match rng.below(10) {
            0 if at < out.len() => out[at] ^= 1 << rng.below(8),
            1 if at < out.len() => out[at] = rng.pick(&BYTES).copied().unwrap_or_default(),
            2 if at < out.len() => out[at] = out[at].wrapping_add(rng.below(9) as u8).wrapping_sub(4),
            3 => out.insert(at, rng.pick(&BYTES).copied().unwrap_or_default()),
            4 => drop(out.drain(at..end)),
            5 => {
                let piece = out[at..end].to_vec();
                let times = 1 + rng.below(64);
                out.splice(at..at, piece.repeat(times));
            }
            6 => {
                let word = rng.pick(&self.dictionary).map_or("", String::as_str).as_bytes();
                // in place half of the time: formats with offsets stay whole
                let end = if rng.below(2) == 0 { (at + word.len()).min(out.len()) } else { at };
                out.splice(at..end, word.iter().copied());
            }
            7 => {
                let from = rng.below(other.len() + 1);
                let to = (from + 1 + rng.below(64)).min(other.len());
                out.splice(at..at, other[from..to].iter().copied());
            }
            8 => {
                // whole blocks: an entry of another archive, or a half of another input
                let (cut, from) = (at / BLOCK * BLOCK, rng.below(other.len() + 1) / BLOCK * BLOCK);
                out.truncate(cut);
                out.extend_from_slice(&other[from..]);
            }
            _ => {
                let number = [0, 1, u32::MAX, 1 << 31, 0xffff][rng.below(5)].to_le_bytes();
                let end = (at + 4).min(out.len());
                out.splice(at..end, number);
            }
        }
    }
}

/// Rewrites the checksum of every block that looks like a header.
fn right_checksums(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(BLOCK) {
        if !block[257..].starts_with(b"ustar") {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
