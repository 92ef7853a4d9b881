//! Kernel files that containers must not see or not write.

/// Hidden, unless the container is privileged.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    // GHSA-6fw5-f8r9-fgfm: keystroke timing of other users
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    // GHSA-jq35-85cj-fj4p: power readings leak keys
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only, unless the container is privileged.
pub const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
