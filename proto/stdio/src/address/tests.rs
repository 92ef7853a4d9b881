use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<StdioAddress, AddressError> {
    text.parse()
}

#[test]
fn every_key_is_read() {
    let a = parse("wharf:///var/lib/x/a-json.log?format=local&max-size=1048576&max-file=3&attach=/run/a.sock&stdin=once&tag=web%201&attr.env=prod").unwrap();
    assert_eq!(a.log, Path::new("/var/lib/x/a-json.log"));
    assert_eq!(a.format, LogFormat::Local);
    assert_eq!((a.max_size, a.max_file), (1_048_576, 3));
    assert_eq!(a.attach.as_deref(), Some(Path::new("/run/a.sock")));
    assert_eq!(a.stdin, StdinMode::Once);
    assert_eq!(a.attrs["tag"], "web 1");
    assert_eq!(a.attrs["env"], "prod");
}

#[test]
fn a_bare_path_is_one_unlimited_json_file() {
    assert_eq!(parse("wharf:///log").unwrap(), StdioAddress::new("/log"));
}

#[test]
fn bad_addresses_name_the_field_and_what_it_takes() {
    for (text, part) in [
        ("/run/fifo", "wharf:///"),
        ("wharf://relative", "absolute"),
        ("wharf:///a/../b", "absolute"),
        ("wharf:///a%00b", "absolute"),
        ("wharf:///a?format=xml", "json-file, local, cri, none"),
        ("wharf:///a?stdin=maybe", "none, open, once"),
        ("wharf:///a?max-size=-1", "max-size=-1"),
        ("wharf:///a?max-file=0", "from 1 to 1000"),
        ("wharf:///a?attach=rel", "attach must be an absolute path"),
        ("wharf:///a?binary=/bin/sh", "unknown key"),
        ("wharf:///a?format=cri&format=cri", "twice"),
        ("wharf:///a?stdin=open", "needs an attach socket"),
        ("wharf:///a?attach=/a", "own"),
        ("wharf:///?format=cri", "absolute"),
        ("wharf:///a%zz", "encoding"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(parse(&format!("wharf:///{}", "a".repeat(20_000))).is_err());
    assert!(parse(&format!("wharf:///a?attach=/{}", "a".repeat(107))).is_err());
}

#[test]
fn only_the_scheme_makes_an_address() {
    assert!(StdioAddress::is_address("wharf:///x"));
    assert!(!StdioAddress::is_address("/run/wharf/x"));
    assert!(!StdioAddress::is_address("binary:///x"));
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(
        log in "/[ -~é]{1,40}", attach in proptest::option::of("/[!-~]{1,20}/s"), tag in "[ -~ü]{0,20}",
        max_size in any::<u64>(), max_file in 1u32..1000, format in 0usize..4,
    ) {
        let mut a = StdioAddress::new(format!("{log}x"));
        prop_assume!(!a.log.components().any(|c| c == std::path::Component::ParentDir));
        a.attach = attach.map(PathBuf::from);
        prop_assume!(a.attach.as_ref().is_none_or(|p| !p.components().any(|c| c == std::path::Component::ParentDir) && *p != a.log));
        a.stdin = if a.attach.is_some() { StdinMode::Open } else { StdinMode::None };
        a.attrs.insert("tag".into(), tag.clone());
        a.attrs.insert("k&=".into(), tag);
        (a.max_size, a.max_file) = (max_size, max_file);
        a.format = [LogFormat::JsonFile, LogFormat::Local, LogFormat::Cri, LogFormat::None][format];
        prop_assert_eq!(a.to_string().parse::<StdioAddress>().unwrap(), a);
    }

    #[test]
    fn no_text_panics(text in "wharf://.{0,60}") {
        let _ = text.parse::<StdioAddress>();
    }
}
