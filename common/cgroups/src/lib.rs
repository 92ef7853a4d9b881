//! cgroups v1, hybrid and v2: limits, membership, freezing, statistics
