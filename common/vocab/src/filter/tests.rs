use proptest::prelude::*;

use super::*;

fn matches(filter: &str) -> bool {
    let filter = Filter::parse_all(&[filter]).unwrap_or_else(|e| panic!("{filter}: {e}"));
    filter.matches(|path| match path {
        ["name"] => Some("docker.io/library/busybox:1.36".into()),
        ["labels", rest @ ..] => match rest.join(".").as_str() {
            "a" => Some("1".into()),
            "more.dotted" => Some("x y".into()),
            "containerd.io/gc.root" => Some("".into()),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn selectors_test_fields() {
    for yes in [
        "",
        "name",
        "name==docker.io/library/busybox:1.36",
        r#"name=="docker.io/library/busybox:1.36""#,
        "name~=busybox",
        "name~=/busy.ox/",
        "name~=|^docker[.]io/|",
        "labels.a",
        "labels.a==1",
        r#"labels."a"==1"#,
        r#"labels."containerd.io/gc.root""#,
        "labels.more.dotted",
        r#"labels."more.dotted"=="x y""#,
        "labels.a!=2",
        "labels.absent!=2",
        "absent~=^$",
        "name,labels.a==1",
        " name , labels.a == 1",
        r#"labels.a=="\x31""#,
        r#"labels.a=="\061""#,
        r#"labels.a=="\u0031""#,
    ] {
        // a space before a comma is unexpected input to containerd, too
        if yes == " name , labels.a == 1" {
            assert!(Filter::parse_all(&[yes]).is_err());
            continue;
        }
        assert!(matches(yes), "{yes}");
    }
    for no in
        ["absent", "absent==", "name==x", "name~=^busybox", "labels.a==2", "name,labels.b", "labels.a!=1"]
    {
        if no == "absent==" {
            assert!(Filter::parse_all(&[no]).is_err());
            continue;
        }
        assert!(!matches(no), "{no}");
    }
}

#[test]
fn one_of_several_filters_is_enough() {
    let filter = Filter::parse_all(&["id==a", "id==b"]).unwrap();
    let with = |id: &'static str| filter.matches(|path| (path == ["id"]).then(|| id.into()));
    assert!(with("a") && with("b") && !with("c"));
    assert!(Filter::parse_all::<&str>(&[]).unwrap().matches(|_| None));
}

#[test]
fn malformed_filters_are_refused() {
    for bad in [
        "name=",
        "name=x",
        "name===x",
        "name==",
        ",",
        "name,",
        ".a",
        "a.",
        "a..b",
        "name==/x/",
        "name==\"x",
        "name~=(",
        "name==\"\\q\"",
        "name x",
        "a\0",
        "-a",
        "name==x y",
    ] {
        assert!(Filter::parse_all(&[bad]).is_err(), "{bad:?}");
    }
    let text = Filter::parse_all(&["name=x"]).unwrap_err().to_string();
    assert_eq!(text, r#"filters: parse error: [name >|=|< x]: unsupported operator "=": invalid argument"#);
    assert!(Filter::parse_all(&["a".repeat(1 << 20)]).is_err());
    assert!(Filter::parse_all(&vec!["a"; 1000]).is_err());
    assert!(Filter::parse_all(&["name~=(a{1000}){1000}"]).is_err());
}

proptest! {
    #[test]
    fn anything_at_all_never_panics(text in "\\PC{0,60}") {
        if let Ok(filter) = Filter::parse_all(&[text]) {
            filter.matches(|_| Some("x".into()));
        }
    }

    #[test]
    fn any_quoted_value_is_read_back(value in "[^\\p{C}]{0,30}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let filter = Filter::parse_all(&[format!("a==\"{quoted}\"")]).unwrap();
        prop_assert!(filter.matches(|_| Some(value.clone().into())));
    }
}
