//! A container's cgroup, from its shim's metrics to `container_…`, the names of containerd's task monitor.
//!
//! Units are in the names, also where the value is a count of something else (`pgfault_bytes`): so they are there.

use prost::Message;
use prost_types::Any;
use wharf_containerd::io::containerd::cgroups::{v1, v2};
use wharf_containerd::type_url;

use super::exposition::{Exposition, Kind, Label};

const HELP: &str = "of the container's cgroup, as the kernel accounts it";

/// Whose metrics they are.
pub(super) struct Labels<'a> {
    pub(super) container: &'a str,
    pub(super) namespace: &'a str,
    pub(super) runtime: &'a str,
}

/// Writes samples of one container.
struct Writer<'a> {
    labels: &'a Labels<'a>,
    to: &'a mut Exposition,
}

impl Writer<'_> {
    /// A gauge `container_<name>`.
    fn gauge(&mut self, name: &str, value: u64) {
        self.labelled(name, &[], value);
    }

    fn labelled(&mut self, name: &str, more: &[Label<'_>], value: u64) {
        let Labels { container, namespace, runtime } = self.labels;
        let mut labels = vec![("container_id", *container), ("namespace", *namespace), ("runtime", *runtime)];
        labels.extend_from_slice(more);
        labels.sort_unstable();
        self.to.sample(&format!("container_{name}"), HELP, Kind::Gauge, &labels, value as f64);
    }
}

/// Adds what a shim reported; nothing for a type that is not known.
pub(super) fn write(data: &Any, labels: &Labels<'_>, to: &mut Exposition) {
    let mut writer = Writer { labels, to };
    match data.type_url.rsplit('/').next().unwrap_or_default() {
        type_url::METRICS_V1 => {
            if let Ok(metrics) = v1::Metrics::decode(data.value.as_slice()) {
                write_v1(&metrics, &mut writer);
            }
        }
        type_url::METRICS_V2 => {
            if let Ok(metrics) = v2::Metrics::decode(data.value.as_slice()) {
                write_v2(&metrics, &mut writer);
            }
        }
        _ => {}
    }
}

fn write_v1(metrics: &v1::Metrics, to: &mut Writer<'_>) {
    if let Some(pids) = &metrics.pids {
        to.gauge("pids_limit", pids.limit);
        to.gauge("pids_current", pids.current);
    }
    if let Some(usage) = metrics.cpu.as_ref().and_then(|cpu| cpu.usage.as_ref()) {
        to.gauge("cpu_total_nanoseconds", usage.total);
        to.gauge("cpu_kernel_nanoseconds", usage.kernel);
        to.gauge("cpu_user_nanoseconds", usage.user);
        for (cpu, used) in usage.per_cpu.iter().enumerate() {
            to.labelled("per_cpu_nanoseconds", &[("cpu", &cpu.to_string())], *used);
        }
    }
    if let Some(throttling) = metrics.cpu.as_ref().and_then(|cpu| cpu.throttling.as_ref()) {
        to.gauge("cpu_throttle_periods_total", throttling.periods);
        to.gauge("cpu_throttled_periods_total", throttling.throttled_periods);
        to.gauge("cpu_throttled_time_nanoseconds", throttling.throttled_time);
    }
    if let Some(memory) = &metrics.memory {
        write_memory_v1(memory, to);
    }
    if let Some(control) = &metrics.memory_oom_control {
        to.gauge("memory_oom_total", control.oom_kill);
    }
    for pages in &metrics.hugetlb {
        let page = [("page", pages.pagesize.as_str())];
        to.labelled("hugetlb_usage_bytes", &page, pages.usage);
        to.labelled("hugetlb_failcnt_total", &page, pages.failcnt);
        to.labelled("hugetlb_max_bytes", &page, pages.max);
    }
    let Some(blkio) = &metrics.blkio else { return };
    for (name, entries) in [
        ("blkio_io_merged_recursive_total", &blkio.io_merged_recursive),
        ("blkio_io_queued_recursive_total", &blkio.io_queued_recursive),
        ("blkio_io_service_bytes_recursive_bytes", &blkio.io_service_bytes_recursive),
        ("blkio_io_service_time_recursive_total", &blkio.io_service_time_recursive),
        ("blkio_io_serviced_recursive_total", &blkio.io_serviced_recursive),
        ("blkio_io_time_recursive_total", &blkio.io_time_recursive),
        ("blkio_sectors_recursive_total", &blkio.sectors_recursive),
    ] {
        for entry in entries {
            let (major, minor) = (entry.major.to_string(), entry.minor.to_string());
            let labels =
                [("device", &*entry.device), ("major", &*major), ("minor", &*minor), ("op", &*entry.op)];
            to.labelled(name, &labels, entry.value);
        }
    }
}

