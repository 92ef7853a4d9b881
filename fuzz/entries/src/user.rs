//! `USER` looked up in a container's passwd and group files.

use wharf_oci::user::{Files, MAX_ID, resolve};

use crate::outcome;

/// Input: the user on the first line, groups to add on the second (between commas), then passwd, and group after a line
/// of `--`.
pub fn user(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\n');
    let spec = parts.next().unwrap_or_default();
    let add: Vec<String> =
        parts.next().unwrap_or_default().split(',').filter(|g| !g.is_empty()).map(str::to_owned).collect();
    let files = parts.next().unwrap_or_default();
    let (passwd, group) = match files.split_once("\n--\n") {
        Some((passwd, group)) => (passwd, Some(group)),
        None => (files, None),
    };
    let files =
        Files { passwd: Some(passwd.as_bytes().to_vec()), group: group.map(|g| g.as_bytes().to_vec()) };
    let ids = resolve(spec, &files, &add);
    if let Ok(ids) = &ids {
        let all = ids.additional_gids.iter().chain([&ids.uid, &ids.gid]);
        all.for_each(|id| assert!(*id <= MAX_ID, "{id} is out of range"));
        if let Some(home) = runw::home_in(passwd, ids.uid) {
            assert!(home.starts_with('/') && !home.contains('\0'), "{home:?}");
        }
    }
    outcome::of("user", &ids, |ids| ids.additional_gids.len() + 8 * usize::from(ids.home.is_some()))
}
