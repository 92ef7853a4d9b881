//! Signals of this process passed on to a container.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::transport::Client;
use crate::transport::url::Query;

/// What is passed on, with the name the API takes. SIGCHLD, SIGPIPE and SIGWINCH are this process's own.
const FORWARDED: &[(i32, &str)] = &[
    (rustix::process::Signal::HUP.as_raw(), "HUP"),
    (rustix::process::Signal::INT.as_raw(), "INT"),
    (rustix::process::Signal::QUIT.as_raw(), "QUIT"),
    (rustix::process::Signal::ABORT.as_raw(), "ABRT"),
    (rustix::process::Signal::ALARM.as_raw(), "ALRM"),
    (rustix::process::Signal::TERM.as_raw(), "TERM"),
    (rustix::process::Signal::USR1.as_raw(), "USR1"),
    (rustix::process::Signal::USR2.as_raw(), "USR2"),
    (rustix::process::Signal::CONT.as_raw(), "CONT"),
    (rustix::process::Signal::TSTP.as_raw(), "TSTP"),
];

/// Signals being caught. They stay caught for the life of the process.
pub(crate) struct Caught(Vec<(Signal, &'static str)>);

impl Caught {
    /// Begins to catch; `on` false catches nothing, so that signals do what they always do.
    pub(crate) fn begin(on: bool) -> Caught {
        let kinds = if on { FORWARDED } else { &[] };
        Caught(
            kinds
                .iter()
                .filter_map(|(raw, name)| Some((signal(SignalKind::from_raw(*raw)).ok()?, *name)))
                .collect(),
        )
    }

    async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|cx| {
            for (signal, name) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Passes every signal on to container `id`; never returns.
    pub(crate) async fn forward(mut self, client: &Client, id: &str) -> std::convert::Infallible {
        loop {
            let name = self.next().await;
            let path = format!("/containers/{id}/kill");
            // a container that is gone needs no signal
            let _ = client
                .post(&path, Query::new().set("signal", name), crate::transport::RequestBody::Empty)
                .await;
        }
    }
}

/// Whose terminal is resized.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resized<'a> {
    Container(&'a str),
    Exec(&'a str),
}

impl Resized<'_> {
    pub(crate) async fn to(
        self,
        client: &Client,
        height: u32,
        width: u32,
    ) -> Result<(), crate::transport::ClientError> {
        if height == 0 && width == 0 {
            return Ok(());
        }
        let path = match self {
            Resized::Container(id) => format!("/containers/{id}/resize"),
            Resized::Exec(id) => format!("/exec/{id}/resize"),
        };
        let query = Query::new().set("h", height.to_string()).set("w", width.to_string());
        client.post(&path, query, crate::transport::RequestBody::Empty).await?.bytes().await.map(|_| ())
    }

    /// Sets the size now, trying again for a while since the process may not run yet, and then whenever this
    /// process's terminal changes. Never returns.
    pub(crate) async fn follow(self, client: &Client) -> std::convert::Infallible {
        let mut changes = signal(SignalKind::window_change()).ok();
        let mut delays = (1..=10).map(|n| std::time::Duration::from_millis(n * 10));
        loop {
            let (height, width) = super::size();
            if self.to(client, height, width).await.is_ok() {
                break;
            }
            let Some(delay) = delays.next() else { break };
            tokio::time::sleep(delay).await;
        }
        loop {
            match &mut changes {
                Some(changes) => changes.recv().await,
                None => std::future::pending().await,
            };
            let (height, width) = super::size();
            // the daemon may be restarting: the next change sets the size again
            let _ = self.to(client, height, width).await;
        }
    }
}
