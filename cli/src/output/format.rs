//! Rows of a listing by `--format`: `table …`, `json`, `raw` or a template.

use crate::error::CliError;
use crate::template::{Dialect, Struct, Template};

use super::tabwriter::{self, TABLE};

/// A format, parsed once and used for all rows.
pub(crate) struct RowFormat {
    template: Template,
    table: bool,
}

impl RowFormat {
    /// Reads docker's format keys; `\t` and `\n` written out are a tab and a newline.
    pub(crate) fn parse(source: &str) -> Result<RowFormat, CliError> {
        let (table, source) = match source {
            "json" => (false, "{{json .}}"),
            _ => source.strip_prefix("table").map_or((false, source), |rest| (true, rest)),
        };
        let source = source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        let template = Template::parse("", &source)
            .map_err(|bad| CliError::invalid(format!("template parsing error: {bad}")))?;
        Ok(RowFormat { template, table })
    }

    /// Whether rows show this field.
    pub(crate) fn mentions(&self, field: &str) -> bool {
        self.template.mentions(field)
    }

    /// All rows, with a header line over a table. `headers` names the columns by field.
    pub(crate) fn render(
        &self,
        headers: &[(&'static str, &str)],
        rows: impl IntoIterator<Item = Struct>,
    ) -> Result<String, CliError> {
        let mut out = String::new();
        for row in rows {
            let shown = self
                .template
                .render(&row.into(), Dialect::Row)
                .map_err(|bad| CliError::invalid(format!("template parsing error: {bad}")))?;
            out.push_str(&shown);
            out.push('\n');
        }
        if !self.table {
            return Ok(out);
        }
        // docker prints what it has when a header cannot be rendered
        let header =
            self.template.render(&Struct::header(headers).into(), Dialect::Header).unwrap_or_default();
        Ok(tabwriter::align(&format!("{header}\n{out}"), TABLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Value;

    fn rows() -> Vec<Struct> {
        let row = |id: &str, name: &str| {
            Struct::row("*formatter.X", vec![("Name", Value::str(name)), ("ID", Value::str(id))])
        };
        vec![row("1", "a-rather-long-name"), row("2", "b")]
    }

    const HEADERS: &[(&str, &str)] = &[("ID", "X ID"), ("Name", "NAME")];

    #[track_caller]
    fn check(format: &str, want: &str) {
        let shown = RowFormat::parse(format).and_then(|format| format.render(HEADERS, rows()));
        assert_eq!(shown.unwrap_or_else(|bad| bad.to_string()), want, "{format}");
    }

    #[test]
    fn tables_have_headers_and_aligned_columns() {
        check(
            "table {{.Name}}\\t{{.ID}}",
            "NAME                 X ID\na-rather-long-name   1\nb                    2\n",
        );
        check("table {{upper .Name}}", "NAME\nA-RATHER-LONG-NAME\nB\n");
    }

    #[test]
    fn json_sorts_the_fields_and_plain_formats_print_lines() {
        check("json", "{\"ID\":\"1\",\"Name\":\"a-rather-long-name\"}\n{\"ID\":\"2\",\"Name\":\"b\"}\n");
        check("{{.ID}}:{{.Name}}", "1:a-rather-long-name\n2:b\n");
        check(
            "{{.Nope}}",
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *formatter.X",
        );
        check("{{.ID", "template parsing error: template: :1: unclosed action");
    }
}
