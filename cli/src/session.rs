//! What every verb works with: the configuration, the chosen host, the client.

use std::cell::OnceCell;
use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::config::{ConfigFile, ContextStore, DEFAULT_CONTEXT};
use crate::error::CliError;
use crate::globals::Globals;
use crate::transport::{Client, DEFAULT_HOST, Endpoint};

/// One run of the program.
pub(crate) struct Session {
    globals: Globals,
    config_dir: PathBuf,
    config: ConfigFile,
    client: OnceCell<Client>,
    /// `wharf container run`: how the verb was spelled.
    pub(crate) path: String,
}

impl Session {
    /// Reads the configuration. A broken one is warned about and taken as empty, as docker does.
    pub(crate) fn new(globals: Globals, path: String) -> Result<Session, CliError> {
        if globals.context.is_some() && !globals.hosts.is_empty() {
            return Err(CliError::invalid("conflicting options: cannot specify both --host and --context"));
        }
        let config_dir = globals.config_dir();
        let config = ConfigFile::load(&config_dir).unwrap_or_else(|bad| {
            warn(&format!("WARNING: Error loading config file: {bad}"));
            ConfigFile::default()
        });
        Ok(Session { globals, config_dir, config, client: OnceCell::new(), path })
    }

    pub(crate) fn config(&self) -> &ConfigFile {
        &self.config
    }

    pub(crate) fn contexts(&self) -> ContextStore {
        ContextStore::new(&self.config_dir)
    }

    pub(crate) fn debug(&self) -> bool {
        self.globals.debug
    }

    /// The context in use: `-H` and DOCKER_HOST mean the default one; then `--context`, DOCKER_CONTEXT and the
    /// configuration's.
    pub(crate) fn context_name(&self) -> String {
        if let Some(context) = &self.globals.context {
            return context.clone();
        }
        if !self.globals.hosts.is_empty() || env("DOCKER_HOST").is_some() {
            return DEFAULT_CONTEXT.to_owned();
        }
        let named = env("DOCKER_CONTEXT").unwrap_or_else(|| self.config.current_context.clone());
        if named.is_empty() { DEFAULT_CONTEXT.to_owned() } else { named }
    }

    /// The host as text: of the context, of `-H`, of DOCKER_HOST, or wharfd's own socket.
    pub(crate) fn host(&self) -> Result<String, CliError> {
        let name = self.context_name();
        if name != DEFAULT_CONTEXT {
            let context = self.contexts().get(&name).map_err(|bad| {
                CliError::invalid(format!("Failed to initialize: unable to resolve docker endpoint: {bad}"))
            })?;
            let host = context.host();
            return Ok(if host.is_empty() { DEFAULT_HOST } else { host }.to_owned());
        }
        match self.globals.hosts.as_slice() {
            [] => Ok(env("DOCKER_HOST").unwrap_or_else(|| DEFAULT_HOST.to_owned())),
            [host] => Ok(host.clone()),
            _ => Err(CliError::invalid(
                "Failed to initialize: unable to resolve docker endpoint: Specify only one -H",
            )),
        }
    }

    pub(crate) fn client(&self) -> Result<&Client, CliError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let tls = self.globals.tls();
        let endpoint = Endpoint::parse(&self.host()?, tls)?;
        if tls && matches!(endpoint, Endpoint::Tcp { .. }) {
            return Err(CliError::invalid(format!("TLS connections are not supported yet: {endpoint}")));
        }
        let pinned =
            env("DOCKER_API_VERSION").and_then(|version| crate::transport::ApiVersion::parse(&version));
        let headers = self.config.http_headers.clone().into_iter().collect();
        Ok(self.client.get_or_init(|| Client::new(endpoint, pinned, headers)))
    }

    /// The detach keys of a verb: its own, or the configuration's; validated.
    pub(crate) fn detach_keys(&self, given: &str) -> Result<String, CliError> {
        let keys = if given.is_empty() { &self.config.detach_keys } else { given };
        if !keys.is_empty() {
            crate::terminal::keys::parse(keys)
                .map_err(|bad| CliError::invalid(format!("invalid detach keys ({keys}): {bad}")))?;
        }
        Ok(keys.to_owned())
    }
}

/// A variable of the environment that is set and not empty.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Writes to standard output and flushes it.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(CliError::io("write to standard output"))
}

/// Writes a line to standard output.
pub(crate) fn println(text: &str) -> Result<(), CliError> {
    print(&format!("{text}\n"))
}

/// Writes a line to standard error; there is nobody to tell if that fails.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