fn write_memory_v1(memory: &v1::MemoryStat, to: &mut Writer<'_>) {
    let stats = [
        ("cache", memory.cache),
        ("rss", memory.rss),
        ("rss_huge", memory.rss_huge),
        ("mapped_file", memory.mapped_file),
        ("dirty", memory.dirty),
        ("writeback", memory.writeback),
        ("pgpgin", memory.pg_pg_in),
        ("pgpgout", memory.pg_pg_out),
        ("pgfault", memory.pg_fault),
        ("pgmajfault", memory.pg_maj_fault),
        ("inactive_anon", memory.inactive_anon),
        ("active_anon", memory.active_anon),
        ("inactive_file", memory.inactive_file),
        ("active_file", memory.active_file),
        ("unevictable", memory.unevictable),
        ("hierarchical_memory_limit", memory.hierarchical_memory_limit),
        ("hierarchical_memsw_limit", memory.hierarchical_swap_limit),
        ("total_cache", memory.total_cache),
        ("total_rss", memory.total_rss),
        ("total_rss_huge", memory.total_rss_huge),
        ("total_mapped_file", memory.total_mapped_file),
        ("total_dirty", memory.total_dirty),
        ("total_writeback", memory.total_writeback),
        ("total_pgpgin", memory.total_pg_pg_in),
        ("total_pgpgout", memory.total_pg_pg_out),
        ("total_pgfault", memory.total_pg_fault),
        ("total_pgmajfault", memory.total_pg_maj_fault),
        ("total_inactive_anon", memory.total_inactive_anon),
        ("total_active_anon", memory.total_active_anon),
        ("total_inactive_file", memory.total_inactive_file),
        ("total_active_file", memory.total_active_file),
        ("total_unevictable", memory.total_unevictable),
    ];
    for (name, value) in stats {
        to.gauge(&format!("memory_{name}_bytes"), value);
    }
    let kinds = [
        ("usage", &memory.usage),
        ("swap", &memory.swap),
        ("kernel", &memory.kernel),
        ("kerneltcp", &memory.kernel_tcp),
    ];
    for (kind, entry) in kinds {
        let Some(entry) = entry else { continue };
        to.gauge(&format!("memory_{kind}_failcnt_total"), entry.failcnt);
        to.gauge(&format!("memory_{kind}_limit_bytes"), entry.limit);
        to.gauge(&format!("memory_{kind}_max_bytes"), entry.max);
        to.gauge(&format!("memory_{kind}_usage_bytes"), entry.usage);
    }
}

fn write_v2(metrics: &v2::Metrics, to: &mut Writer<'_>) {
    if let Some(pids) = &metrics.pids {
        to.gauge("pids_limit", pids.limit);
        to.gauge("pids_current", pids.current);
    }
    if let Some(cpu) = &metrics.cpu {
        to.gauge("cpu_usage_usec_microseconds", cpu.usage_usec);
        to.gauge("cpu_user_usec_microseconds", cpu.user_usec);
        to.gauge("cpu_system_usec_microseconds", cpu.system_usec);
        to.gauge("cpu_nr_periods_total", cpu.nr_periods);
        to.gauge("cpu_nr_throttled_total", cpu.nr_throttled);
        to.gauge("cpu_throttled_usec_microseconds", cpu.throttled_usec);
    }
    if let Some(memory) = &metrics.memory {
        write_memory_v2(memory, to);
    }
    if let Some(events) = &metrics.memory_events {
        to.gauge("memory_oom_total", events.oom);
    }
    for entry in metrics.io.iter().flat_map(|io| &io.usage) {
        let (major, minor) = (entry.major.to_string(), entry.minor.to_string());
        let labels = [("major", &*major), ("minor", &*minor)];
        to.labelled("io_rbytes_bytes", &labels, entry.rbytes);
        to.labelled("io_wbytes_bytes", &labels, entry.wbytes);
        to.labelled("io_rios_total", &labels, entry.rios);
        to.labelled("io_wios_total", &labels, entry.wios);
    }
}

