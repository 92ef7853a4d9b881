//! tasks: starting, finding and talking to shims
