//! `docker update`: limits and restart policy of a container, running or not.

use wharf_docker::container::{HostConfig, UpdateBody};

use crate::container::actor::Command;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::{plan, validate};

impl Engine {
    /// Changes what the body names; answers warnings.
    pub async fn update(&self, wanted: &str, change: UpdateBody) -> Result<Vec<String>, EngineError> {
        let handle = self.find(wanted)?;
        let record = handle.view().record.clone();
        let host = changed(record.host.clone(), &change);
        let warnings = validate::check(&self.shared.config, &record.config, &host)?;
        if record.phase.run().is_some() {
            let limits = plan::limits(&host)?;
            self.shared.lifecycle.update(&handle.id, limits).await?;
        }
        let apply = Box::new(move |record: &mut crate::container::record::Record| {
            record.host = changed(std::mem::take(&mut record.host), &change);
        });
        handle.ask(|reply| Command::Update { change: apply, reply }).await?;
        crate::container::exec::event(&self.shared, &handle.id, "update", &[]);
        Ok(warnings)
    }
}

/// Zero and empty mean unchanged.
fn changed(mut host: HostConfig, change: &UpdateBody) -> HostConfig {
    let number = |own: &mut i64, new: i64| {
        if new != 0 {
            *own = new;
        }
    };
    number(&mut host.cpu_shares, change.cpu_shares);
    number(&mut host.memory, change.memory);
    number(&mut host.nano_cpus, change.nano_cpus);
    number(&mut host.cpu_period, change.cpu_period);
    number(&mut host.cpu_quota, change.cpu_quota);
    number(&mut host.memory_reservation, change.memory_reservation);
    number(&mut host.memory_swap, change.memory_swap);
    if change.blkio_weight != 0 {
        host.blkio_weight = change.blkio_weight;
    }
    for (own, new) in
        [(&mut host.cpuset_cpus, &change.cpuset_cpus), (&mut host.cpuset_mems, &change.cpuset_mems)]
    {
        if !new.is_empty() {
            own.clone_from(new);
        }
    }
    if let Some(limit) = change.pids_limit {
        host.pids_limit = Some(limit.max(0));
    }
    if !change.restart_policy.name.is_empty() {
        host.restart_policy = change.restart_policy.clone();
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_changes() {
        let host = HostConfig { memory: 64 << 20, cpu_shares: 5, ..HostConfig::default() };
        let change = UpdateBody { memory: 128 << 20, ..UpdateBody::default() };
        let host = changed(host, &change);
        assert_eq!((host.memory, host.cpu_shares), (128 << 20, 5));
    }
}