fn write_memory_v2(memory: &v2::MemoryStat, to: &mut Writer<'_>) {
    let stats = [
        ("usage", memory.usage),
        ("usage_limit", memory.usage_limit),
        ("swap_usage", memory.swap_usage),
        ("swap_limit", memory.swap_limit),
        ("file_mapped", memory.file_mapped),
        ("file_dirty", memory.file_dirty),
        ("file_writeback", memory.file_writeback),
        ("pgactivate", memory.pgactivate),
        ("pgdeactivate", memory.pgdeactivate),
        ("pgfault", memory.pgfault),
        ("pgmajfault", memory.pgmajfault),
        ("pglazyfree", memory.pglazyfree),
        ("pgrefill", memory.pgrefill),
        ("pglazyfreed", memory.pglazyfreed),
        ("pgscan", memory.pgscan),
        ("pgsteal", memory.pgsteal),
        ("inactive_anon", memory.inactive_anon),
        ("active_anon", memory.active_anon),
        ("inactive_file", memory.inactive_file),
        ("active_file", memory.active_file),
        ("unevictable", memory.unevictable),
        ("anon", memory.anon),
        ("file", memory.file),
        ("kernel_stack", memory.kernel_stack),
        ("slab", memory.slab),
        ("sock", memory.sock),
        ("shmem", memory.shmem),
        ("anon_thp", memory.anon_thp),
        ("slab_reclaimable", memory.slab_reclaimable),
        ("slab_unreclaimable", memory.slab_unreclaimable),
        ("workingset_refault", memory.workingset_refault),
        ("workingset_activate", memory.workingset_activate),
        ("workingset_nodereclaim", memory.workingset_nodereclaim),
        ("thp_fault_alloc", memory.thp_fault_alloc),
        ("thp_collapse_alloc", memory.thp_collapse_alloc),
    ];
    for (name, value) in stats {
        to.gauge(&format!("memory_{name}_bytes"), value);
    }
}

#[cfg(test)]
mod tests {
    use wharf_containerd::to_any;

    use super::*;

    fn text(data: &Any) -> String {
        let mut to = Exposition::default();
        write(data, &Labels { container: "c1", namespace: "ns", runtime: "rt" }, &mut to);
        to.render()
    }

    #[test]
    fn version_1_is_written_with_all_labels_in_order() {
        let metrics = v1::Metrics {
            cpu: Some(v1::CpuStat {
                usage: Some(v1::CpuUsage { total: 3, per_cpu: vec![1, 2], ..Default::default() }),
                throttling: None,
            }),
            memory: Some(v1::MemoryStat {
                pg_fault: 7,
                usage: Some(v1::MemoryEntry { usage: 9, ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let text = text(&to_any(type_url::METRICS_V1, &metrics));
        for line in [
            "# TYPE container_cpu_total_nanoseconds gauge",
            r#"container_cpu_total_nanoseconds{container_id="c1",namespace="ns",runtime="rt"} 3"#,
            r#"container_per_cpu_nanoseconds{container_id="c1",cpu="1",namespace="ns",runtime="rt"} 2"#,
            r#"container_memory_pgfault_bytes{container_id="c1",namespace="ns",runtime="rt"} 7"#,
            r#"container_memory_usage_usage_bytes{container_id="c1",namespace="ns",runtime="rt"} 9"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains("pids") && !text.contains("memory_swap"), "nothing that was not reported");
    }

    #[test]
    fn version_2_is_written_and_other_types_are_not() {
        let metrics = v2::Metrics {
            memory_events: Some(v2::MemoryEvents { oom: 2, ..Default::default() }),
            io: Some(v2::IoStat {
                usage: vec![v2::IoEntry { major: 8, minor: 1, rbytes: 5, ..Default::default() }],
                psi: None,
            }),
            ..Default::default()
        };
        let any = to_any(type_url::METRICS_V2, &metrics);
        let written = text(&any);
        for line in [
            r#"container_memory_oom_total{container_id="c1",namespace="ns",runtime="rt"} 2"#,
            r#"container_io_rbytes_bytes{container_id="c1",major="8",minor="1",namespace="ns",runtime="rt"} 5"#,
        ] {
            assert!(written.lines().any(|l| l == line), "{line} in {written}");
        }
        assert_eq!(text(&Any { type_url: "other".into(), ..any }), "");
    }
}
