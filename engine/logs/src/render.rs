//! From records to bytes for a client.

use wharf_logs::{Record, Stamp, Stream};
use wharf_stdio::frame::multiplex_header;

use crate::{Framing, LogQuery};

const NANOS: i64 = 1_000_000_000;
/// `2006-01-02T15:04:05`
const SECONDS_LENGTH: usize = 19;

/// What becomes of one record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its bytes were added.
    Taken,
    Passed,
    /// It is later than everything asked for; records come in order of time.
    Beyond,
}

/// Renders records one after another.
pub(crate) struct Renderer {
    query: LogQuery,
    /// The second printed last, and its text.
    second: Option<(i64, String)>,
    scratch: Vec<u8>,
}

impl Renderer {
    pub fn new(query: LogQuery) -> Self {
        Self { query, second: None, scratch: Vec::new() }
    }

    /// Appends the record's bytes to `out` if it was asked for.
    pub fn render(&mut self, record: &Record, out: &mut Vec<u8>) -> Verdict {
        if self.query.until.is_some_and(|until| record.time > until) {
            return Verdict::Beyond;
        }
        let wanted = match record.stream {
            Stream::Stdout => self.query.stdout,
            Stream::Stderr => self.query.stderr,
        };
        if !wanted || self.query.since.is_some_and(|since| record.time < since) {
            return Verdict::Passed;
        }
        self.scratch.clear();
        if self.query.timestamps {
            self.stamp(record.time);
        }
        if self.query.details {
            for (at, (key, value)) in record.attrs.iter().enumerate() {
                if at > 0 {
                    self.scratch.push(b',');
                }
                self.scratch.extend_from_slice(key.as_bytes());
                self.scratch.push(b'=');
                self.scratch.extend_from_slice(value.as_bytes());
            }
            self.scratch.push(b' ');
        }
        let length = self.scratch.len() + record.line.len();
        if self.query.framing == Framing::Multiplexed {
            let stream = match record.stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            };
            // a record is bounded far below 4 GiB
            out.extend_from_slice(&multiplex_header(stream, u32::try_from(length).unwrap_or(u32::MAX)));
        }
        out.extend_from_slice(&self.scratch);
        out.extend_from_slice(&record.line);
        Verdict::Taken
    }

    /// Go's RFC3339Nano with all nine digits, and a space.
    fn stamp(&mut self, at: Stamp) {
        let second = at.0.div_euclid(NANOS);
        if self.second.as_ref().is_none_or(|(known, _)| *known != second) {
            let mut text = Stamp(second * NANOS).to_string();
            text.truncate(SECONDS_LENGTH);
            self.second = Some((second, text));
        }
        if let Some((_, text)) = &self.second {
            self.scratch.extend_from_slice(text.as_bytes());
        }
        self.scratch.extend_from_slice(format!(".{:09}Z ", at.0.rem_euclid(NANOS)).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn record(nanos: i64, stream: Stream, line: &str) -> Record {
        let attrs = BTreeMap::from([("tag".to_owned(), "x".to_owned())]);
        Record { time: Stamp(nanos), stream, line: line.as_bytes().to_vec(), attrs }
    }

    fn rendered(query: LogQuery, record: &Record) -> (Verdict, Vec<u8>) {
        let mut out = Vec::new();
        let verdict = Renderer::new(query).render(record, &mut out);
        (verdict, out)
    }

    #[test]
    fn frames_have_docker_s_header() {
        let (_, out) = rendered(LogQuery::default(), &record(0, Stream::Stderr, "oh\n"));
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x03oh\n");
    }

    #[test]
    fn timestamps_have_nine_digits_and_details_come_after_them() {
        let query =
            LogQuery { timestamps: true, details: true, framing: Framing::Raw, ..LogQuery::default() };
        let (_, out) = rendered(query, &record(1_700_000_000_120_000_000, Stream::Stdout, "hi\n"));
        assert_eq!(String::from_utf8(out).unwrap(), "2023-11-14T22:13:20.120000000Z tag=x hi\n");
    }

    #[test]
    fn since_and_until_are_inclusive() {
        let query = LogQuery { since: Some(Stamp(5)), until: Some(Stamp(7)), ..LogQuery::default() };
        let verdict = |at| rendered(query, &record(at, Stream::Stdout, "x\n")).0;
        assert_eq!(verdict(4), Verdict::Passed);
        assert_eq!(verdict(5), Verdict::Taken);
        assert_eq!(verdict(7), Verdict::Taken);
        assert_eq!(verdict(8), Verdict::Beyond);
    }

    #[test]
    fn a_stream_can_be_left_out() {
        let query = LogQuery { stdout: false, ..LogQuery::default() };
        assert_eq!(rendered(query, &record(0, Stream::Stdout, "x\n")).0, Verdict::Passed);
        assert_eq!(rendered(query, &record(0, Stream::Stderr, "x\n")).0, Verdict::Taken);
    }
}
