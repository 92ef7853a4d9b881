//! the whole stack under test: restart, swap, conformance, faults; the benchmark
