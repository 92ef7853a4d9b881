//! Transfers by the operator's folder, with the client's credentials, and taken up after the daemon was killed.

use std::fs;
use std::time::{Duration, Instant};

use tonic::Code;
use wharf_containerd::containerd::types::transfer::{
    AuthRequest, AuthResponse, AuthType, ImageStore, OciRegistry, RegistryResolver,
};
use wharf_containerd::to_any;
use wharf_integration_tests::port::Refusing;
use wharf_integration_tests::registry::Registry;

use crate::daemon::{Daemon, SOON};
use crate::layout::{self, Layout};
use crate::proxy::Proxy;
use crate::{LAYERS, NAMESPACE, Setup};

/// The last, large layer was asked for from where it had broken off.
pub fn assert_resumed(proxy: &Proxy, layout: &Layout) {
    let asked = proxy.asked();
    let blob = format!("/blobs/{}", layout.last_layer);
    let requests = asked.split("\r\n\r\n").filter(|request| request.contains(&blob));
    let ranges: Vec<_> = requests
        .map(|request| request.lines().find_map(|line| line.strip_prefix("range: bytes=")).unwrap_or("all"))
        .collect();
    let resumed = |range: &&&str| range.split('-').next().and_then(|start| start.parse().ok()) > Some(0_u64);
    assert_eq!(ranges.first(), Some(&"all"), "{ranges:?}");
    assert_eq!(ranges.iter().filter(resumed).count(), 1, "{ranges:?}");
    assert_eq!(ranges.len(), 2, "{ranges:?}");
}

