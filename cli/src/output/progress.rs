//! Progress streams of pull, load and import: a line a layer on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::Write;

use wharf_docker::progress::{Detail, Message};

use super::units::human_size;
use crate::error::CliError;
use crate::transport::{ClientError, Response};

/// One line of a stream may be this long.
const MAX_LINE: usize = 1 << 20;

/// Draws messages on an output.
pub(crate) struct Display<W> {
    out: W,
    /// Columns, on a terminal.
    width: Option<usize>,
    /// The row of each id below where drawing began.
    rows: HashMap<String, usize>,
}

impl<W: Write> Display<W> {
    /// `width` is None where the output is no terminal.
    pub(crate) fn new(out: W, width: Option<usize>) -> Display<W> {
        Display { out, width, rows: HashMap::new() }
    }

    /// Shows one message. An error message of the stream comes back as the error.
    pub(crate) fn show(&mut self, message: &Message) -> Result<(), CliError> {
        let failure = message.error_detail.as_ref().map(|detail| detail.message.as_str());
        match failure.filter(|text| !text.is_empty()).unwrap_or(&message.error) {
            "" => {}
            text => return Err(CliError::invalid(text)),
        }
        let text = self.text(message);
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(CliError::io("write progress"))
    }

    fn text(&mut self, message: &Message) -> String {
        let mut up = 0;
        let mut out = String::new();
        let row_of_its_own = !message.id.is_empty() && message.progress_detail.is_some();
        if row_of_its_own {
            let next = self.rows.len();
            let known = self.rows.contains_key(&message.id);
            let row = *self.rows.entry(message.id.clone()).or_insert(next);
            if self.width.is_some() {
                if !known {
                    out.push('\n');
                }
                up = self.rows.len() - row;
                out.push_str(&format!("\x1b[{up}A"));
            }
        } else {
            self.rows.clear();
        }
        self.line(message, &mut out);
        if row_of_its_own && self.width.is_some() {
            out.push_str(&format!("\x1b[{up}B"));
        }
        out
    }

    fn line(&self, message: &Message, out: &mut String) {
        let mut end = "";
        match (&message.progress_detail, self.width) {
            (Some(_), Some(_)) if message.stream.is_empty() => {
                out.push_str("\x1b[2K\r");
                end = "\r";
            }
            // bars are for terminals only
            (Some(detail), None) if !bar(detail, 0).is_empty() => return,
            _ => {}
        }
        if !message.id.is_empty() {
            out.push_str(&format!("{}: ", message.id));
        }
        match (&message.progress_detail, self.width) {
            (Some(detail), Some(width)) => {
                out.push_str(&format!("{} {}{end}", message.status, bar(detail, width)));
            }
            _ if !message.stream.is_empty() => out.push_str(&format!("{}{end}", message.stream)),
            _ => out.push_str(&format!("{}{end}\n", message.status)),
        }
    }
}

/// `[=====>     ]  1.2MB/2.4MB`, the box only on wide terminals.
fn bar(detail: &Detail, width: usize) -> String {
    let (current, total) = (detail.current, detail.total);
    if current <= 0 && total <= 0 {
        return String::new();
    }
    let number = |n: i64| {
        if detail.units.is_empty() { human_size(n as f64, 4) } else { format!("{n} {}", detail.units) }
    };
    if total <= 0 {
        return format!("{:>8}", number(current));
    }
    let half_percent = ((current as f64 / total as f64 * 100.0) as usize / 2).min(50);
    let mut out = String::new();
    if width > 110 {
        out = format!("[{}>{}] ", "=".repeat(half_percent), " ".repeat(50 - half_percent));
    }
    match () {
        () if detail.hide_counts => {}
        () if current > total => out.push_str(&format!("{:>8}", number(current))),
        () if detail.units.is_empty() => out.push_str(&format!("{:>8}/{}", number(current), number(total))),
        () => out.push_str(&format!("{current}/{total} {}", detail.units)),
    }
    out
}

/// Shows a whole answer; `aux` sees the values that the daemon sends beside the lines.
pub(crate) async fn show_all<W: Write>(
    mut answer: Response,
    display: &mut Display<W>,
    mut aux: impl FnMut(&serde_json::Value),
) -> Result<(), CliError> {
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let chunk = answer.chunk().await?;
        let at_end = chunk.is_none();
        pending.extend_from_slice(&chunk.unwrap_or_default());
        let whole = if at_end {
            pending.len()
        } else {
            pending.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1)
        };
        if whole == 0 && pending.len() > MAX_LINE {
            return Err(ClientError::Unexpected {
                act: "progress".to_owned(),
                text: "line too long".to_owned(),
            }
            .into());
        }
        let lines: Vec<u8> = pending.drain(..whole).collect();
        // values may also follow each other without a newline
        for message in serde_json::Deserializer::from_slice(&lines).into_iter::<Message>() {
            let message = message.map_err(|bad| ClientError::Unexpected {
                act: "progress".to_owned(),
                text: bad.to_string(),
            })?;
            if let Some(value) = &message.aux {
                aux(value);
                if message.status.is_empty() && message.stream.is_empty() {
                    continue;
                }
            }
            display.show(&message)?;
        }
        if at_end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(width: Option<usize>, messages: &[Message]) -> String {
        let mut out = Vec::new();
        let mut display = Display::new(&mut out, width);
        for message in messages {
            display.show(message).expect("shown");
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn without_a_terminal_bars_are_left_out() {
        let shown = draw(
            None,
            &[
                Message::status("latest", "Pulling from library/x"),
                Message::progress("abc", "Downloading", 5, 10),
                Message::progress("abc", "Pull complete", 0, 0),
                Message::status("", "Digest: sha256:1"),
            ],
        );
        assert_eq!(shown, "latest: Pulling from library/x\nabc: Pull complete\nDigest: sha256:1\n");
    }

    #[test]
    fn on_a_terminal_each_layer_keeps_its_row() {
        let shown = draw(
            Some(80),
            &[
                Message::progress("a", "Downloading", 5, 10),
                Message::progress("b", "Waiting", 0, 0),
                Message::progress("a", "Downloading", 10, 10),
            ],
        );
        let want = "\n\x1b[1A\x1b[2K\ra: Downloading       5B/10B\r\x1b[1B\
                    \n\x1b[1A\x1b[2K\rb: Waiting \r\x1b[1B\
                    \x1b[2A\x1b[2K\ra: Downloading      10B/10B\r\x1b[2B";
        assert_eq!(shown, want);
    }

    #[test]
    fn wide_terminals_get_a_bar_and_errors_end_the_stream() {
        let detail = |current, total| Detail { current, total, ..Detail::default() };
        assert_eq!(
            bar(&detail(50, 100), 120),
            format!("[{}>{}]      50B/100B", "=".repeat(25), " ".repeat(25))
        );
        assert_eq!(bar(&detail(1500, 0), 120), "   1.5kB");
        let mut out = Vec::new();
        let bad =
            Display::new(&mut out, None).show(&Message::failure("no such thing")).expect_err("an error");
        assert_eq!(bad.to_string(), "no such thing");
    }
}
