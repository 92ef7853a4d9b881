//! The installation's id, a random UUID kept in the root folder.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why the installation has no id.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("read the installation's id from {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("draw an id for the installation: {0}")]
    Draw(#[source] io::Error),
    #[error("keep the installation's id: {0}")]
    Keep(#[source] wharf_store::file::FileError),
}

/// Reads the id of the installation at `root`, or makes one.
pub(crate) fn of(root: &Path) -> Result<String, IdentityError> {
    let path = root.join("uuid");
    match fs::read_to_string(&path) {
        Ok(text) if is_uuid(text.trim()) => return Ok(text.trim().to_owned()),
        // cut short or empty: a machine went down while it was written
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(IdentityError::Read { path, source }),
    }
    let uuid = random().map_err(IdentityError::Draw)?;
    wharf_store::file::replace(&path, uuid.as_bytes(), 0o644).map_err(IdentityError::Keep)?;
    Ok(uuid)
}

/// A random UUID (RFC 9562, version 4).
fn random() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_made_once_and_kept() {
        let root = tempfile::tempdir().expect("folder");
        let first = of(root.path()).expect("made");
        assert!(is_uuid(&first), "{first}");
        assert_eq!(of(root.path()).expect("kept"), first);
        fs::write(root.path().join("uuid"), "").expect("damage");
        assert_ne!(of(root.path()).expect("made again"), first);
    }
}
