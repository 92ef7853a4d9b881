//! `docker ps`: filters, order, and the summary of each container.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use wharf_docker::container::{HostConfigSummary, NetworksOnly, Port, Summary};
use wharf_docker::time::Time;

use crate::container::phase::Phase;
use crate::container::record::Record;
use crate::container::view::View;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::filter::{FilterError, Filters};
use crate::{human, inspect};

/// What of the containers is wanted.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Those that do not run too.
    pub all: bool,
    pub size: bool,
    /// The newest so many, running or not; 0 for no limit.
    pub limit: usize,
    pub filters: Filters,
}

const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// Filters, checked once.
struct Chosen {
    filters: Filters,
    all: bool,
    exited: Vec<i64>,
    names: Vec<NamePattern>,
    ids: Vec<String>,
    images: Option<BTreeSet<String>>,
    before: Option<String>,
    since: Option<String>,
    task: Option<bool>,
}

/// Names match by pattern in Docker; of regular expressions, anchors and literal text are understood.
struct NamePattern {
    text: String,
    start: bool,
    end: bool,
}

impl NamePattern {
    fn new(value: &str) -> Self {
        let start = value.starts_with('^');
        let end = value.ends_with('$') && value.len() > usize::from(start);
        let text = value.trim_start_matches('^').trim_end_matches('$').replace('\\', "");
        Self { text, start, end }
    }

    fn matches(&self, name: &str) -> bool {
        match (self.start, self.end) {
            (true, true) => name == self.text,
            (true, false) => name.starts_with(&self.text),
            (false, true) => name.ends_with(&self.text),
            (false, false) => name.contains(&self.text),
        }
    }
}

impl Engine {
    /// Lists containers, newest first. Reads memory only, unless sizes are asked for or images are named.
    pub async fn list(&self, request: ListRequest) -> Result<Vec<Summary>, EngineError> {
        let views = self.choose(&request).await?;
        let now = SystemTime::now();
        let mut summaries = Vec::with_capacity(views.len());
        for view in views {
            let mut summary = summary(&view, now);
            if request.size
                && let Ok((own, all)) = self.sizes(&view.record.id).await
            {
                summary.size_rw = Some(own);
                summary.size_root_fs = Some(all);
            }
            summaries.push(summary);
        }
        Ok(summaries)
    }

    async fn choose(&self, request: &ListRequest) -> Result<Vec<Arc<View>>, EngineError> {
        let mut chosen = self.check_filters(request)?;
        if request.filters.contains("ancestor") {
            let mut images = BTreeSet::new();
            for name in request.filters.values("ancestor") {
                if let Ok(image) = self.shared.images.resolve(name, None).await {
                    images.insert(image.id);
                }
            }
            chosen.images = Some(images);
        }
        let mut out = Vec::new();
        for view in self.views() {
            let id = &view.record.id;
            if let Some(before) = &chosen.before {
                if before == id {
                    chosen.before = None;
                }
                continue;
            }
            if chosen.since.as_ref() == Some(id) {
                break;
            }
            if request.limit > 0 && out.len() == request.limit {
                break;
            }
            if chosen.takes(&view, request.limit) {
                out.push(view);
            }
        }
        Ok(out)
    }

    fn check_filters(&self, request: &ListRequest) -> Result<Chosen, EngineError> {
        let filters = &request.filters;
        filters.expect(FILTERS)?;
        let bad =
            |name: &str, value: &str| FilterError::Value { name: name.to_owned(), value: value.to_owned() };
        let mut exited = Vec::new();
        for value in filters.values("exited") {
            exited.push(value.parse().map_err(|_| bad("exited", value))?);
        }
        for value in filters.values("status") {
            if !STATES.contains(&value) {
                return Err(EngineError::Invalid(format!(
                    "invalid filter 'status={value}': invalid value for state ({value}): must be one of \
                     created, running, paused, restarting, removing, exited, dead"
                )));
            }
        }
        for value in filters.values("health") {
            if !["none", "starting", "healthy", "unhealthy"].contains(&value) {
                return Err(EngineError::Invalid(format!(
                    "invalid filter 'health={value}': invalid value for health: must be one of none, starting, \
                     healthy, unhealthy"
                )));
            }
        }
        let mark = |name: &str| -> Result<Option<String>, EngineError> {
            filters.values(name).last().map(|value| self.find(value).map(|handle| handle.id)).transpose()
        };
        Ok(Chosen {
            all: request.all || filters.contains("status"),
            exited,
            names: filters.values("name").map(|v| NamePattern::new(v.trim_start_matches('/'))).collect(),
            ids: filters.values("id").map(str::to_owned).collect(),
            images: None,
            before: mark("before")?,
            since: mark("since")?,
            task: filters.boolean("is-task")?,
            filters: filters.clone(),
        })
    }
}

