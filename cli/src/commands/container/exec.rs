//! `wharf exec`.

use std::path::PathBuf;
use std::time::Duration;

use wharf_docker::container::{ExecCreate, ExecInspect, ExecStart, IdResponse, Words};

use crate::error::CliError;
use crate::options::key_value::{self, Bare, merge};
use crate::session::Session;
use crate::stream::interactive::{self, End, Plan};
use crate::terminal;
use crate::terminal::signals::Resized;
use crate::transport::url::{Query, escape_path};
use crate::transport::{Client, ClientError, RequestBody};
use crate::verb::{Arity, Options};

/// How long the daemon may be away when the exit code is asked for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions: short at first, since the exit is usually known at once.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

#[derive(clap::Args, Debug)]
pub(crate) struct ExecOptions {
    /// Detached mode: run command in the background
    #[arg(long, short)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", default_value = "")]
    detach_keys: String,
    /// Set environment variables
    #[arg(long, short, value_name = "list", value_parser = key_value::env)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(long, short)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(long, short)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(long, short, value_name = "string", default_value = "")]
    user: String,
    /// Working directory inside the container
    #[arg(long, short, value_name = "string", default_value = "")]
    workdir: String,
    #[arg(trailing_var_arg = true)]
    args: Vec<String>,
}

impl Options for ExecOptions {
    const USAGE: &'static str = "[OPTIONS] CONTAINER COMMAND [ARG...]";
    const ABOUT: &'static str = "Execute a command in a running container";
    const ARITY: Arity = Arity::AtLeast(2);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let env = merge(&self.env_file, self.env, Bare::Environment).map_err(CliError::Invalid)?;
        let detach_keys = session.detach_keys(&self.detach_keys)?;
        let client = session.client()?;
        let (name, command) = (self.args[0].as_str(), self.args[1..].to_vec());
        let stdin = self.interactive && !self.detach;
        if !self.detach
            && let Err(no_terminal) = super::check_tty(stdin, self.tty)
        {
            // a container that is not there is the more useful thing to hear of
            super::inspect(client, name).await?;
            return Err(no_terminal);
        }
        let console_size = self.tty.then(terminal::size).filter(|size| *size != (0, 0));
        let body = ExecCreate {
            user: self.user,
            privileged: self.privileged,
            tty: self.tty,
            console_size,
            attach_stdin: stdin,
            attach_stdout: !self.detach,
            attach_stderr: !self.detach,
            detach_keys: detach_keys.clone(),
            env: (!env.is_empty()).then_some(env),
            working_dir: self.workdir,
            cmd: Some(Words(command)),
        };
        let path = format!("/containers/{}/exec", escape_path(name));
        let IdResponse { id } =
            client.post(&path, Query::new(), RequestBody::json(&body)?).await?.json().await?;
        if id.is_empty() {
            return Err(CliError::invalid("exec ID empty"));
        }
        let start = RequestBody::json(&ExecStart { detach: self.detach, tty: self.tty, console_size })?;
        let path = format!("/exec/{id}/start");
        if self.detach {
            client.post(&path, Query::new(), start).await?.bytes().await?;
            return Ok(());
        }
        let hijacked = client.hijack(&path, Query::new(), start).await?;
        let plan = Plan { stdin, output: true, tty: self.tty, detach_keys };
        let mut stream = interactive::begin(hijacked, &plan, client.version().await?)
            .map_err(CliError::io("unable to setup input stream"))?;
        let resizing = async {
            if plan.tty && terminal::stdin_is_terminal() {
                Resized::Exec(&id).follow(client).await;
            }
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = stream.end() => end,
            () = resizing => Ok(End::Closed),
        };
        terminal::restore();
        match end.map_err(CliError::io("stream"))? {
            End::Detached => Err(CliError::Status { code: 1, text: "read escape sequence".to_owned() }),
            End::Closed => match exit_code(client, &id).await? {
                0 => Ok(()),
                code => Err(CliError::exit(code)),
            },
        }
    }
}

/// The exit code of an exec whose streams ended; a daemon that is restarting is waited for.
async fn exit_code(client: &Client, id: &str) -> Result<i64, CliError> {
    let asked = async {
        let mut pause = FIRST_PAUSE;
        loop {
            let path = format!("/exec/{id}/json");
            let inspect: Result<ExecInspect, ClientError> =
                async { client.get(&path, Query::new()).await?.json().await }.await;
            match inspect {
                // the streams may end a moment before the exit is known
                Ok(ExecInspect { running: true, exit_code: None, .. }) => {}
                Ok(inspect) => return Ok(inspect.exit_code.unwrap_or(0)),
                Err(bad) if bad.is_connection() => {}
                Err(bad) => return Err(bad.into()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(code) => code,
        Err(_) => Err(CliError::exit(-1)),
    }
}
