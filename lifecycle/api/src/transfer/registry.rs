//! The registry end of a transfer: which repository, with whose credentials.

use std::path::PathBuf;
use std::sync::OnceLock;

use tonic::Status;
use wharf_containerd::containerd::types::transfer as api;
use wharf_kinds::Kind;
use wharf_registry::{
    Client, Config, Credentials, HeaderMap, HeaderName, HeaderValue, InsecureRule, RegistryError, Repository,
    Target,
};
use wharf_vocab::ImageReference;

use crate::status::status;
use crate::storage::{Failure, refused};
use crate::streaming::Streams;

impl Failure for RegistryError {
    fn kind_of(&self) -> Kind {
        self.kind()
    }
}

/// Clients of registries; the one with plain settings is kept with its connections and tokens.
#[derive(Default)]
pub(super) struct Registries {
    plain: OnceLock<Client>,
}

impl Registries {
    /// The repository and what of it is meant. Credentials are asked for on the client's stream, once.
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
        let client = self.client(&resolver, reference.domain())?;
        let credentials = match resolver.auth_stream.as_str() {
            "" => Credentials::Anonymous,
            name => {
                let domain = reference.domain();
                ask(streams, namespace, name, domain, &registry.reference).await?
            }
        };
        let repository =
            client.repository(reference.domain(), reference.path(), credentials).map_err(refused)?;
        Ok((repository, target))
    }

    fn client(&self, resolver: &api::RegistryResolver, domain: &str) -> Result<Client, Status> {
        if !matches!(resolver.default_scheme.as_str(), "" | "http" | "https") {
            let text = format!(
                "resolver.default_scheme: {:?} is neither http nor https: invalid argument",
                resolver.default_scheme
            );
            return Err(status(Kind::InvalidArgument, text));
        }
        let plain =
            resolver.default_scheme != "http" && resolver.host_dir.is_empty() && resolver.headers.is_empty();
        if plain && let Some(client) = self.plain.get() {
            return Ok(client.clone());
        }
        let mut config = Config { headers: headers(resolver)?, ..Config::default() };
        if !resolver.host_dir.is_empty() {
            config.certificates = Some(certificates(&resolver.host_dir, domain)?);
        }
        if resolver.default_scheme == "http" {
            config.insecure.push(InsecureRule::Host(domain.to_owned()));
        }
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

/// The folder with registries' certificates. Of what containerd reads there, `HOST[:PORT]` with certificates is
/// understood; where something else is meant for the registry it is refused and not passed over.
fn certificates(folder: &str, domain: &str) -> Result<PathBuf, Status> {
    let folder = PathBuf::from(folder);
    if !folder.is_absolute() {
        let text = "resolver.host_dir: it is no absolute path: invalid argument";
        return Err(status(Kind::InvalidArgument, text));
    }
    let underscored = domain.rsplit_once(':').map(|(host, port)| folder.join(format!("{host}_{port}_")));
    let hub = (domain == "docker.io").then(|| folder.join(domain));
    let settings = [folder.join(domain).join("hosts.toml"), folder.join("_default")];
    for path in settings.into_iter().chain(underscored).chain(hub) {
        if path.exists() {
            let text = format!("resolver.host_dir: {} is not understood: not implemented", path.display());
            return Err(status(Kind::Unimplemented, text));
        }
    }
    Ok(folder)
}

/// Asks the client for credentials.
async fn ask(
    streams: &Streams,
    namespace: &str,
    name: &str,
    host: &str,
    reference: &str,
) -> Result<Credentials, Status> {
    let mut stream = streams.take(namespace, name)?;
    let request = api::AuthRequest {
        host: host.to_owned(),
        reference: reference.to_owned(),
        wwwauthenticate: Vec::new(),
    };
    if !stream.send("containerd.types.transfer.AuthRequest", &request).await {
        return Err(status(Kind::Unavailable, "the client closed its stream for credentials"));
    }
    let answer: Option<api::AuthResponse> = stream.receive("containerd.types.transfer.AuthResponse").await?;
    let Some(answer) = answer else { return Ok(Credentials::Anonymous) };
    Ok(match answer.auth_type() {
        api::AuthType::None => Credentials::Anonymous,
        api::AuthType::Credentials => {
            Credentials::Password { username: answer.username, password: answer.secret }
        }
        api::AuthType::Refresh => Credentials::IdentityToken(answer.secret),
        api::AuthType::Header => match answer.secret.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Credentials::RegistryToken(token.to_owned())
            }
            _ => {
                let text = "an authorization header that is no bearer token: not implemented";
                return Err(status(Kind::Unimplemented, text));
            }
        },
    })
}
