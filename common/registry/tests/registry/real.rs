//! Debian's docker-registry on loopback: TLS with client certificates, passwords, uploads that break, mounts.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use wharf_kinds::Kind;
use wharf_registry::{Client, Config, Credentials, Ranges, RegistryError, Retry, Target, Uploaded};
use wharf_vocab::Digest;

use crate::pushes::blob;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A running registry; dropping it ends the process.
struct Registry {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Registry {
    /// `http` and `more` are lines of its configuration.
    fn start(http: &str, more: &str) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("data");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n{http}{more}",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let path = dir.path().join("log");
        let log = File::create(&path).unwrap();
        let child = Command::new("docker-registry")
            .args([Path::new("serve"), &config])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("docker-registry is installed: run `make test`");
        // a port found free beforehand may be another's by now: it finds one itself, and says which
        let mut registry = Registry { child, port: 0, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let log = fs::read_to_string(&path).unwrap();
            let said = log.split_once("listening on 127.0.0.1:").map(|(_, rest)| rest);
            if let Some((port, _)) = said.and_then(|rest| rest.split_once(|c: char| !c.is_ascii_digit())) {
                registry.port = port.parse().unwrap();
                return registry;
            }
            assert!(Instant::now() < deadline, "the registry does not listen: {log}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn domain(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn put(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn config() -> Config {
    let retry = Retry { attempts: 4, delay: Duration::from_millis(20) };
    Config { retry, greet: false, ..Config::default() }
}

fn with_hosts(hosts: &Path) -> Client {
    Client::new(Config { hosts: Some(hosts.into()), ..config() }).unwrap()
}

fn latest() -> Target {
    Target::Tag("latest".into())
}

#[tokio::test]
async fn certificates_of_both_sides_are_checked() {
    let (own, other) = (Authority::new("registry's"), Authority::new("clients'"));
    let (certificate, key) = own.issue("127.0.0.1");
    let (client_certificate, client_key) = other.issue("client");
    let (stranger, stranger_key) = own.issue("stranger");
    let at = tempfile::tempdir().unwrap();
    put(at.path(), &[("r.pem", &certificate), ("r.key", &key), ("clients.pem", &other.pem)]);
    let shown = at.path().display();
    let registry = Registry::start(
        &format!(
            "  tls:\n    certificate: {shown}/r.pem\n    key: {shown}/r.key\n    clientcas:\n      - {shown}/clients.pem\n"
        ),
        "",
    );
    let domain = registry.domain();
    let ask = async |client: &Client| {
        client
            .repository(&domain, "no/such", Credentials::Anonymous)
            .unwrap()
            .resolve(&latest())
            .await
            .unwrap_err()
    };
    let missing = |error: &RegistryError| error.status() == Some(404);

    // Docker's layout
    let certs = tempfile::tempdir().unwrap();
    let folder = certs.path().join(&domain);
    put(&folder, &[("ca.crt", &own.pem), ("client.cert", &client_certificate), ("client.key", &client_key)]);
    let client = with_hosts(certs.path());
    let error = ask(&client).await;
    assert!(missing(&error), "{error}");
    client.login(&domain, Credentials::Anonymous).await.unwrap();

    // hosts.toml: a pair, one file with both, and the right one of several
    let both = format!("{client_certificate}{client_key}");
    let strangers = format!("{stranger}{stranger_key}");
    for setting in ["[[\"c.pem\", \"k.pem\"]]", "\"both.pem\"", "[\"strangers.pem\", [\"c.pem\", \"k.pem\"]]"]
    {
        let hosts = tempfile::tempdir().unwrap();
        let folder = hosts.path().join(format!("127.0.0.1_{}_", registry.port));
        let toml = format!("server = \"https://{domain}\"\nca = \"ca.pem\"\nclient = {setting}\n");
        put(
            &folder,
            &[
                ("hosts.toml", &toml),
                ("ca.pem", &own.pem),
                ("c.pem", &client_certificate),
                ("k.pem", &client_key),
                ("both.pem", &both),
                ("strangers.pem", &strangers),
            ],
        );
        let error = ask(&with_hosts(hosts.path())).await;
        assert!(missing(&error), "{setting}: {error}");
    }

    // without a certificate, with one of a stranger, and with the registry's own unknown
    let refused = |text: &str, files: &[(&str, &str)]| {
        let hosts = tempfile::tempdir().unwrap();
        let text = format!("server = \"https://{domain}\"\n{text}\n");
        let mut all = vec![("hosts.toml", text.as_str())];
        all.extend(files);
        put(&hosts.path().join("_default"), &all);
        hosts
    };
    let hosts = refused("ca = \"ca.pem\"", &[("ca.pem", &own.pem)]);
    let error = ask(&with_hosts(hosts.path())).await;
    assert!(error.to_string().contains("tls"), "{error}");
    assert_eq!(error.kind(), Kind::Unavailable);
    let pem = [("ca.pem", own.pem.as_str()), ("s.pem", strangers.as_str())];
    let hosts = refused("ca = \"ca.pem\"\nclient = \"s.pem\"", &pem);
    assert!(!missing(&ask(&with_hosts(hosts.path())).await));
    let hosts = refused("", &[]);
    let error = ask(&with_hosts(hosts.path())).await;
    let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(error.to_string().ends_with(unknown), "{error}");
    let hosts = refused("skip_verify = true\nclient = \"both.pem\"", &[("both.pem", &both)]);
    let error = ask(&with_hosts(hosts.path())).await;
    assert!(missing(&error), "{error}");
    let hosts = refused("ca = \"gone.pem\"", &[]);
    let error = ask(&with_hosts(hosts.path())).await;
    assert!(error.to_string().contains("gone.pem"), "{error}");

    // a registry that speaks TLS is not spoken to without, whatever goes wrong there
    let error = ask(&Client::new(config()).unwrap()).await;
    assert!(error.to_string().contains("https://"), "{error}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_authority() {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (key, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificate = params.self_signed(&key).unwrap().pem();
    let other = params.self_signed(&stranger).unwrap().pem();
    let at = tempfile::tempdir().unwrap();
    put(at.path(), &[("r.pem", &certificate), ("r.key", &key.serialize_pem())]);
    let shown = at.path().display();
    let tls = format!("  tls:\n    certificate: {shown}/r.pem\n    key: {shown}/r.key\n");
    let registry = Registry::start(&tls, "");
    let domain = registry.domain();
    for (authority, status) in [(&certificate, Some(404)), (&other, None)] {
        let certs = tempfile::tempdir().unwrap();
        // said by hosts.toml: without that, nothing is verified on a loopback address
        let toml = format!("server = \"https://{domain}\"\nca = \"ca.pem\"\n");
        put(&certs.path().join("_default"), &[("hosts.toml", &toml), ("ca.pem", authority)]);
        let client = with_hosts(certs.path());
        let repository = client.repository(&domain, "no/such", Credentials::Anonymous).unwrap();
        let error = repository.resolve(&latest()).await.unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert!(status.is_some() || error.to_string().contains("tls: "), "{error}");
    }
}

#[tokio::test]
async fn passwords_are_checked() {
    let at = tempfile::tempdir().unwrap();
    // bcrypt of hunter2
    put(at.path(), &[("passwords", "me:$2b$04$XU4vErOoHV.4Xe9e0vhq.ua2EmG7vW891bntjtwv75r9TLtXSKvWu\n")]);
    let auth = format!("auth:\n  htpasswd:\n    realm: r\n    path: {}/passwords\n", at.path().display());
    let registry = Registry::start("", &auth);
    let client = Client::new(config()).unwrap();
    let ask = async |credentials: Credentials| {
        let repository = client.repository(&registry.domain(), "no/such", credentials).unwrap();
        repository.resolve(&latest()).await.unwrap_err()
    };
    assert_eq!(ask(crate::password()).await.status(), Some(404));
    let wrong = Credentials::Password { username: "me".into(), password: "wrong".into() };
    let error = ask(wrong.clone()).await;
    assert_eq!((error.status(), error.kind()), (Some(401), Kind::Unauthenticated));
    assert!(matches!(ask(Credentials::Anonymous).await, RegistryError::NoCredentials { .. }));
    client.login(&registry.domain(), crate::password()).await.unwrap();
    client.login(&registry.domain(), wrong).await.unwrap_err();
}

/// A relay that breaks the first connections after so many bytes of requests.
fn breaking(to: u16, connections: i64, after: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicI64::new(connections));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let left = left.clone();
            thread::spawn(move || {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { return };
                let (mut from, mut back) = (client.try_clone().unwrap(), client);
                let (mut up, mut down) = (server.try_clone().unwrap(), server);
                thread::spawn(move || {
                    let _ = std::io::copy(&mut down, &mut back);
                    let _ = back.shutdown(Shutdown::Both);
                });
                let (mut buffer, mut sent) = (vec![0; 64 << 10], 0);
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    if up.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                    sent += count;
                    if sent > after && left.fetch_sub(1, Ordering::SeqCst) > 0 {
                        break;
                    }
                }
                let _ = up.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

#[tokio::test]
async fn what_is_pushed_past_broken_connections_is_what_is_pulled() {
    let registry = Registry::start("", "");
    let relay = breaking(registry.port, 2, 4 << 20);
    let client = Client::new(config()).unwrap();
    let push =
        client.repository(&format!("127.0.0.1:{relay}"), "a/b", Credentials::Anonymous).unwrap().for_push();
    let text: String = (0..2_000_000).map(|n| format!("{n:08} ")).collect();
    let (layer, source) = blob(text.clone());
    assert_eq!(push.upload(&layer, &[], &source).await.unwrap(), Uploaded::Sent);
    assert_eq!(push.upload(&layer, &[], &source).await.unwrap(), Uploaded::Existed);

    // the whole registry knows it: another repository takes it over
    let other = client.repository(&registry.domain(), "a/c", Credentials::Anonymous).unwrap();
    let other = other.for_push();
    assert_eq!(
        other.upload(&layer, &["x/y".into(), "a/b".into()], &source).await.unwrap(),
        Uploaded::Mounted
    );
    let (small, small_source) = blob("{}".into());
    // the registry does not have it where it is said to be
    assert_eq!(other.upload(&small, &["a/b".into()], &small_source).await.unwrap(), Uploaded::Sent);

    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
        small.digest, layer.media_type, layer.digest, layer.size
    );
    let digest = Digest::sha256(manifest.as_bytes());
    for target in [latest(), Target::Digest(digest.clone())] {
        assert!(!other.has_manifest(&target, &digest).await.unwrap() || target != latest());
        other.put_manifest(&target, IMAGE, manifest.as_bytes()).await.unwrap();
        assert!(other.has_manifest(&target, &digest).await.unwrap());
    }

    let ranges = Ranges { chunk: 1 << 20, ..Ranges::default() };
    let client = Client::new(Config { ranges, ..config() }).unwrap();
    let pull = client.repository(&registry.domain(), "a/c", Credentials::Anonymous).unwrap();
    assert_eq!(pull.resolve(&latest()).await.unwrap().digest, digest);
    assert!(pull.blob_all(&layer, 100 << 20).await.unwrap() == text.as_bytes());
    let mut blob = pull.blob(&layer, 5_000_001);
    let mut rest = Vec::new();
    while let Some(piece) = blob.next().await.unwrap() {
        rest.extend_from_slice(&piece);
    }
    assert!(rest == text.as_bytes()[5_000_001..]);
}
