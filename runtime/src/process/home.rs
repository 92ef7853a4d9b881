//! HOME of a user, from the container's /etc/passwd: parsed here, with bounds, never through the C library's name
//! services, which would load code of the container.

use crate::rootfs::resolve::Root;
use rustix::fs::OFlags;
use std::io::Read;
use std::path::Path;

const MAX_PASSWD: u64 = 1 << 20;

/// The home directory of `uid`, "/" if it has none.
pub fn of(root: &Root, uid: u32) -> String {
    let mut text = Vec::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    if let Ok(fd) = root.open(Path::new("/etc/passwd"), flags) {
        let _ = std::fs::File::from(fd).take(MAX_PASSWD).read_to_end(&mut text);
    }
    find(&String::from_utf8_lossy(&text), uid).unwrap_or("/").to_owned()
}

/// The home directory of `uid` in passwd(5) lines, name:password:uid:gid:comment:home:shell.
pub fn find(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let id = fields.nth(2)?.parse::<u32>().ok()?;
        let home = fields.nth(2)?;
        (id == uid && home.starts_with('/') && !home.contains('\0')).then_some(home)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_an_id_is_found() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbroken\nu:x:99999999999:1::/x:\nd:x:1:1:d:/usr/sbin:/x\n";
        assert_eq!(find(passwd, 0), Some("/root"));
        assert_eq!(find(passwd, 1), Some("/usr/sbin"));
        assert_eq!(find(passwd, 2), None);
    }
}
