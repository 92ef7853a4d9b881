//! `wharf info`.

use wharf_docker::system::Info;

use super::client::ClientSide;
use crate::error::CliError;
use crate::output::units::binary_size;
use crate::session::{Session, print, println, warn};
use crate::template::{Dialect, Struct, Template, Value, to_value};
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct InfoOptions {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(long, short, value_name = "string", default_value = "")]
    format: String,
}

impl Options for InfoOptions {
    const USAGE: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Display system-wide information";
    const ARITY: Arity = Arity::None;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let client = ClientSide::of(session, String::new());
        if self.format.is_empty() {
            print(&format!(
                "Client:\n Version:    {}\n Context:    {}\n Debug Mode: {}\n\nServer:\n",
                client.version,
                client.context,
                session.debug()
            ))?;
            let info = ask(session).await?;
            println(&server(&info, session.debug()))?;
            info.warnings.iter().flatten().for_each(|warning| warn(warning));
            return Ok(());
        }
        let source = if self.format == "json" { "{{json .}}" } else { &self.format };
        let template = Template::parse("", source)
            .map_err(|bad| CliError::Status { code: 64, text: format!("template parsing error: {bad}") })?;
        let view = view(&ask(session).await?, &client, session.debug())?;
        let shown = template.render(&view, Dialect::Row);
        println(shown.as_deref().unwrap_or_default())?;
        shown.map(|_| ()).map_err(|bad| CliError::invalid(bad.to_string()))
    }
}

async fn ask(session: &Session) -> Result<Info, CliError> {
    Ok(session.client()?.get("/info", Query::new()).await?.json().await?)
}

/// The server's fields and, beside them, the client's.
fn view(info: &Info, client: &ClientSide, debug: bool) -> Result<Value, CliError> {
    let Value::Struct(server) = to_value(info)? else { return Ok(Value::NIL) };
    let mut all = (*server).clone();
    let mut fields = vec![("Debug", Some(Value::Bool(debug)))];
    fields.extend(client.fields());
    fields.extend([("Plugins", Some(Value::List(Vec::new()))), ("Warnings", Some(Value::NIL))]);
    let more = Struct::ordered(
        "system.dockerInfo",
        vec![
            ("ServerErrors", None),
            ("ClientInfo", Some(Struct::ordered("system.clientInfo", fields).into())),
            ("ClientErrors", None),
        ],
    );
    all.type_name = more.type_name;
    all.fields.extend(more.fields);
    Ok(all.into())
}

/// Lines `label value`, where those with an empty value may be left out.
struct Lines(String);

impl Lines {
    fn line(&mut self, label: &str, value: impl std::fmt::Display) {
        self.0.push_str(&format!("{label} {value}\n"));
    }

    fn text(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            self.line(label, value);
        }
    }

    fn title(&mut self, title: &str) {
        self.0.push_str(&format!("{title}\n"));
    }
}

fn join(list: &Option<Vec<String>>) -> String {
    list.as_deref().unwrap_or_default().join(" ")
}

fn server(info: &Info, debug: bool) -> String {
    let mut out = Lines(String::new());
    out.line(" Containers:", info.containers);
    out.line("  Running:", info.containers_running);
    out.line("  Paused:", info.containers_paused);
    out.line("  Stopped:", info.containers_stopped);
    out.line(" Images:", info.images);
    out.text(" Server Version:", &info.server_version);
    out.text(" Storage Driver:", &info.driver);
    for [name, value] in info.driver_status.iter().flatten() {
        out.line(&format!("  {name}:"), value);
    }
    out.text(" Logging Driver:", &info.logging_driver);
    out.text(" Cgroup Driver:", &info.cgroup_driver);
    out.text(" Cgroup Version:", &info.cgroup_version);
    out.title(" Plugins:");
    out.line("  Volume:", join(&info.plugins.volume));
    out.line("  Network:", join(&info.plugins.network));
    out.text("  Authorization:", &join(&info.plugins.authorization));
    out.line("  Log:", join(&info.plugins.log));
    if !info.cdi_spec_dirs.is_empty() {
        out.title(" CDI spec directories:");
        info.cdi_spec_dirs.iter().for_each(|dir| out.title(&format!("  {dir}")));
    }
    out.line(" Swarm:", &info.swarm.local_node_state);
    runtimes(&mut out, info);
    machine(&mut out, info);
    if info.debug || debug {
        out.line("  File Descriptors:", info.n_fd);
        out.line("  Goroutines:", info.n_goroutines);
        out.line("  System Time:", &info.system_time);
        out.line("  EventsListeners:", info.n_events_listener);
    }
    out.text(" HTTP Proxy:", &info.http_proxy);
    out.text(" HTTPS Proxy:", &info.https_proxy);
    out.text(" No Proxy:", &info.no_proxy);
    if !info.labels.is_empty() {
        out.title(" Labels:");
        info.labels.iter().for_each(|label| out.title(&format!("  {label}")));
    }
    out.line(" Experimental:", info.experimental_build);
    registries(&mut out, info);
    out.line(" Live Restore Enabled:", info.live_restore_enabled);
    out.text(" Product License:", &info.product_license);
    out.0
}

fn runtimes(out: &mut Lines, info: &Info) {
    if !info.runtimes.is_empty() {
        let names: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
        out.line(" Runtimes:", names.join(" "));
        out.line(" Default Runtime:", &info.default_runtime);
    }
    if info.os_type != "linux" {
        return;
    }
    out.line(" Init Binary:", &info.init_binary);
    out.line(" containerd version:", &info.containerd_commit.id);
    out.line(" runc version:", &info.runc_commit.id);
    out.line(" init version:", &info.init_commit.id);
    let options = info.security_options.as_deref().unwrap_or_default();
    if options.is_empty() {
        return;
    }
    out.title(" Security Options:");
    for option in options {
        // `name=seccomp,profile=builtin`
        let pairs: Vec<(&str, &str)> = option.split(',').filter_map(|pair| pair.split_once('=')).collect();
        let named = pairs.iter().find(|(key, _)| *key == "name").map_or(option.as_str(), |(_, name)| name);
        out.title(&format!("  {named}"));
        for (_, profile) in pairs.iter().filter(|(key, _)| *key == "profile") {
            out.line("   Profile:", profile);
        }
    }
}

fn machine(out: &mut Lines, info: &Info) {
    out.text(" Kernel Version:", &info.kernel_version);
    out.text(" Operating System:", &info.operating_system);
    out.text(" OSType:", &info.os_type);
    out.text(" Architecture:", &info.architecture);
    out.line(" CPUs:", info.n_cpu);
    out.line(" Total Memory:", binary_size(info.mem_total as f64));
    out.text(" Name:", &info.name);
    out.text(" ID:", &info.id);
    out.line(" Docker Root Dir:", &info.docker_root_dir);
    out.line(" Debug Mode:", info.debug);
}

fn registries(out: &mut Lines, info: &Info) {
    let Some(config) = &info.registry_config else { return };
    if !config.insecure_registry_cidrs.is_empty() || !config.index_configs.is_empty() {
        out.title(" Insecure Registries:");
        let named = config.index_configs.values().filter(|index| !index.secure).map(|index| &index.name);
        named.chain(&config.insecure_registry_cidrs).for_each(|name| out.title(&format!("  {name}")));
    }
    let mirrors = config.mirrors.as_deref().unwrap_or_default();
    if !mirrors.is_empty() {
        out.title(" Registry Mirrors:");
        mirrors.iter().for_each(|mirror| out.title(&format!("  {mirror}")));
    }
}
