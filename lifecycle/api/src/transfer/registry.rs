//! The registry end of a transfer: which repository, with whose credentials.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tonic::Status;
use wharf_containerd::containerd::types::transfer as api;
use wharf_kinds::Kind;
use wharf_registry::{
    Answer, AskCredentials, Client, Config, CredentialSource, Credentials, HeaderMap, HeaderName,
    HeaderValue, RegistryError, Repository, Scheme, Target,
};
use wharf_vocab::ImageReference;

use crate::status::status;
use crate::storage::{Failure, refused};
use crate::streaming::{Stream, Streams};

impl Failure for RegistryError {
    fn kind_of(&self) -> Kind {
        self.kind()
    }
}

/// Clients of registries; the one with plain settings is kept with its connections and tokens.
pub(super) struct Registries {
    /// The operator's folder with a folder for each registry, for requests that name none.
    hosts: Option<PathBuf>,
    plain: OnceLock<Client>,
}

impl Registries {
    pub fn new(hosts: Option<PathBuf>) -> Self {
        Registries { hosts, plain: OnceLock::new() }
    }

    /// The repository and what of it is meant. Credentials are asked for on the client's stream, once for each host
    /// that wants some.
    pub async fn open(
        &self,
        registry: &api::OciRegistry,
        streams: &Streams,
        namespace: &str,
    ) -> Result<(Repository, Target), Status> {
        let reference = ImageReference::parse(&registry.reference).map_err(|error| {
            status(Kind::InvalidArgument, format_args!("{}: {error}", registry.reference))
        })?;
        let target = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Target::Digest(digest.clone()),
            (None, Some(tag)) => Target::Tag(tag.to_owned()),
            (None, None) => {
                return Err(status(Kind::InvalidArgument, "object required: invalid argument"));
            }
        };
        let resolver = registry.resolver.clone().unwrap_or_default();
        let client = self.client(&resolver)?;
        let credentials = match resolver.auth_stream.as_str() {
            "" => CredentialSource::from(Credentials::Anonymous),
            name => {
                let stream = tokio::sync::Mutex::new(streams.take(namespace, name)?);
                let asked: Arc<dyn AskCredentials> =
                    Arc::new(ClientsWord { stream, reference: registry.reference.clone() });
                asked.into()
            }
        };
        let repository =
            client.repository(reference.domain(), reference.path(), credentials).map_err(refused)?;
        Ok((repository, target))
    }

    fn client(&self, resolver: &api::RegistryResolver) -> Result<Client, Status> {
        let default_scheme = match resolver.default_scheme.as_str() {
            "" => None,
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            other => {
                let text =
                    format!("resolver.default_scheme: {other:?} is neither http nor https: invalid argument");
                return Err(status(Kind::InvalidArgument, text));
            }
        };
        let hosts = match resolver.host_dir.as_str() {
            "" => self.hosts.clone(),
            folder if !folder.starts_with('/') => {
                let text = "resolver.host_dir: it is no absolute path: invalid argument";
                return Err(status(Kind::InvalidArgument, text));
            }
            folder => Some(PathBuf::from(folder)),
        };
        let plain = default_scheme.is_none() && hosts == self.hosts && resolver.headers.is_empty();
        if plain && let Some(client) = self.plain.get() {
            return Ok(client.clone());
        }
        // containerd asks no registry whether it is there
        let config =
            Config { headers: headers(resolver)?, hosts, default_scheme, greet: false, ..Config::default() };
        let client = Client::new(config).map_err(refused)?;
        if plain {
            return Ok(self.plain.get_or_init(|| client).clone());
        }
        Ok(client)
    }
}

/// The headers that a client wants sent.
fn headers(resolver: &api::RegistryResolver) -> Result<HeaderMap, Status> {
    let mut headers = HeaderMap::new();
    for (name, value) in &resolver.headers {
        // the value may be a secret
        let wrong =
            || status(Kind::InvalidArgument, format_args!("resolver.headers: {name:?} is no HTTP header"));
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?, value);
    }
    Ok(headers)
}

/// Credentials as the client gives them on its stream.
struct ClientsWord {
    stream: tokio::sync::Mutex<Stream>,
    reference: String,
}

impl AskCredentials for ClientsWord {
    fn ask<'a>(&'a self, host: &'a str, challenges: &'a [String]) -> Answer<'a> {
        Box::pin(async move {
            let failed = |reason: &str| RegistryError::Credentials {
                host: host.to_owned(),
                reason: reason.to_owned(),
            };
            let mut stream = self.stream.lock().await;
            let request = api::AuthRequest {
                host: host.to_owned(),
                reference: self.reference.clone(),
                wwwauthenticate: challenges.to_vec(),
            };
            if !stream.send("containerd.types.transfer.AuthRequest", &request).await {
                return Err(failed("the client closed its stream"));
            }
            let answer = stream.receive::<api::AuthResponse>("containerd.types.transfer.AuthResponse");
            let answer = answer.await.map_err(|status| failed(status.message()))?;
            Ok(answer.map_or(Credentials::Anonymous, given))
        })
    }
}

/// Clients send an empty refresh token where they have nothing.
fn given(answer: api::AuthResponse) -> Credentials {
    match answer.auth_type() {
        _ if answer.secret.is_empty() && answer.username.is_empty() => Credentials::Anonymous,
        api::AuthType::None => Credentials::Anonymous,
        api::AuthType::Credentials => {
            Credentials::Password { username: answer.username, password: answer.secret }
        }
        api::AuthType::Refresh => Credentials::IdentityToken(answer.secret),
        api::AuthType::Header => Credentials::Header(answer.secret),
    }
}
