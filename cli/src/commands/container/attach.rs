//! `wharf attach`.

use wharf_docker::container::Inspect;

use super::attached::{Attached, Wanted};
use super::waiting::Waiting;
use crate::error::CliError;
use crate::session::Session;
use crate::stream::interactive::End;
use crate::terminal;
use crate::terminal::signals::{Caught, Resized};
use crate::transport::Client;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct AttachOptions {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", default_value = "")]
    detach_keys: String,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process (default true)
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    args: Vec<String>,
}

impl Options for AttachOptions {
    const USAGE: &'static str = "[OPTIONS] CONTAINER";
    const ABOUT: &'static str =
        "Attach local standard input, output, and error streams to a running container";
    const ARITY: Arity = Arity::Exactly(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let name = &self.args[0];
        let detach_keys = session.detach_keys(&self.detach_keys)?;
        let client = session.client()?;
        let inspect = running(client, name).await?;
        super::check_tty(!self.no_stdin, inspect.config.tty)?;
        let wanted = Wanted {
            stdin: !self.no_stdin && inspect.config.open_stdin,
            stdout: true,
            stderr: true,
            tty: inspect.config.tty,
            detach_keys,
        };
        let id = &inspect.id;
        let caught = Caught::begin(self.sig_proxy && !wanted.tty);
        let (attached, waiting) =
            tokio::join!(Attached::open(client, id, &wanted), Waiting::begin(client, id, false));
        let (attached, waiting) = (attached?, waiting?);
        let mut stream = attached.begin(&wanted, client.version().await?)?;
        // it may have stopped between the first look and the attach
        if let Err(stopped) = running(client, name).await {
            terminal::restore();
            return Err(stopped);
        }
        let resizing = async {
            if wanted.tty && terminal::stdout_is_terminal() {
                // a change of size makes the program draw its prompt again
                let (height, width) = terminal::size();
                let _ = Resized::Container(id).to(client, height + 1, width + 1).await;
                Resized::Container(id).follow(client).await;
            }
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = stream.end() => end,
            never = caught.forward(client, id) => match never {},
            () = resizing => Ok(End::Closed),
        };
        terminal::restore();
        match end.map_err(CliError::io("stream"))? {
            End::Detached => Err(CliError::Status { code: 1, text: "read escape sequence".to_owned() }),
            End::Closed => match waiting.finish(client, std::future::ready(())).await {
                0 => Ok(()),
                code => Err(CliError::exit(code)),
            },
        }
    }
}

/// Inspects a container and refuses one that cannot be attached to.
async fn running(client: &Client, name: &str) -> Result<Inspect, CliError> {
    let inspect: Inspect = super::inspect(client, name).await?;
    let state = &inspect.state;
    let refused = if !state.running {
        "You cannot attach to a stopped container, start it first"
    } else if state.paused {
        "You cannot attach to a paused container, unpause it first"
    } else if state.restarting {
        "You cannot attach to a restarting container, wait until it is running"
    } else {
        return Ok(inspect);
    };
    Err(CliError::invalid(refused))
}
