//! What `inspect` verbs print: a JSON array, or a template run against every element.

use crate::error::CliError;
use crate::json;
use crate::template::{Template, Value};

/// How elements are shown.
pub(crate) enum Inspector {
    Indented,
    Compact,
    Template(Template),
}

/// One object: the daemon's bytes, and the typed view that templates see.
pub(crate) struct Element {
    pub(crate) raw: String,
    /// None for kinds that this client has no type for.
    pub(crate) value: Option<Value>,
}

impl Inspector {
    pub(crate) fn parse(format: &str) -> Result<Inspector, CliError> {
        match format {
            "" => Ok(Inspector::Indented),
            "json" => Ok(Inspector::Compact),
            source => Template::parse("", source)
                .map(Inspector::Template)
                .map_err(|bad| CliError::Status { code: 64, text: format!("template parsing error: {bad}") }),
        }
    }

    /// The text for all elements, newline at the end; errors of single elements join `errors`.
    pub(crate) fn show(&self, elements: &[Element], errors: &mut Vec<CliError>) -> String {
        let array = || {
            let parts: Vec<&str> = elements.iter().map(|element| element.raw.trim()).collect();
            format!("[{}]", parts.join(","))
        };
        match self {
            Inspector::Indented => json::indent(&array()) + "\n",
            Inspector::Compact => json::compact(&array()) + "\n",
            Inspector::Template(template) => {
                let mut out = String::new();
                for element in elements {
                    match show(template, element) {
                        Ok(text) => out.push_str(&(text + "\n")),
                        Err(bad) => errors.push(CliError::invalid(format!("template parsing error: {bad}"))),
                    }
                }
                if out.is_empty() { "\n".to_owned() } else { out }
            }
        }
    }
}

/// The typed view first; what it does not know, the JSON may (fields of newer daemons).
fn show(template: &Template, element: &Element) -> Result<String, String> {
    let typed = element.value.as_ref().map(|value| template.render(value, crate::template::Dialect::Row));
    let first = match typed {
        Some(Ok(text)) => return Ok(text),
        Some(Err(first)) => first.to_string(),
        None => String::new(),
    };
    match serde_json::from_str::<Value>(&element.raw) {
        Ok(plain) => template.render_strict(&plain).map_err(|bad| bad.to_string()),
        Err(_) => Err(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Struct;

    fn element() -> Element {
        let value = Struct::ordered("inspect", vec![("Id", Some(Value::str("a"))), ("Health", None)]).into();
        Element { raw: r#"{"Id":"a","New":{"x":1.0}}"#.to_owned(), value: Some(value) }
    }

    fn show_as(format: &str) -> (String, Vec<String>) {
        let mut errors = Vec::new();
        let text = Inspector::parse(format).expect("format").show(&[element()], &mut errors);
        (text, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn templates_see_the_typed_view_then_the_raw_one() {
        assert_eq!(show_as("{{.ID}}{{if .Health}}x{{end}}").0, "a\n");
        assert_eq!(show_as("{{.New.x}} {{json .New}}").0, "1 {\"x\":1}\n");
        let (text, errors) = show_as("{{.Nope}}");
        assert_eq!(text, "\n");
        assert_eq!(
            errors,
            [
                "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""
            ]
        );
    }

    #[test]
    fn without_a_template_the_bytes_of_the_daemon_are_kept() {
        assert_eq!(show_as("json").0, "[{\"Id\":\"a\",\"New\":{\"x\":1.0}}]\n");
        assert!(show_as("").0.starts_with("[\n    {\n        \"Id\": \"a\",\n"));
    }
}
