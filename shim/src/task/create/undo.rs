//! What a Create that fails takes back.

use std::path::PathBuf;
use std::sync::Arc;

use crate::io::{Logger, SessionId};
use crate::log;
use crate::mounts;
use crate::runtime::Runtime;
use crate::task::Shim;
use crate::task::launch::stop_in_background;

/// Undoes what Create did, unless it is disarmed.
pub(super) struct Undo<'a> {
    pub(super) shim: &'a Arc<Shim>,
    pub(super) id: &'a str,
    pub(super) rootfs: Option<PathBuf>,
    pub(super) session: Option<SessionId>,
    pub(super) logger: Option<Logger>,
    /// The runtime knows the container.
    pub(super) runtime: Option<Runtime>,
    pub(super) armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Some(runtime) = &self.runtime
            && let Err(e) = runtime.delete(self.id, true)
        {
            log::warn(format_args!("container {}: after a failed create: {e}", self.id));
        }
        if let Some(session) = self.session {
            self.shim.io.close(session, || ());
        }
        if let Some(logger) = self.logger.take() {
            stop_in_background(logger);
        }
        if let Some(rootfs) = &self.rootfs
            && let Err(e) = mounts::unmount_all(rootfs)
        {
            log::warn(format_args!("container {}: after a failed create: {e}", self.id));
        }
        self.shim.creation_failed(self.id);
    }
}
