//! `[stream_processors]` of the configuration, in containerd's words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lifecycle_snapshots::{Processors, StreamProcessor};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// A program that makes blobs of some media types into another, such as encrypted layers into layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Processor {
    accepts: Vec<String>,
    returns: String,
    path: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
}

pub type Table = BTreeMap<String, Processor>;

pub fn validate(table: &Table) -> Result<(), ConfigError> {
    for (id, one) in table {
        let wrong = |why: &str| Err(ConfigError::Processor(id.clone(), why.to_owned()));
        if one.accepts.is_empty() || one.accepts.iter().any(String::is_empty) {
            return wrong("accepts must name media types");
        }
        if one.returns.is_empty() {
            return wrong("returns must name a media type");
        }
        if one.path.as_os_str().is_empty() {
            return wrong("path must name a program");
        }
        if let Some(pair) = one.env.iter().find(|pair| !pair.contains('=')) {
            return wrong(&format!("env must have NAME=value, not {pair:?}"));
        }
    }
    Ok(())
}

pub fn processors(table: &Table) -> Processors {
    let convert = |(id, one): (&String, &Processor)| StreamProcessor {
        id: id.clone(),
        accepts: one.accepts.clone(),
        returns: one.returns.clone(),
        path: one.path.clone(),
        args: one.args.clone(),
        env: one.env.clone(),
    };
    Processors::new(table.iter().map(convert).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECODER: &str = r#"
[decoder]
accepts = ["application/vnd.oci.image.layer.v1.tar+encrypted"]
returns = "application/vnd.oci.image.layer.v1.tar"
path = "ctd-decoder"
args = ["--keys", "/etc/keys"]
env = ["A=b"]
"#;

    #[test]
    fn containerds_table_is_read() {
        let table: Table = toml::from_str(DECODER).expect("table");
        validate(&table).expect("valid");
        assert_ne!(processors(&table), Processors::default());
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (from, to, key) in [
            ("[\"application/vnd.oci.image.layer.v1.tar+encrypted\"]", "[]", "accepts"),
            ("\"application/vnd.oci.image.layer.v1.tar\"\npath", "\"\"\npath", "returns"),
            ("\"ctd-decoder\"", "\"\"", "path"),
            ("A=b", "A", "env"),
        ] {
            let text = DECODER.replacen(from, to, 1);
            assert_ne!(text, DECODER);
            let table: Table = toml::from_str(&text).expect("table");
            let error = validate(&table).expect_err("refused").to_string();
            assert!(error.contains("decoder") && error.contains(key), "{error}");
        }
    }
}
