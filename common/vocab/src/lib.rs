//! the words every layer shares: references, digests, ids, platforms, labels, filters
