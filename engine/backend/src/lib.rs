//! the engine's only client of the lifecycle daemon
