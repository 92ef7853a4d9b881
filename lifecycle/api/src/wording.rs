//! Answers of the gRPC layer itself, in the codes and words of Go's: clients of containerd look for them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::reflection::SERVED;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// Rewords what the service below answers by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wording;

impl<S> Layer<S> for Wording {
    type Service = Worded<S>;

    fn layer(&self, inner: S) -> Worded<S> {
        Worded(inner)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Worded<S>(S);

impl<S> Service<Request<Body>> for Worded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let uri = request.uri().clone();
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            if response.headers().contains_key(STATUS) {
                reword(response.headers_mut(), uri.path());
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(Trailed(body))))
        })
    }
}

/// A body whose trailers are reworded.
struct Trailed(Body);

impl http_body::Body for Trailed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.get_mut().0).poll_frame(cx);
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map(|mut frame| {
                    if let Some(trailers) = frame.trailers_mut() {
                        reword(trailers, "");
                    }
                    frame
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Changes a status that the gRPC layer made: a message that is too large, a method that is not there.
fn reword(headers: &mut HeaderMap, path: &str) {
    let Some(status) = Status::from_header_map(headers) else { return };
    let (code, text) = match (status.code(), status.message()) {
        (Code::OutOfRange, text) => {
            let Some(text) = too_large(text) else { return };
            (Code::ResourceExhausted, text)
        }
        (Code::Unimplemented, "") => (Code::Unimplemented, unknown(path)),
        _ => return,
    };
    // the words are plain, but the path is the client's
    let text: String = text.bytes().map(escaped).collect();
    if let Ok(text) = HeaderValue::from_str(&text) {
        headers.insert(STATUS, HeaderValue::from(code as i32));
        headers.insert(MESSAGE, text);
    }
}

/// `Error, decoded message length too large: found 7 bytes, the limit is: 5 bytes`, as Go says it.
fn too_large(text: &str) -> Option<String> {
    let (act, numbers) = if let Some(rest) = text.strip_prefix("Error, decoded message length too large: ") {
        ("received message", rest)
    } else {
        ("trying to send message", text.strip_prefix("Error, encoded message length too large: ")?)
    };
    let mut numbers = numbers.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
    let (found, limit) = (numbers.next()?, numbers.next()?);
    Some(format!("grpc: {act} larger than max ({found} vs. {limit})"))
}

fn unknown(path: &str) -> String {
    match path.trim_start_matches('/').rsplit_once('/') {
        Some((service, method)) if SERVED.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    }
}

/// As gRPC writes texts in headers: percent-encoded where they are not plain ASCII.
fn escaped(byte: u8) -> String {
    match byte {
        b'%' | 0..0x20 | 0x7f.. => format!("%{byte:02X}"),
        _ => char::from(byte).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reworded(status: Status, path: &str) -> Status {
        let response: Response<Body> = status.into_http();
        let mut headers = response.headers().clone();
        reword(&mut headers, path);
        Status::from_header_map(&headers).expect("status")
    }

    #[test]
    fn messages_too_large_are_told_as_go_tells_them() {
        let status = Status::out_of_range(
            "Error, decoded message length too large: found 17825803 bytes, the limit is: 16777216 bytes",
        );
        let status = reworded(status, "/s/m");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "grpc: received message larger than max (17825803 vs. 16777216)");
        let status = Status::out_of_range(
            "Error, encoded message length too large: found 9 bytes, the limit is: 5 bytes",
        );
        let status = reworded(status, "");
        assert_eq!(status.message(), "grpc: trying to send message larger than max (9 vs. 5)");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let none = || Status::new(Code::Unimplemented, "");
        let status = reworded(none(), "/containerd.services.version.v1.Version/No%20");
        let text = "unknown method No%20 for service containerd.services.version.v1.Version";
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, text));
        assert_eq!(reworded(none(), "/no.such/M").message(), "unknown service no.such");
    }

    #[test]
    fn answers_of_services_are_left_alone() {
        for status in [Status::out_of_range("offset 7: out of range"), Status::unimplemented("not here")] {
            let same = reworded(status.clone(), "/s/m");
            assert_eq!((same.code(), same.message()), (status.code(), status.message()));
        }
    }
}
