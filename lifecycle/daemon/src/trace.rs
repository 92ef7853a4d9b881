//! Traces for OpenTelemetry, off unless an endpoint is named: by the environment (`OTEL_EXPORTER_OTLP_ENDPOINT`, …,
//! as the specification has it), or by containerd's `io.containerd.tracing.processor.v1.otlp`.
//!
//! Source: OpenTelemetry's specification of SDK environment variables and of the OTLP exporter.

mod secure;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// How long an export may take, and the end of the daemon waits for the last one.
const EXPORT: Duration = Duration::from_secs(10);
const LAST_EXPORT: Duration = Duration::from_secs(1);

/// `plugins."io.containerd.tracing.processor.v1.otlp"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// `host:port` or a URL; spans go to `/v1/traces` there unless the protocol is `grpc`.
    pub endpoint: String,
    /// `http/protobuf` (also if empty) or `grpc`.
    pub protocol: String,
    /// An endpoint without a scheme is reached without TLS.
    pub insecure: bool,
}

/// `plugins."io.containerd.internal.v1.tracing"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    pub service_name: String,
    /// The part of the traces begun here that is kept, above 0 to 1; 0 for all.
    pub sampling_ratio: f64,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("traces: {key}: {value:?} is not one of {allowed}")]
    Value { key: &'static str, value: String, allowed: &'static str },
    #[error("traces: sampling_ratio {0} is not between 0 and 1")]
    Ratio(f64),
    #[error("traces: endpoint {0:?} is no URL of http or https")]
    Url(String),
    #[error("traces: {0}")]
    Client(String),
    #[error("traces: start the exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// None where the environment names it, which the exporter reads itself; a URL with `https` for `grpc` is always here.
    endpoint: Option<String>,
    grpc: bool,
    name: String,
    ratio: Option<f64>,
}

/// What the environment and the configuration together ask for; None for no traces.
///
/// `variable` reads the environment; an empty variable counts as not set.
pub fn target(
    otlp: &Otlp,
    service: &Service,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Target>, TraceError> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let either = |special: &str, general: &str| variable(special).or_else(|| variable(general));
    let protocol = either("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
    let protocol = protocol.unwrap_or_else(|| otlp.protocol.clone());
    let grpc = match protocol.as_str() {
        "" | "http/protobuf" => false,
        "grpc" => true,
        _ => {
            let allowed = "http/protobuf, grpc";
            return Err(TraceError::Value { key: "protocol", value: protocol, allowed });
        }
    };
    if !(0.0..=1.0).contains(&service.sampling_ratio) {
        return Err(TraceError::Ratio(service.sampling_ratio));
    }
    if let Some(value) = variable("OTEL_TRACES_EXPORTER") {
        match value.as_str() {
            "otlp" => {}
            "none" => return Ok(None),
            _ => {
                let (key, allowed) = ("OTEL_TRACES_EXPORTER", "otlp, none");
                return Err(TraceError::Value { key, value, allowed });
            }
        }
    }
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let named = either("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT");
    let mut endpoint = match &named {
        Some(_) => None,
        None if otlp.endpoint.is_empty() => return Ok(None),
        None => Some(url(otlp, grpc)),
    };
    if grpc && let Some(url) = endpoint.clone().or(named) {
        match url.split_once("://") {
            Some(("http", _)) => {}
            Some(("https", _)) => endpoint = Some(url),
            _ => return Err(TraceError::Url(url)),
        }
    }
    let name = match service.service_name.as_str() {
        "" => "wharf-lifecycled",
        name => name,
    };
    let name = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| name.to_owned());
    let ratio = (service.sampling_ratio > 0.0).then_some(service.sampling_ratio);
    Ok(Some(Target { endpoint, grpc, name, ratio }))
}

/// containerd's configuration names a host, with or without a scheme and path.
fn url(otlp: &Otlp, grpc: bool) -> String {
    let endpoint = otlp.endpoint.trim_end_matches('/');
    let url = match endpoint.split_once("://") {
        Some(_) => endpoint.to_owned(),
        None => format!("{}://{endpoint}", if otlp.insecure { "http" } else { "https" }),
    };
    let has_path = url.splitn(4, '/').nth(3).is_some();
    if grpc || has_path { url } else { format!("{url}/v1/traces") }
}

