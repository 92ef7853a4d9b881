//! `list`.

use super::args::{Format, ListArgs};
use super::state::View;
use super::{Failure, Outcome};
use crate::container::status::Container;
use crate::log;
use crate::state::StateRoot;
use std::path::Path;

/// `named`: the root directory that the caller asked for, which then has to exist.
pub fn list(root: &StateRoot, named: Option<&Path>, args: ListArgs) -> Outcome {
    if let Some(path) = named {
        std::fs::read_dir(path).map_err(|e| Failure::new(format!("opening {}: {e}", path.display())))?;
    }
    let mut containers = Vec::new();
    for (id, uid) in root.list()? {
        // one that is just being deleted is no reason not to show the others
        match Container::load(root, &id) {
            Ok(container) => containers.push((container, owner(uid))),
            Err(e) => log::debug(|| format!("load container {id}: {e}")),
        }
    }
    if args.quiet {
        for (container, _) in &containers {
            println!("{}", container.record.id);
        }
        return Ok(0);
    }
    let views: Vec<_> = containers.iter().map(|(c, owner)| View::of(c, owner.clone())).collect();
    match args.format {
        // Go's encoding of an empty slice that was never made
        Format::Json if views.is_empty() => println!("null"),
        Format::Json => println!("{}", serde_json::to_string(&views)?),
        Format::Table => {
            let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
            rows.extend(views.iter().map(|v| {
                let bundle = v.bundle.display().to_string();
                [
                    v.id.to_owned(),
                    v.pid.to_string(),
                    v.status.to_owned(),
                    bundle,
                    v.created.to_owned(),
                    v.owner.clone(),
                ]
            }));
            print!("{}", table(&rows));
        }
    }
    Ok(0)
}

/// Columns at least 12 wide and 3 apart, the last one unpadded (Go's tabwriter with runc's settings).
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (cell.chars().count() + 3).max(*width).max(12);
        }
    }
    let mut out = String::new();
    for row in rows {
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            out.push_str(cell);
            if i + 1 < N {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

/// The name of a user of the host, or its number.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_runcs() {
        let rows =
            [["ID", "PID", "OWNER"].map(str::to_owned), ["a-long-container", "1", "root"].map(str::to_owned)];
        assert_eq!(
            table(&rows),
            "ID                 PID         OWNER\na-long-container   1           root\n"
        );
    }
}
