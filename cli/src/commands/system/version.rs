//! `wharf version`.

use wharf_docker::system::{ComponentVersion, Version};

use super::client::ClientSide;
use crate::error::CliError;
use crate::output::tabwriter;
use crate::session::{Session, print};
use crate::template::{Dialect, Struct, Template, Value, to_value};
use crate::transport::MAX_VERSION;
use crate::transport::url::Query;
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct VersionOptions {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(long, short, value_name = "string", default_value = "")]
    format: String,
}

impl Options for VersionOptions {
    const USAGE: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Show the Wharf version information";
    const ARITY: Arity = Arity::None;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let source = if self.format == "json" { "{{json .}}" } else { &self.format };
        let template = Template::parse("version", source)
            .map_err(|bad| CliError::Status { code: 64, text: format!("template parsing error: {bad}") })?;
        let asked = ask(session).await;
        let known = session.client()?.known_version().unwrap_or(MAX_VERSION).to_string();
        let client = ClientSide::of(session, known);
        let text = if self.format.is_empty() {
            plain(&client, asked.as_ref().ok())
        } else {
            let server = match &asked {
                Ok(server) => to_value(server)?,
                Err(_) => Value::NIL,
            };
            let both: Value = Struct::ordered(
                "system.versionInfo",
                vec![("Client", Some(client.value())), ("Server", Some(server))],
            )
            .into();
            match template.render(&both, Dialect::Row) {
                Ok(text) => text + "\n",
                Err(bad) => {
                    print("\n")?;
                    return Err(asked.err().unwrap_or(CliError::invalid(bad.to_string())));
                }
            }
        };
        print(&tabwriter::align(&text, tabwriter::VERSION))?;
        asked.map(|_| ())
    }
}

/// The server's version; one that names no engine among its components gets it from the older fields.
async fn ask(session: &Session) -> Result<Version, CliError> {
    let mut version: Version = session.client()?.get("/version", Query::new()).await?.json().await?;
    let mut has_engine = false;
    for component in version.components.iter_mut().filter(|component| component.name == "Engine") {
        has_engine = true;
        if let Some(built) = component.details.get_mut("BuildTime") {
            *built = ansi_time(built);
        }
    }
    if !has_engine {
        let details = [
            ("ApiVersion", version.api_version.clone()),
            ("MinAPIVersion", version.min_api_version.clone()),
            ("GitCommit", version.git_commit.clone()),
            ("GoVersion", version.go_version.clone()),
            ("Os", version.os.clone()),
            ("Arch", version.arch.clone()),
            ("BuildTime", ansi_time(&version.build_time)),
            ("Experimental", version.experimental.to_string()),
        ];
        version.components.push(ComponentVersion {
            name: "Engine".to_owned(),
            version: version.version.clone(),
            details: details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        });
    }
    Ok(version)
}

/// `Mon Jan _2 15:04:05 2006`, as C's asctime; what is no RFC 3339 time stays as it is.
fn ansi_time(text: &str) -> String {
    let Ok(time) = text.parse::<jiff::Timestamp>() else { return text.to_owned() };
    // in the zone of the text, not in ours
    let pieces = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(text);
    let offset = pieces.ok().and_then(|pieces| pieces.to_numeric_offset()).unwrap_or(jiff::tz::Offset::UTC);
    time.to_zoned(jiff::tz::TimeZone::fixed(offset)).strftime("%a %b %e %H:%M:%S %Y").to_string()
}

fn plain(client: &ClientSide, server: Option<&Version>) -> String {
    let mut out = format!("Client:\n Version:\t{}\n API version:\t{}", client.version, client.api_version);
    if client.api_version != client.default_api_version {
        out.push_str(&format!(" (downgraded from {})", client.default_api_version));
    }
    out.push_str(&format!("\n OS/Arch:\t{}/{}\n Context:\t{}", client.os, client.arch, client.context));
    if let Some(server) = server {
        let name = &server.platform.name;
        out.push_str(&format!("\n\nServer:{}{name}", if name.is_empty() { "" } else { " " }));
        for component in &server.components {
            out.push_str(&format!("\n {}:", component.name));
            match component.name.as_str() {
                "Engine" => out.push_str(&engine(server, component)),
                _ => {
                    out.push_str(&format!("\n  Version:\t{}", component.version));
                    for (name, value) in &component.details {
                        out.push_str(&format!("\n  {name}:\t{value}"));
                    }
                }
            }
        }
    }
    out + "\n"
}

fn engine(server: &Version, component: &ComponentVersion) -> String {
    let detail = |name: &str| component.details.get(name).map_or("", String::as_str);
    let version = if component.version.is_empty() { &server.version } else { &component.version };
    let mut out = format!(
        "\n  Version:\t{version}\n  API version:\t{} (minimum version {})",
        detail("ApiVersion"),
        detail("MinAPIVersion"),
    );
    // only a daemon in Go has the first of these
    for (label, name) in [("Go version", "GoVersion"), ("Git commit", "GitCommit"), ("Built", "BuildTime")] {
        if !detail(name).is_empty() {
            out.push_str(&format!("\n  {label}:\t{}", detail(name)));
        }
    }
    let (os, arch, experimental) = (detail("Os"), detail("Arch"), detail("Experimental"));
    out + &format!("\n  OS/Arch:\t{os}/{arch}\n  Experimental:\t{experimental}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_times_are_shown_as_c_does() {
        assert_eq!(ansi_time("2025-05-03T12:07:14.000000000+02:00"), "Sat May  3 12:07:14 2025");
        assert_eq!(ansi_time("yesterday"), "yesterday");
    }
}
