//! the engine's domain: containers, execs and events as Docker means them
