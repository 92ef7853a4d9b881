//! A container's streams, taken over from the daemon's connection.

use crate::error::CliError;
use crate::stream::interactive::{self, Plan};
use crate::transport::url::Query;
use crate::transport::{ApiVersion, Client, ClientError, Hijacked, RequestBody};

/// Which streams of a container to join.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// The container has a terminal.
    pub(super) tty: bool,
    /// Empty for the default.
    pub(super) detach_keys: String,
}

impl Wanted {
    pub(super) fn any(&self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

pub(super) struct Attached(Hijacked);

impl Attached {
    pub(super) async fn open(client: &Client, id: &str, wanted: &Wanted) -> Result<Attached, ClientError> {
        let query = Query::new()
            .set("stream", "1")
            .flag("stdin", wanted.stdin)
            .flag("stdout", wanted.stdout)
            .flag("stderr", wanted.stderr)
            .text("detachKeys", &wanted.detach_keys);
        client.hijack(&format!("/containers/{id}/attach"), query, RequestBody::Empty).await.map(Attached)
    }

    pub(super) fn begin(
        self,
        wanted: &Wanted,
        version: ApiVersion,
    ) -> Result<interactive::Session, CliError> {
        let plan = Plan {
            stdin: wanted.stdin,
            output: wanted.stdout || wanted.stderr,
            tty: wanted.tty,
            detach_keys: wanted.detach_keys.clone(),
        };
        interactive::begin(self.0, &plan, version).map_err(CliError::io("unable to setup input stream"))
    }
}
