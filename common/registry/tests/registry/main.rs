//! The client against a scripted registry on loopback.

mod auth;
mod blobs;
mod fake;
mod manifests;
mod mirrors;
mod pushes;
mod ranges;
mod real;

use std::time::Duration;

use wharf_registry::{Client, Config, Credentials, Repository, Retry};

fn client() -> Client {
    let retry = Retry { attempts: 3, delay: Duration::from_millis(1) };
    Client::new(Config { retry, ..Config::default() }).unwrap()
}

fn repository(fake: &fake::Fake) -> Repository {
    client().repository(&fake.domain(), "some/thing", Credentials::Anonymous).unwrap()
}

/// An address where connections are refused. It is bound, so that no other test listens there meanwhile.
struct Nobody(tokio::net::TcpSocket);

impl Nobody {
    fn new() -> Nobody {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Nobody(socket)
    }
}

impl std::fmt::Display for Nobody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.local_addr().map_err(|_| std::fmt::Error)?.fmt(f)
    }
}

fn password() -> Credentials {
    Credentials::Password { username: "me".into(), password: "hunter2".into() }
}
