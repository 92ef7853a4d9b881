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

fn password() -> Credentials {
    Credentials::Password { username: "me".into(), password: "hunter2".into() }
}
