//! Reading the configuration again while serving (SIGHUP).
//!
//! `debug.level` takes effect at once. Every other key is compared, and named in the log if it needs a restart.

use crate::config::{self, Config};
use crate::flags::Flags;
use crate::log::Log;
use crate::notify::Manager;

/// What the running configuration is replaced by. An unusable file changes nothing.
///
/// Blocks: reads a file.
pub fn reload(running: &mut Config, flags: &Flags, log: &Log, manager: Option<&Manager>) {
    tell(manager.map(Manager::reloading));
    match flags.config() {
        Ok(new) => apply(running, &new, log),
        Err(error) => tracing::error!(%error, "configuration not reloaded, the old one stays"),
    }
    tell(manager.map(Manager::ready));
}

fn tell(told: Option<std::io::Result<()>>) {
    if let Some(Err(error)) = told {
        tracing::warn!(%error, "failed to notify the service manager");
    }
}

fn apply(running: &mut Config, new: &Config, log: &Log) {
    for key in need_restart(running, new) {
        tracing::warn!(key, "changed, takes effect after a restart");
    }
    if running.debug.level != new.debug.level {
        let set = config::level(&new.debug.level).map(|level| log.set_level(level));
        match set {
            Ok(Ok(())) => running.debug.level.clone_from(&new.debug.level),
            Ok(Err(error)) => tracing::error!(key = "debug.level", %error, "not changed"),
            Err(error) => tracing::error!(key = "debug.level", %error, "not changed"),
        }
    }
    tracing::info!(level = running.debug.level, "configuration reloaded");
}

/// Keys whose values differ and are only looked at when the daemon starts.
fn need_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("root", old.root != new.root),
        ("state", old.state != new.state),
        ("oom_score", old.oom_score != new.oom_score),
        ("grpc", old.grpc != new.grpc),
        ("ttrpc", old.ttrpc != new.ttrpc),
        ("metrics", old.metrics != new.metrics),
        ("cgroup", old.cgroup != new.cgroup),
        ("plugins", old.plugins != new.plugins),
        ("debug", old.debug.at_level(&new.debug.level) != new.debug),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_start_are_named() {
        let old = Config::default();
        let mut new = Config::default();
        new.debug.level = "debug".into();
        assert!(need_restart(&old, &new).is_empty(), "the level needs none");
        new.root = "/elsewhere".into();
        new.grpc.gid = 7;
        assert_eq!(need_restart(&old, &new), ["root", "grpc"]);
    }
}
