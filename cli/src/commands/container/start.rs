//! `wharf start`.

use super::attached::{Attached, Wanted};
use super::waiting::Waiting;
use crate::error::CliError;
use crate::session::{Session, println, warn};
use crate::stream::interactive::End;
use crate::terminal;
use crate::terminal::signals::{Caught, Resized};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct StartOptions {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(long, short)]
    attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", default_value = "")]
    detach_keys: String,
    /// Attach container's STDIN
    #[arg(long, short)]
    interactive: bool,
    args: Vec<String>,
}

impl Options for StartOptions {
    const USAGE: &'static str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ABOUT: &'static str = "Start one or more stopped containers";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let detach_keys = session.detach_keys(&self.detach_keys)?;
        if !self.attach && !self.interactive {
            return start_all(session, &self.args).await;
        }
        let [name] = self.args.as_slice() else {
            return Err(CliError::invalid("you cannot start and attach multiple containers at once"));
        };
        let client = session.client()?;
        let inspect = super::inspect(client, name).await?;
        let id = &inspect.id;
        let wanted = Wanted {
            stdin: self.interactive && inspect.config.open_stdin,
            stdout: true,
            stderr: true,
            tty: inspect.config.tty,
            detach_keys,
        };
        let auto_remove = inspect.host_config.auto_remove;
        let caught = Caught::begin(!wanted.tty);
        let (attached, waiting) =
            tokio::join!(Attached::open(client, id, &wanted), Waiting::begin(client, id, auto_remove));
        let (attached, waiting) = (attached?, waiting?);
        let mut stream = attached.begin(&wanted, client.version().await?)?;
        if let Err(bad) = super::act(client, id, "start").await {
            terminal::restore();
            if auto_remove {
                waiting.finish(client, std::future::ready(())).await;
            }
            return Err(bad);
        }
        let resizing = async {
            if wanted.tty && terminal::stdout_is_terminal() {
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
            End::Detached => Ok(()),
            End::Closed => match waiting.finish(client, std::future::ready(())).await {
                0 => Ok(()),
                code => Err(CliError::exit(code)),
            },
        }
    }
}

async fn start_all(session: &Session, names: &[String]) -> Result<(), CliError> {
    let client = session.client()?;
    let mut failed = Vec::new();
    for name in names {
        match super::act(client, name, "start").await {
            Ok(()) => println(name)?,
            Err(bad) => {
                warn(&bad.to_string());
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(CliError::invalid(format!("Error: failed to start containers: {}", failed.join(", "))))
}
