//! reading container logs: tail, since, until, follow
