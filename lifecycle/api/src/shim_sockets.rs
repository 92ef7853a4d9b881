//! Where shims put their sockets.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// containerd's shims name a socket by 64 digits, and an address has room for 107 bytes.
const LONGEST: usize = 107 - 1 - 64;
/// Short links to folders that are deeper than that.
const LINKS: &str = "/run/wharf/s";

/// Makes the folder `s` of the state folder; gives a path to it that is short enough for every shim's socket.
///
/// That is a link in a fixed place where the state folder is deep. Who may not make one gets the long path: only
/// foreign shims fail with it.
pub(crate) fn make(state: &Path) -> io::Result<PathBuf> {
    let folder = state.join("s");
    DirBuilder::new().recursive(true).mode(0o711).create(&folder)?;
    if folder.as_os_str().len() <= LONGEST {
        return Ok(folder);
    }
    match link(&folder, Path::new(LINKS)) {
        Ok(short) => Ok(short),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "too deep for the sockets of some shims");
            Ok(folder)
        }
    }
}

fn link(folder: &Path, links: &Path) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o711).create(links)?;
    let meta = fs::metadata(folder)?;
    // no other folder has this name while this one is there
    let short = links.join(format!("{:x}-{:x}", meta.dev(), meta.ino()));
    match symlink(folder, &short) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::read_link(&short)? != folder {
                // left by a folder that is gone
                fs::remove_file(&short)?;
                symlink(folder, &short)?;
            }
        }
        made => made?,
    }
    Ok(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_folder_is_reached_by_a_short_link_that_stays() {
        let at = tempfile::tempdir().expect("folder");
        let (deep, links) = (at.path().join("x".repeat(90)), at.path().join("l"));
        fs::create_dir(&deep).expect("folder");
        let short = link(&deep, &links).expect("link");
        fs::write(short.join("socket"), "").expect("write");
        assert!(deep.join("socket").exists());
        assert_eq!(link(&deep, &links).expect("again"), short);
        // a stale link of that name is replaced
        fs::remove_file(&short).expect("remove");
        symlink("/nowhere", &short).expect("stale");
        assert_eq!(link(&deep, &links).expect("again"), short);
        assert!(short.join("socket").exists());
    }

    #[test]
    fn short_folder_is_used_as_it_is() {
        let at = tempfile::Builder::new().prefix("s").tempdir_in("/tmp").expect("folder");
        assert_eq!(make(at.path()).expect("made"), at.path().join("s"));
    }
}