pub async fn await_no_lease(daemon: &Daemon) {
    let deadline = Instant::now() + SOON;
    loop {
        let left = daemon.leases(NAMESPACE).await;
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{left:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_a_pull_goes_on_where_the_daemon_was_killed() {
    let mut setup = Setup::start(false).await;
    let proxy = Proxy::start(setup.registry.port, 2 << 20);
    let reference = format!("127.0.0.1:{}/wharf/layers:latest", proxy.port);
    let large = format!("layer-{}", setup.layout.last_layer);
    {
        let pull = setup.pull(&reference, RegistryResolver::default(), "");
        let held = async {
            let deadline = Instant::now() + SOON;
            // something of the large layer is on the disk
            while !(proxy.holds()
                && setup.daemon.ingests(NAMESPACE).await.iter().any(|(name, at)| *name == large && *at > 0))
            {
                assert!(Instant::now() < deadline, "{:?}", setup.daemon.ingests(NAMESPACE).await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = pull => panic!("it ended while the layer was held back: {ended:?}"),
            () = held => {}
        }
    }
    setup.daemon.kill();
    setup.daemon.start_again().await;
    let left = setup.daemon.ingests(NAMESPACE).await;
    assert!(left.iter().any(|(name, at)| *name == large && *at > 0), "{left:?}");
    proxy.open();
    setup.pull(&reference, RegistryResolver::default(), "").await.expect("the second pull");
    assert_eq!(setup.daemon.images(NAMESPACE).await, [(reference, setup.layout.manifest.clone())]);
    assert_resumed(&proxy, &setup.layout);
    await_no_lease(&setup.daemon).await;
    // what the killed one was unpacking is collected with its lease
    let deadline = Instant::now() + SOON;
    while setup.daemon.snapshots(NAMESPACE, "overlayfs").await.len() > LAYERS {
        assert!(Instant::now() < deadline, "{:?}", setup.daemon.snapshots(NAMESPACE, "overlayfs").await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    setup.daemon.with_tree(NAMESPACE, "overlayfs", LAYERS, layout::check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_the_operators_folder_says_who_is_asked() {
    let setup = Setup::start(false).await;
    let hosts = setup.daemon.dir.path().join("hosts");
    let folder = hosts.join("registry.example_5000_");
    fs::create_dir_all(&folder).expect("a folder");
    let nobody = Refusing::new();
    let gone = format!("127.0.0.1:{}", nobody.port);
    let text = format!(
        "server = \"https://{gone}\"\n[host.\"http://{gone}\"]\ndial_timeout = \"1s\"\n\
         [host.\"http://127.0.0.1:{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        setup.registry.port
    );
    fs::write(folder.join("hosts.toml"), text).expect("a file");
    let resolver = || RegistryResolver { host_dir: hosts.display().to_string(), ..Default::default() };
    let reference = "registry.example:5000/wharf/layers:latest";
    setup.pull(reference, resolver(), "").await.expect("by the mirror");
    let named = [(reference.to_owned(), setup.layout.manifest.clone())];
    assert_eq!(setup.daemon.images(NAMESPACE).await, named);
    setup.daemon.with_tree(NAMESPACE, "overlayfs", LAYERS, layout::check).await;
    // the mirror is not one to push to, and the first that is one is not there
    let from = ImageStore { name: reference.to_owned(), ..Default::default() };
    let to = OciRegistry { reference: reference.to_owned(), resolver: Some(resolver()) };
    let refused = setup.daemon.transfer(NAMESPACE, ("ImageStore", from), ("OCIRegistry", to)).await;
    let refused = refused.expect_err("nobody there");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains(&format!("http://{gone}/v2/wharf/layers/blobs/")), "{refused:?}");
    assert!(refused.message().ends_with("connect: connection refused"), "{refused:?}");
}

/// bcrypt of `hunter2`.
const PASSWORDS: &str = "me:$2b$04$XU4vErOoHV.4Xe9e0vhq.ua2EmG7vW891bntjtwv75r9TLtXSKvWu\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_credentials_are_the_clients_and_refusals_read_as_containerds() {
    let setup = Setup::start(false).await;
    let passwords = setup.daemon.dir.path().join("passwords");
    fs::write(&passwords, PASSWORDS).expect("a file");
    let locked = Registry::start_with(
        &setup.daemon.dir.path().join("locked"),
        &format!("auth:\n  htpasswd:\n    realm: r\n    path: {}\n", passwords.display()),
    );
    let from = format!("127.0.0.1:{}/wharf/layers:latest", setup.registry.port);
    setup.pull(&from, RegistryResolver::default(), "").await.expect("a pull");
    let to = format!("127.0.0.1:{}/other/layers:latest", locked.port);

    // one answer of the client for each try
    let answers = [
        (AuthType::Credentials, "me", "hunter2", None),
        (AuthType::Header, "", "Basic bWU6aHVudGVyMg==", None),
        (AuthType::Credentials, "me", "wrong", Some("401 Unauthorized")),
        (AuthType::Refresh, "", "", Some("no basic auth credentials")),
        (
            AuthType::None,
            "",
            "",
            Some("push access denied, repository does not exist or may require authorization"),
        ),
    ];
    for (index, (kind, username, secret, failure)) in answers.into_iter().enumerate() {
        let name = format!("auth-{index}");
        let (send, mut incoming) = setup.daemon.stream(NAMESPACE, &name).await;
        let response = AuthResponse {
            auth_type: kind.into(),
            username: username.into(),
            secret: secret.into(),
            ..Default::default()
        };
        let answering = tokio::spawn(async move {
            let mut asked = Vec::new();
            while let Ok(Some(any)) = incoming.message().await {
                let request: AuthRequest = prost::Message::decode(any.value.as_slice()).expect("a request");
                asked.push(request);
                if send.send(to_any("containerd.types.transfer.AuthResponse", &response)).await.is_err() {
                    break;
                }
            }
            asked
        });
        let resolver = RegistryResolver { auth_stream: name, ..Default::default() };
        let end = OciRegistry { reference: to.clone(), resolver: Some(resolver) };
        let store = ImageStore { name: from.clone(), ..Default::default() };
        let pushed = setup.daemon.transfer(NAMESPACE, ("ImageStore", store), ("OCIRegistry", end)).await;
        match failure {
            None => pushed.expect("a push"),
            Some(text) => {
                let refused = pushed.expect_err("a refusal");
                assert!(refused.message().contains(text), "{refused:?}");
                assert!(!refused.message().contains("wrong"), "{refused:?}");
            }
        }
        let asked = answering.await.expect("the client");
        let host = format!("127.0.0.1:{}", locked.port);
        let requests: Vec<_> = asked.iter().map(|a| (a.host.as_str(), a.reference.as_str())).collect();
        assert_eq!(
            requests,
            [(host.as_str(), to.as_str())],
            "asked once, for the host that wants credentials"
        );
        assert!(asked[0].wwwauthenticate[0].to_lowercase().starts_with("basic"), "{asked:?}");
    }

    let pull = async |reference: &str| {
        let refused = setup.pull(reference, RegistryResolver::default(), "").await.expect_err("a refusal");
        (refused.code(), refused.message().to_owned())
    };
    let (code, text) = pull(&to).await;
    assert_eq!(code, Code::Unauthenticated, "{text}");
    let denied =
        "failed to resolve image: pull access denied, repository does not exist or may require authorization";
    assert!(text.starts_with(denied), "{text}");
    let missing = format!("127.0.0.1:{}/no/such:latest", setup.registry.port);
    assert_eq!(
        pull(&missing).await,
        (Code::NotFound, format!("failed to resolve image: {missing}: not found"))
    );
    let nobody = Refusing::new();
    let gone = format!("127.0.0.1:{}", nobody.port);
    let (code, text) = pull(&format!("{gone}/no/such:latest")).await;
    assert_eq!(code, Code::Unavailable, "{text}");
    let wanted = format!(
        "failed to resolve image: failed to do request: Head \"http://{gone}/v2/no/such/manifests/latest\": \
         dial tcp {gone}: connect: connection refused"
    );
    assert_eq!(text, wanted);
}
