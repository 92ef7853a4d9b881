//! PAX extended headers: lines of `LENGTH KEY=VALUE`.

use std::collections::BTreeMap;

use super::TarError;

/// What of an extended header matters here.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// GNU's three ways of telling the chunks of a sparse file.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    /// Size of the finished file.
    pub(super) size: Option<u64>,
    /// Version 1.0: the map stands before the data.
    pub(super) map_in_data: bool,
    /// Versions 0.0 and 0.1.
    pub(super) chunks: Vec<(u64, u64)>,
}

impl PaxSparse {
    pub(super) fn is_present(&self) -> bool {
        self.map_in_data || self.size.is_some()
    }
}

impl Pax {
    pub(super) fn parse(mut bytes: &[u8], at: u64) -> Result<Pax, TarError> {
        let error = |why| TarError::Pax { why, at };
        let mut pax = Pax::default();
        let mut xattrs = BTreeMap::new();
        let mut pending_offset = None;
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(error("malformed record"))?;
            bytes = rest;
            let whole = || decimal(value).ok_or(error("malformed number"));
            match key {
                b"path" => pax.path = (!value.is_empty()).then(|| value.to_vec()),
                b"linkpath" => pax.link = (!value.is_empty()).then(|| value.to_vec()),
                b"size" => pax.size = Some(whole()?),
                b"uid" => pax.uid = Some(whole()?),
                b"gid" => pax.gid = Some(whole()?),
                b"mtime" => pax.mtime = Some(time(value).ok_or(error("malformed time"))?),
                b"GNU.sparse.name" => pax.sparse.name = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => pax.sparse.size = Some(whole()?),
                b"GNU.sparse.major" => pax.sparse.map_in_data = whole()? == 1,
                b"GNU.sparse.offset" => pending_offset = Some(whole()?),
                b"GNU.sparse.numbytes" => {
                    let offset = pending_offset.take().ok_or(error("a sparse length without its offset"))?;
                    pax.sparse.chunks.push((offset, whole()?));
                }
                b"GNU.sparse.map" => pax.sparse.chunks = map(value).ok_or(error("malformed sparse map"))?,
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        if name.is_empty() || name.contains(&0) {
                            return Err(error("malformed name of an extended attribute"));
                        }
                        xattrs.insert(name.to_vec(), value.to_vec());
                    }
                }
            }
        }
        pax.xattrs = xattrs.into_iter().collect();
        Ok(pax)
    }
}

/// Key, value and what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    if length <= space + 1 || length > bytes.len() {
        return None;
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `[-]SECONDS[.FRACTION]`, digits beyond nanoseconds cut off.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|&b| b == b'.');
    let (whole, fraction) = point.map_or((text, &b""[..]), |p| (&text[..p], &text[p + 1..]));
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut nanos = 0u32;
    for place in 0..9 {
        let digit = fraction.get(place).map_or(Some(0), |&b| char::from(b).to_digit(10))?;
        nanos = nanos * 10 + digit;
    }
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        // the fraction counts forward from the second below
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

fn map(text: &[u8]) -> Option<Vec<(u64, u64)>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let numbers: Vec<u64> = text.split(|&b| b == b',').map(decimal).collect::<Option<_>>()?;
    numbers.len().is_multiple_of(2).then(|| numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nanoseconds_and_may_lie_before_the_epoch() {
        assert_eq!(time(b"1350244992.023960108"), Some((1350244992, 23960108)));
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time(b"7"), Some((7, 0)));
        assert_eq!(time(b"7.12345678999"), Some((7, 123456789)));
        assert_eq!(time(b""), None);
        assert_eq!(time(b"1.x"), None);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"4 a=\n"[..],
            b"99 a=b\n",
            b"6 a=bc",
            b"a=b\n",
            b"3 =",
            b"0 a=b\n",
            b"18446744073709551616 a=b\n",
        ] {
            assert!(Pax::parse(bad, 0).is_err(), "{bad:?}");
        }
        let pax = Pax::parse(b"13 path=a=b\n25 SCHILY.xattr.user.a=1\n", 0);
        assert!(pax.is_err(), "the first length is one too long");
        let pax = Pax::parse(b"12 path=a/b\n24 SCHILY.xattr.user.a=\n", 0).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"".to_vec())]);
    }
}
