//! Finding the last records of a file without reading all of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::{Format, local};

const BLOCK: u64 = 64 * 1024;

/// Where the last records of a file begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// The last n begin at this offset.
    At(u64),
    /// The file has only so many.
    Only(u64),
}

/// Finds the last `n` records before `size`.
pub(crate) fn last(file: &File, format: Format, size: u64, n: u64) -> io::Result<Last> {
    match format {
        Format::JsonFile | Format::Cri => last_lines(file, size, n),
        Format::Local => last_entries(file, size, n),
    }
}

fn last_lines(file: &File, size: u64, n: u64) -> io::Result<Last> {
    let (mut seen, mut end) = (0, size);
    let mut block = vec![0; BLOCK as usize];
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let block = &mut block[..(end - start) as usize];
        file.read_exact_at(block, start)?;
        for at in memchr::memrchr_iter(b'\n', block) {
            if seen == n {
                return Ok(Last::At(start + at as u64 + 1));
            }
            seen += 1;
        }
        end = start;
    }
    Ok(if seen == n { Last::At(0) } else { Last::Only(seen) })
}

fn last_entries(file: &File, size: u64, n: u64) -> io::Result<Last> {
    let (mut seen, mut at) = (0, size);
    while at > 0 && seen < n {
        match entry_before(file, at)? {
            Some(start) => at = start,
            // an unfinished entry at the end: count from the front
            None if seen == 0 => return last_entries_forward(file, size, n),
            None => break,
        }
        seen += 1;
    }
    Ok(if seen == n { Last::At(at) } else { Last::Only(seen) })
}

fn last_entries_forward(file: &File, size: u64, n: u64) -> io::Result<Last> {
    let (mut total, mut at) = (0, 0);
    while let Some(next) = entry_after(file, at, size)? {
        (total, at) = (total + 1, next);
    }
    if total < n {
        return Ok(Last::Only(total));
    }
    at = 0;
    for _ in 0..total - n {
        at = entry_after(file, at, size)?.unwrap_or(at);
    }
    Ok(Last::At(at))
}

/// The start of the local-format entry that ends at `end`, if there is a whole one.
pub(crate) fn entry_before(file: &File, end: u64) -> io::Result<Option<u64>> {
    let (mut first, mut second) = ([0; 4], [0; 4]);
    if end < 8 {
        return Ok(None);
    }
    file.read_exact_at(&mut second, end - 4)?;
    let Some(start) = local::last_len(second).and_then(|len| end.checked_sub(len)) else { return Ok(None) };
    file.read_exact_at(&mut first, start)?;
    Ok((first == second).then_some(start))
}

/// The end of the local-format entry that starts at `start`, if a whole one lies before `size`.
pub(crate) fn entry_after(file: &File, start: u64, size: u64) -> io::Result<Option<u64>> {
    let (mut first, mut second) = ([0; 4], [0; 4]);
    if size.saturating_sub(start) < 8 {
        return Ok(None);
    }
    file.read_exact_at(&mut first, start)?;
    let Some(end) = local::last_len(first).map(|len| start + len).filter(|end| *end <= size) else {
        return Ok(None);
    };
    file.read_exact_at(&mut second, end - 4)?;
    Ok((first == second).then_some(end))
}
