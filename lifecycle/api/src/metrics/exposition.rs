//! Prometheus' text format, version 0.0.4.
//!
//! Written here and not by a crate: the values of containers exist only while they are read, with labels of their
//! own, and the crate at hand writes OpenMetrics, which renames what containerd's names already say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The media type of what [`Exposition::render`] gives.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The upper bounds of histograms, in seconds (the usual ones of Prometheus' clients).
pub(crate) const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

struct Family {
    kind: Kind,
    help: &'static str,
    samples: String,
}

/// One reading, family by family.
#[derive(Default)]
pub(crate) struct Exposition {
    families: BTreeMap<String, Family>,
}

/// Observations by bucket; `counts` are not yet summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) counts: [u64; BOUNDS.len() + 1],
    pub(crate) sum: f64,
}

/// A label and its value.
pub(crate) type Label<'a> = (&'a str, &'a str);

impl Exposition {
    /// Adds a sample to the family `name`.
    pub(crate) fn sample(
        &mut self,
        name: &str,
        help: &'static str,
        kind: Kind,
        labels: &[Label<'_>],
        value: f64,
    ) {
        let family = self.family(name, help, kind);
        line(&mut family.samples, name, "", labels, value);
    }

    /// Adds a histogram of seconds to the family `name`.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        help: &'static str,
        labels: &[Label<'_>],
        histogram: &Histogram,
    ) {
        let samples = &mut self.family(name, help, Kind::Histogram).samples;
        let mut so_far = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in histogram.counts.iter().zip(bounds) {
            so_far += count;
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            line(samples, name, "_bucket", &labels, so_far as f64);
        }
        line(samples, name, "_sum", labels, histogram.sum);
        line(samples, name, "_count", labels, so_far as f64);
    }

    fn family(&mut self, name: &str, help: &'static str, kind: Kind) -> &mut Family {
        self.families.entry(name.to_owned()).or_insert_with(|| Family { kind, help, samples: String::new() })
    }

    pub(crate) fn render(self) -> String {
        let mut text = String::new();
        for (name, family) in self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            // writing to a string cannot fail
            let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n{}", family.help, family.samples);
        }
        text
    }
}

impl Histogram {
    pub(crate) fn observe(&mut self, seconds: f64) {
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[at] += 1;
        self.sum += seconds;
    }
}

fn line(to: &mut String, name: &str, suffix: &str, labels: &[Label<'_>], value: f64) {
    to.push_str(name);
    to.push_str(suffix);
    for (at, (label, text)) in labels.iter().enumerate() {
        let _ = write!(to, "{}{label}=\"", if at == 0 { '{' } else { ',' });
        for character in text.chars() {
            match character {
                '\\' => to.push_str("\\\\"),
                '"' => to.push_str("\\\""),
                '\n' => to.push_str("\\n"),
                _ => to.push(character),
            }
        }
        to.push('"');
    }
    if !labels.is_empty() {
        to.push('}');
    }
    let _ = writeln!(to, " {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_described_once_and_labels_escaped() {
        let mut to = Exposition::default();
        to.sample("b_total", "of b", Kind::Counter, &[("x", "a\"\\\n")], 2.0);
        to.sample("a", "of a", Kind::Gauge, &[], 0.5);
        to.sample("b_total", "of b", Kind::Counter, &[("x", "y"), ("z", "")], 1e19);
        let expected = "# HELP a of a\n# TYPE a gauge\na 0.5\n\
                        # HELP b_total of b\n# TYPE b_total counter\n\
                        b_total{x=\"a\\\"\\\\\\n\"} 2\nb_total{x=\"y\",z=\"\"} 10000000000000000000\n";
        assert_eq!(to.render(), expected);
    }

    #[test]
    fn buckets_are_summed_up() {
        let mut histogram = Histogram::default();
        for seconds in [0.001, 0.005, 0.3, 60.0] {
            histogram.observe(seconds);
        }
        let mut to = Exposition::default();
        to.histogram("h_seconds", "of h", &[("m", "x")], &histogram);
        let text = to.render();
        for line in [
            "# TYPE h_seconds histogram",
            "h_seconds_bucket{m=\"x\",le=\"0.005\"} 2",
            "h_seconds_bucket{m=\"x\",le=\"0.25\"} 2",
            "h_seconds_bucket{m=\"x\",le=\"0.5\"} 3",
            "h_seconds_bucket{m=\"x\",le=\"10\"} 3",
            "h_seconds_bucket{m=\"x\",le=\"+Inf\"} 4",
            "h_seconds_count{m=\"x\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