/// Spans on their way. Those that wait are sent when it is dropped, in a second at most.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Starts the exporter's thread. To be called within the async runtime.
    pub fn start(target: &Target) -> Result<Self, TraceError> {
        let exporter = if target.grpc {
            let mut builder = SpanExporter::builder().with_tonic().with_timeout(EXPORT);
            if let Some(endpoint) = &target.endpoint {
                builder = match endpoint.strip_prefix("https://") {
                    Some(host) => builder.with_channel(secure::channel(endpoint, host)?),
                    None => builder.with_endpoint(endpoint),
                };
            }
            builder.build()?
        } else {
            let mut builder = SpanExporter::builder()
                .with_http()
                .with_http_client(Client::new()?)
                .with_protocol(Protocol::HttpBinary)
                .with_timeout(EXPORT);
            if let Some(endpoint) = &target.endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            builder.build()?
        };
        let resource = Resource::builder().with_service_name(target.name.clone()).build();
        let mut provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter);
        if let Some(ratio) = target.ratio {
            provider =
                provider.with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))));
        }
        Ok(Traces { provider: provider.build() })
    }

    pub fn tracer(&self) -> SdkTracer {
        self.provider.tracer("wharf-lifecycled")
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // nobody to tell: the log ends too
        let _ = self.provider.shutdown_with_timeout(LAST_EXPORT);
    }
}

/// Makes a span the child of the caller's, which the request's headers name (`traceparent`).
pub fn adopt(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // fails only where the span is not recorded
    let _ = span.set_parent(parent);
}

/// Sends from the exporter's thread by way of the async runtime, which reqwest needs.
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

impl Client {
    fn new() -> Result<Self, TraceError> {
        let failed = |error: &dyn fmt::Display| TraceError::Client(error.to_string());
        let client =
            reqwest::Client::builder().tls_backend_preconfigured(secure::tls()?).timeout(EXPORT).build();
        Ok(Client { client: client.map_err(|error| failed(&error))?, runtime: Handle::current() })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

#[tonic::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let answer = self.runtime.spawn(async move {
            let answer = client.execute(request).await?.error_for_status()?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut response = http::Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok::<_, reqwest::Error>(response)
        });
        Ok(answer.await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(otlp: &Otlp, environment: &[(&str, &str)]) -> Result<Option<Target>, TraceError> {
        let variable =
            |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        target(otlp, &Service::default(), variable)
    }

    fn at(endpoint: &str) -> Otlp {
        Otlp { endpoint: endpoint.into(), insecure: true, ..Otlp::default() }
    }

    #[test]
    fn no_endpoint_means_no_traces() {
        assert_eq!(of(&Otlp::default(), &[]).expect("valid"), None);
        assert_eq!(of(&Otlp::default(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).expect("valid"), None);
        assert_eq!(of(&at("h:1"), &[("OTEL_SDK_DISABLED", "true")]).expect("valid"), None);
        assert_eq!(of(&at("h:1"), &[("OTEL_TRACES_EXPORTER", "none")]).expect("valid"), None);
    }

    #[test]
    fn configuration_names_a_host_and_the_environment_wins() {
        let target = of(&at("h:4318"), &[]).expect("valid").expect("on");
        assert_eq!(target.endpoint.as_deref(), Some("http://h:4318/v1/traces"));
        let tls = Otlp { insecure: false, ..at("h:4318") };
        let target = of(&tls, &[]).expect("valid").expect("on");
        assert_eq!(target.endpoint.as_deref(), Some("https://h:4318/v1/traces"));
        let target = of(&at("https://h/x"), &[]).expect("valid").expect("on");
        assert_eq!(target.endpoint.as_deref(), Some("https://h/x"));
        let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://e:1"), ("OTEL_SERVICE_NAME", "s")];
        let target = of(&at("h:4318"), &environment).expect("valid").expect("on");
        assert_eq!((target.endpoint, target.name.as_str()), (None, "s"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let error = of(&Otlp { protocol: "http/json".into(), ..at("h:1") }, &[]).expect_err("refused");
        assert!(error.to_string().contains("\"http/json\" is not one of http/protobuf, grpc"), "{error}");
        let grpc = Otlp { protocol: "grpc".into(), insecure: false, ..at("h:1") };
        let named = [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")];
        assert!(matches!(of(&grpc, &named), Err(TraceError::Url(_))));
        let secure = of(&grpc, &[]).expect("valid").expect("on");
        assert_eq!((secure.grpc, secure.endpoint.as_deref()), (true, Some("https://h:1")));
        let named = [("OTEL_EXPORTER_OTLP_ENDPOINT", "https://e:1")];
        let secure = of(&grpc, &named).expect("valid").expect("on");
        assert_eq!(secure.endpoint.as_deref(), Some("https://e:1"), "the channel is made by hand");
        assert!(of(&Otlp { insecure: true, ..grpc }, &[]).expect("valid").expect("on").grpc);
        let service = Service { sampling_ratio: 1.5, ..Service::default() };
        assert!(matches!(target(&at("h:1"), &service, |_| None), Err(TraceError::Ratio(_))));
        assert!(of(&at("h:1"), &[("OTEL_TRACES_EXPORTER", "jaeger")]).is_err());
    }
}
