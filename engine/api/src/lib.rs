//! Docker Engine API routes on the engine's domain
