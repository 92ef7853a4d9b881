use std::collections::BTreeMap;

use serde::Deserialize;

use super::{from_slice, from_str};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Inner {
    memory: i64,
    privileged: bool,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Outer {
    #[serde(rename = "ID")]
    id: String,
    cmd: Option<Vec<String>>,
    labels: BTreeMap<String, String>,
    host_config: Inner,
    pointer: Option<Inner>,
    small: u8,
    port: Option<Port>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Port {
    Tcp,
}

#[test]
fn keys_match_without_regard_to_case() {
    let got: Outer = from_str(r#"{"id":"x","hostconfig":{"MEMORY":5},"PORT":"tcp"}"#).unwrap();
    assert_eq!(got.id, "x");
    assert_eq!(got.host_config.memory, 5);
    assert_eq!(got.port, Some(Port::Tcp));
}

#[test]
fn an_exact_key_wins_over_a_folded_one() {
    let got: Outer = from_str(r#"{"ID":"exact","id":"folded"}"#).unwrap();
    assert_eq!(got.id, "exact");
}

#[test]
fn null_is_absent_in_a_struct_and_zero_elsewhere() {
    let got: Outer =
        from_str(r#"{"ID":null,"Cmd":["a",null],"Labels":{"k":null},"HostConfig":null,"Pointer":null}"#)
            .unwrap();
    assert_eq!(got.id, "");
    assert_eq!(got.cmd, Some(vec!["a".into(), String::new()]));
    assert_eq!(got.labels, BTreeMap::from([("k".into(), String::new())]));
    assert_eq!(got.pointer, None);
    assert_eq!(from_str::<Outer>("null").unwrap(), Outer::default());
}

#[test]
fn unknown_keys_are_ignored_and_map_keys_keep_their_case() {
    let got: Outer = from_str(r#"{"Nope":{"a":[1]},"Labels":{"Aa":"1","aA":"2"}}"#).unwrap();
    assert_eq!(got.labels.len(), 2);
}

#[test]
fn errors_name_the_path() {
    let text = |body: &str| from_str::<Outer>(body).unwrap_err().to_string();
    assert_eq!(
        text(r#"{"HostConfig":{"Memory":"5"}}"#),
        "invalid JSON: HostConfig.Memory: expected a number, found a string"
    );
    assert_eq!(text(r#"{"Cmd":["a",1]}"#), "invalid JSON: Cmd[1]: expected a string, found a number");
    assert!(text(r#"{"Small":256}"#).starts_with("invalid JSON: Small: "));
    assert!(text(r#"{"ID":"x"} trailing"#).starts_with("invalid JSON: "));
    assert!(text(r#"{"ID":"#).starts_with("invalid JSON: "));
}

#[test]
fn an_empty_body_can_be_told() {
    assert!(from_slice::<Outer>(b" \n").unwrap_err().is_empty_body());
    assert!(!from_slice::<Outer>(b"{").unwrap_err().is_empty_body());
}

#[test]
fn deep_nesting_is_refused() {
    let body = "[".repeat(100_000);
    assert!(from_str::<Outer>(&body).is_err());
}
