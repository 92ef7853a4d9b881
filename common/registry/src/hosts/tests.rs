use std::time::Duration;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn names(hosts: &[Host]) -> Vec<String> {
    let name = |host: &Host| match &host.server {
        Some(server) => format!("{}://{}{}", server.scheme.as_str(), server.host, server.path),
        None => "itself".to_owned(),
    };
    hosts.iter().map(name).collect()
}

#[test]
fn hosts_keep_the_order_of_the_file() {
    let text = r#"
server = "https://origin.example"
[host."https://z.example".header]
  x-first = "1"
[host."http://m.example:5000"]
  capabilities = ["pull"]
[host."https://a.example/v2/proxy"]
  override_path = true
[host."https://z.example"]
  capabilities = ["Pull", "resolve"]
  dial_timeout = "1m30s"
"#;
    let root = folder(&[("r.example/hosts.toml", text)]);
    let hosts = load(root.path(), "r.example").unwrap().unwrap();
    let wanted = [
        "https://z.example/v2",
        "http://m.example:5000/v2",
        "https://a.example/v2/proxy",
        "https://origin.example/v2",
    ];
    assert_eq!(names(&hosts), wanted);
    assert_eq!(hosts[0].headers["x-first"], "1");
    assert_eq!(hosts[0].capabilities, Capabilities { pull: true, resolve: true, push: false });
    assert_eq!(hosts[0].dial_timeout, Some(Duration::from_secs(90)));
    assert_eq!(hosts[1].capabilities, Capabilities { pull: true, resolve: false, push: false });
    assert_eq!(hosts[3].capabilities, Capabilities::ALL);
}

#[test]
fn files_are_taken_from_the_folder_in_all_spellings() {
    let text = r#"
ca = ["one.pem", "/abs/two.pem"]
client = [["c.pem", "k.pem"], "both.pem"]
skip_verify = false
[host.mirror]
  ca = "m.pem"
  client = "m-both.pem"
  header = { a = ["1", "2"] }
"#;
    let root = folder(&[("_default/hosts.toml", text)]);
    let hosts = load(root.path(), "any.example:5000").unwrap().unwrap();
    let at = |name: &str| root.path().join("_default").join(name);
    let paths = |files: &[PemFile]| files.iter().map(|f| f.path().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&hosts), ["https://mirror/v2", "itself"]);
    assert_eq!(paths(&hosts[0].ca), [at("m.pem")]);
    assert_eq!(hosts[0].client[0].certificate.path(), at("m-both.pem"));
    assert!(hosts[0].client[0].key.is_none());
    assert_eq!(hosts[0].headers.get_all("a").iter().count(), 2);
    assert_eq!(paths(&hosts[1].ca), [at("one.pem"), "/abs/two.pem".into()]);
    assert_eq!(hosts[1].client[0].key.as_ref().unwrap().path(), at("k.pem"));
    assert!(hosts[1].client[1].key.is_none());
    assert_eq!(hosts[1].skip_verify, Some(false));
}

#[test]
fn the_folder_with_underscores_comes_first_and_the_default_last() {
    let server = |name: &str| format!("server = \"https://{name}\"\n");
    let (under, colon, default) = (server("under"), server("colon"), server("default"));
    let root = folder(&[
        ("r_5000_/hosts.toml", &under),
        ("r:5000/hosts.toml", &colon),
        ("r:5001/hosts.toml", &colon),
        ("_default/hosts.toml", &default),
    ]);
    let found = |domain| names(&load(root.path(), domain).unwrap().unwrap());
    assert_eq!(found("r:5000"), ["https://under/v2"]);
    assert_eq!(found("r:5001"), ["https://colon/v2"]);
    assert_eq!(found("r"), ["https://default/v2"]);
    let empty = folder(&[]);
    assert!(load(empty.path(), "r").unwrap().is_none());
}

#[test]
fn dockers_layout_gives_certificates() {
    let root = folder(&[
        ("r:5000/ca.crt", ""),
        ("r:5000/client.cert", ""),
        ("r:5000/client.key", ""),
        ("r:5000/other.cert", ""),
        ("r:5000/notes.txt", ""),
    ]);
    let hosts = load(root.path(), "r:5000").unwrap().unwrap();
    assert_eq!(names(&hosts), ["itself"]);
    assert_eq!(hosts[0].ca.len(), 1);
    assert_eq!(hosts[0].client.len(), 2);
    assert!(hosts[0].client[0].key.is_some() && hosts[0].client[1].key.is_none());
}

#[test]
fn what_is_wrong_is_named_and_not_passed_over() {
    for (text, named) in [
        ("\nserver = 3", "line 2: invalid type"),
        ("header = \"secret\"", "line 1: invalid type: string, expected a map"),
        ("capabilities = [\"fly\"]", "\"fly\" is none of"),
        ("dial_timeout = \"soon\"", "dial_timeout"),
        ("client = [[\"a\", \"b\", \"c\"]]", "client: a pair"),
        ("[host.\"https://\"]", "host.\"https://\""),
        ("[host.m.header]\n\"a b\" = \"secret\"", "header: \"a b\""),
        ("server = \"x", "hosts.toml"),
    ] {
        let root = folder(&[("r/hosts.toml", text)]);
        let error = load(root.path(), "r").unwrap_err().to_string();
        assert!(error.contains(named) && !error.contains("secret"), "{text}: {error}");
    }
    let large = " ".repeat(2 << 20);
    let root = folder(&[("r/hosts.toml", &large)]);
    assert!(load(root.path(), "r").unwrap_err().to_string().contains("larger than"));
}

proptest::proptest! {
    #[test]
    fn no_file_panics(text in "\\PC{0,200}") {
        let _ = file::parse(Path::new("/"), &text);
    }
}
