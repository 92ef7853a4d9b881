//! `wharf port`.

use crate::error::CliError;
use crate::session::{Session, print};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct PortOptions {
    args: Vec<String>,
}

impl Options for PortOptions {
    const USAGE: &'static str = "CONTAINER [PRIVATE_PORT[/PROTO]]";
    const ABOUT: &'static str = "List port mappings or a specific mapping for the container";
    const ARITY: Arity = Arity::AtLeast(1);

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let (name, wanted) = match self.args.as_slice() {
            [name] => (name, None),
            [name, port] if port.contains('/') => (name, Some(port.clone())),
            [name, port] => (name, Some(format!("{port}/tcp"))),
            _ => return Err(CliError::invalid("wharf port takes a container and at most one port")),
        };
        let inspect = super::inspect(session.client()?, name).await?;
        let ports = inspect.network_settings.ports.unwrap_or_default();
        let mut out = String::new();
        for (port, hosts) in
            ports.iter().filter(|(port, _)| wanted.as_ref().is_none_or(|wanted| wanted == *port))
        {
            for host in hosts.iter().flatten() {
                let ip = if host.host_ip.contains(':') {
                    format!("[{}]", host.host_ip)
                } else {
                    host.host_ip.clone()
                };
                match &wanted {
                    Some(_) => out.push_str(&format!("{ip}:{}\n", host.host_port)),
                    None => out.push_str(&format!("{port} -> {ip}:{}\n", host.host_port)),
                }
            }
        }
        match wanted {
            Some(_) if out.is_empty() => Err(CliError::invalid(format!(
                "Error: No public port '{}' published for {name}",
                self.args[1]
            ))),
            _ => print(&out),
        }
    }
}