impl Chosen {
    fn takes(&self, view: &View, limit: usize) -> bool {
        let record = &view.record;
        let running = record.phase.counts_as_running();
        let exited = || self.exited.contains(&record.phase.exit_code()) && !running && record.started_before;
        (running || self.all || limit > 0)
            && (self.names.is_empty() || self.names.iter().any(|pattern| pattern.matches(&record.name)))
            && (self.ids.is_empty() || self.ids.iter().any(|id| record.id.starts_with(id.as_str())))
            // nothing here is a task of a swarm
            && self.task != Some(true)
            && self.filters.labels("label", &record.labels())
            && (self.exited.is_empty() || exited())
            && self.filters.exact("status", view.word())
            && self.filters.exact("health", "none")
            && self.filters.exact("isolation", &record.host.isolation)
            && self.images.as_ref().is_none_or(|images| images.contains(&record.image_id))
            && self.volume(record)
            && self.network(record)
            && self.port(record)
    }

    fn volume(&self, record: &Record) -> bool {
        !self.filters.contains("volume")
            || self.filters.values("volume").any(|value| {
                record.mounts.iter().any(|mount| {
                    let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
                    mount.destination == value || name == value
                })
            })
    }

    fn network(&self, record: &Record) -> bool {
        let networks = inspect::networks(record);
        !self.filters.contains("network")
            || self.filters.values("network").any(|value| {
                networks.contains_key(value)
                    || (!value.is_empty() && networks.values().any(|n| n.network_id.starts_with(value)))
            })
    }

    fn port(&self, record: &Record) -> bool {
        let asked = self.filters.contains("expose") || self.filters.contains("publish");
        let is = |value: &str, port: &str| value == port || format!("{value}/tcp") == port;
        !asked
            || record
                .config
                .exposed_ports
                .keys()
                .any(|port| self.filters.values("expose").any(|value| is(value, port)))
    }
}

/// What `ps` shows of a container.
pub fn summary(view: &View, now: SystemTime) -> Summary {
    let record = &view.record;
    Summary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: record.config.image.clone(),
        image_id: record.image_id.clone(),
        command: command_line(&record.command),
        created: record.created.unix_seconds(),
        ports: if record.phase.counts_as_running() { ports(record) } else { Vec::new() },
        size_rw: None,
        size_root_fs: None,
        labels: record.labels(),
        state: view.word().into(),
        status: status(view, now),
        host_config: HostConfigSummary {
            network_mode: record.host.network_mode.clone(),
            annotations: record.host.annotations.clone(),
        },
        network_settings: NetworksOnly { networks: inspect::networks(record) },
        mounts: record.mounts.clone(),
    }
}

/// Words with a space in them are quoted, as Docker shows them.
fn command_line(words: &[String]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(at, word)| if at > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() })
        .collect();
    quoted.join(" ")
}

fn ports(record: &Record) -> Vec<Port> {
    record
        .config
        .exposed_ports
        .keys()
        .filter_map(|port| {
            let (number, kind) = port.split_once('/').unwrap_or((port, "tcp"));
            Some(Port { private_port: number.parse().ok()?, r#type: kind.to_owned(), ..Port::default() })
        })
        .collect()
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`.
pub fn status(view: &View, now: SystemTime) -> String {
    let since = |at: Time| human::duration(now.duration_since(SystemTime::from(at)).unwrap_or_default());
    if view.removing && view.record.phase.run().is_none() {
        return "Removal In Progress".to_owned();
    }
    match &view.record.phase {
        Phase::Created { .. } => "Created".to_owned(),
        Phase::Running(run) if run.paused => format!("Up {} (Paused)", since(run.started_at)),
        Phase::Running(run) => format!("Up {}", since(run.started_at)),
        Phase::Restarting { ended } => {
            format!("Restarting ({}) {} ago", ended.code, since(ended.finished_at))
        }
        Phase::Exited { ended } => format!("Exited ({}) {} ago", ended.code, since(ended.finished_at)),
        Phase::Dead { .. } => "Dead".to_owned(),
    }
}

/// Filters of prune: `until` and `label`.
pub struct PruneFilter {
    until: Option<Time>,
    filters: Filters,
}

impl PruneFilter {
    /// Checks names and the time; `until` is given resolved.
    pub fn new(filters: Filters, until: Option<Time>) -> Result<Self, EngineError> {
        filters.expect(&["until", "label", "label!"])?;
        Ok(Self { until, filters })
    }

    /// Whether a container may be pruned.
    pub fn takes(&self, record: &Record) -> bool {
        let labels: BTreeMap<String, String> = record.labels();
        self.until.is_none_or(|until| record.created < until)
            && self.filters.labels("label", &labels)
            && !self.filters.values("label!").any(|wanted| crate::filter::has_label(wanted, &labels))
    }
}

#[cfg(test)]
#[path = "list/tests.rs"]
mod tests;
