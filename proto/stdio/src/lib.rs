//! the stdio address and the attach protocol between an engine and the shim
