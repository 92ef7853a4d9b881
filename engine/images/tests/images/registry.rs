//! A registry on loopback that serves what it is given.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::samples::{Blob, Sample};

#[derive(Default)]
struct Content {
    /// By path.
    answers: BTreeMap<String, Blob>,
    asked: Vec<String>,
}

pub struct Registry {
    pub address: String,
    content: Arc<Mutex<Content>>,
    server: JoinHandle<()>,
}

impl Registry {
    pub async fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let content = Arc::new(Mutex::new(Content::default()));
        let served = content.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(&served, &request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Registry { address, content, server }
    }

    pub fn put(&self, path: &str, blob: &Blob) {
        self.content.lock().unwrap().answers.insert(path.to_owned(), blob.clone());
    }

    pub fn put_manifest(&self, repository: &str, tag: &str, manifest: &Blob) {
        self.put(&format!("/v2/{repository}/manifests/{tag}"), manifest);
        self.put(&format!("/v2/{repository}/manifests/{}", manifest.digest()), manifest);
    }

    pub fn put_image(&self, repository: &str, tag: &str, image: &Sample) {
        for blob in image.layers.iter().chain([&image.config]) {
            self.put(&format!("/v2/{repository}/blobs/{}", blob.digest()), blob);
        }
        self.put_manifest(repository, tag, &image.manifest);
    }

    pub fn asked_for(&self, part: &str) -> usize {
        self.content.lock().unwrap().asked.iter().filter(|a| a.contains(part)).count()
    }

    pub fn forget_asked(&self) {
        self.content.lock().unwrap().asked.clear();
    }

    /// `HOST:PORT/NAME` as an image reference.
    pub fn reference(&self, name: &str) -> wharf_vocab::ImageReference {
        format!("{}/{name}", self.address).parse().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn answer(content: &Mutex<Content>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let mut content = content.lock().unwrap();
    content.asked.push(path.clone());
    if path == "/v2/" {
        return Response::new(Full::new(Bytes::from_static(b"{}")));
    }
    let Some(blob) = content.answers.get(&path) else {
        let code = if path.contains("/blobs/") { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" };
        let text = code.to_lowercase().replace('_', " ");
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{text}"}}]}}"#);
        return Response::builder()
            .status(404)
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap();
    };
    let builder = Response::builder()
        .header("content-type", &blob.media_type)
        .header("content-length", blob.bytes.len())
        .header("docker-content-digest", blob.digest().as_str());
    let body = if request.method() == "HEAD" { Bytes::new() } else { blob.bytes.clone().into() };
    builder.body(Full::new(body)).unwrap()
}
