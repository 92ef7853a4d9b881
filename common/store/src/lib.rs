//! durable state: atomic files, typed tables, schema versions
