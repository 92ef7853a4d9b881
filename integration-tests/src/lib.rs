//! the whole stack under test
