//! `wharf events`.

use wharf_docker::event::Message;

use crate::error::CliError;
use crate::options::filter::{self, Filters};
use crate::options::instant;
use crate::output::text::rfc3339_nanos;
use crate::session::{Session, print};
use crate::template::{Dialect, Template, to_value};
use crate::transport::url::Query;
use crate::transport::{ClientError, decode};
use crate::verb::{Arity, Options};

#[derive(clap::Args, Debug)]
pub(crate) struct EventsOptions {
    /// Filter output based on conditions provided
    #[arg(long, short, value_name = "filter", value_parser = filter::parse)]
    filter: Vec<(String, String)>,
    /// Format output using a custom template: 'json' or a Go template
    #[arg(long, value_name = "string", default_value = "")]
    format: String,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string", default_value = "")]
    since: String,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string", default_value = "")]
    until: String,
}

/// One event may be this long.
const MAX_EVENT: usize = 4 << 20;

/// What is shown of an event: its JSON, a template, or docker's line.
enum Shape {
    Json,
    Line,
    Template(Template),
}

impl Shape {
    fn parse(format: &str) -> Result<Shape, CliError> {
        let refused =
            |bad: String| CliError::Status { code: 64, text: format!("Error parsing format: {bad}") };
        match format {
            "" => Ok(Shape::Line),
            "json" => Ok(Shape::Json),
            source => {
                let template = Template::parse("", source).map_err(|bad| refused(bad.to_string()))?;
                // a field that does not exist is noticed now and not at the first event
                template
                    .render(&to_value(&Message::default())?.named("*events.Message"), Dialect::Row)
                    .map_err(|bad| refused(bad.to_string()))?;
                Ok(Shape::Template(template))
            }
        }
    }

    fn show(&self, line: &[u8]) -> Result<String, CliError> {
        let event: Message = decode("events", line)?;
        Ok(match self {
            Shape::Json => to_value(&event)?.to_json() + "\n",
            Shape::Line => plain(&event),
            Shape::Template(template) => {
                let text = template.render(&to_value(&event)?, Dialect::Row);
                text.map_err(|bad| CliError::invalid(bad.to_string()))? + "\n"
            }
        })
    }
}

/// `TIME TYPE ACTION ID (name=value, …)`.
fn plain(event: &Message) -> String {
    let nanos = if event.time_nano == 0 { event.time.saturating_mul(1_000_000_000) } else { event.time_nano };
    let mut out = if nanos == 0 { String::new() } else { rfc3339_nanos(nanos) + " " };
    out.push_str(&format!("{} {} {}", event.r#type, event.action, event.actor.id));
    if !event.actor.attributes.is_empty() {
        let pairs: Vec<String> =
            event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        out.push_str(&format!(" ({})", pairs.join(", ")));
    }
    out + "\n"
}

impl Options for EventsOptions {
    const USAGE: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Get real time events from the server";
    const ARITY: Arity = Arity::None;

    async fn run(self, session: &Session) -> Result<(), CliError> {
        let shape = Shape::parse(&self.format)?;
        let filters: Filters = self.filter.into_iter().collect();
        let instant = |text: &str| instant::parse(text).map_err(CliError::Invalid);
        let query = Query::new()
            .text("since", &instant(&self.since)?)
            .text("until", &instant(&self.until)?)
            .text("filters", &filters.to_query());
        let mut answer = session.client()?.get("/events", query).await?;
        let mut pending: Vec<u8> = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                if !line.trim_ascii().is_empty() {
                    print(&shape.show(&line)?)?;
                }
            }
            if pending.len() > MAX_EVENT {
                let text = "event too long".to_owned();
                return Err(ClientError::Unexpected { act: "events".to_owned(), text }.into());
            }
        }
        if !pending.trim_ascii().is_empty() {
            print(&shape.show(&pending)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_cannot_work_is_refused_at_once() {
        assert!(Shape::parse("{{.Type}} {{.Actor.Attributes.name}} {{.ID}}").is_ok());
        let refused = |format| Shape::parse(format).err().map(|bad| (bad.code(), bad.to_string()));
        assert!(
            refused("{{.Nope}}")
                .is_some_and(|(code, text)| code == 64 && text.contains("can't evaluate field Nope"))
        );
        assert!(refused("{{").is_some());
    }

    #[test]
    fn an_event_is_one_line() {
        let line = br#"{"Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"name":"x","exitCode":"0"}}}"#;
        let shown = Shape::Line.show(line).expect("event");
        assert_eq!(shown, "container die abc (exitCode=0, name=x)\n");
    }
}
