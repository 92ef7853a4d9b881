//! A client of containerd's Transfer service for the benchmark: Debian's `ctr` is older than the service.
//!
//! - `transfer SOCKET NAMESPACE pull REFERENCE`: pulls and unpacks
//! - `transfer SOCKET NAMESPACE push NAME REFERENCE`
//! - `transfer SOCKET NAMESPACE import FILE NAME`: imports without unpacking
//! - `transfer inflate FILE…`: decompresses the files on all cores and keeps nothing: how fast that can be at all

use std::fs::File;
use std::io::{self, Read as _};
use std::process::exit;
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow};
use prost::Message;
use prost_types::Any;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};
use wharf_containerd::containerd::services::streaming::v1 as streaming;
use wharf_containerd::containerd::services::transfer::v1 as transfer;
use wharf_containerd::containerd::types::transfer::{
    Data, ImageImportStream, ImageStore, OciRegistry, UnpackConfiguration, WindowUpdate,
};
use wharf_containerd::to_any;

const PIECE: usize = 64 << 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["inflate", ref files @ ..] => inflate(files),
        [socket, namespace, ref act @ ..] => {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(run(socket, namespace, act))
        }
        _ => Err(anyhow!("usage: transfer SOCKET NAMESPACE pull|push|import … | transfer inflate FILE…")),
    };
    if let Err(error) = done {
        eprintln!("transfer: {error:#}");
        exit(1);
    }
}

fn inflate(files: &[&str]) -> Result<()> {
    let waiting = Mutex::new(files.iter());
    let next = || waiting.lock().ok()?.next();
    let work = || -> Result<()> {
        while let Some(file) = next() {
            let file = File::open(file).with_context(|| (*file).to_owned())?;
            io::copy(&mut wharf_archive::Decompressor::new(file)?, &mut io::sink())?;
        }
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

async fn run(socket: &str, namespace: &str, act: &[&str]) -> Result<()> {
    let client = Client {
        channel: Endpoint::from_shared(format!("unix:{socket}"))?.connect().await?,
        namespace: namespace.parse()?,
    };
    let unpack = UnpackConfiguration { platform: None, snapshotter: "overlayfs".into() };
    let named = |name: &str| ImageStore { name: name.to_owned(), ..Default::default() };
    match *act {
        ["pull", reference] => {
            let from = OciRegistry { reference: reference.to_owned(), resolver: None };
            let to = ImageStore { unpacks: vec![unpack], ..named(reference) };
            client.transfer(("OCIRegistry", from), ("ImageStore", to)).await
        }
        ["push", name, reference] => {
            let to = OciRegistry { reference: reference.to_owned(), resolver: None };
            client.transfer(("ImageStore", named(name)), ("OCIRegistry", to)).await
        }
        ["import", file, name] => {
            let (pieces, updates) = client.stream("import").await?;
            let sending = tokio::spawn(send(file.to_owned(), pieces, updates));
            let from = ImageImportStream { stream: "import".into(), ..Default::default() };
            client.transfer(("ImageImportStream", from), ("ImageStore", named(name))).await?;
            sending.await?
        }
        _ => Err(anyhow!("there is no such act: {}", act.join(" "))),
    }
}

struct Client {
    channel: Channel,
    namespace: tonic::metadata::MetadataValue<tonic::metadata::Ascii>,
}

impl Client {
    fn within<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        request
    }

    async fn transfer(
        &self,
        (from_name, from): (&str, impl Message),
        (to_name, to): (&str, impl Message),
    ) -> Result<()> {
        let full = |name: &str| format!("containerd.types.transfer.{name}");
        let request = transfer::TransferRequest {
            source: Some(to_any(&full(from_name), &from)),
            destination: Some(to_any(&full(to_name), &to)),
            options: None,
        };
        let mut client = transfer::transfer_client::TransferClient::new(self.channel.clone());
        client.transfer(self.within(request)).await?;
        Ok(())
    }

    async fn stream(&self, name: &str) -> Result<(mpsc::Sender<Any>, Streaming<Any>)> {
        let (send, outgoing) = mpsc::channel(16);
        let init = streaming::StreamInit { id: name.to_owned() };
        send.send(to_any("containerd.services.streaming.v1.StreamInit", &init)).await?;
        let mut client = streaming::streaming_client::StreamingClient::new(self.channel.clone());
        let request = self.within(ReceiverStream::new(outgoing));
        let mut incoming = client.stream(request).await?.into_inner();
        incoming.message().await?.context("the stream is not acknowledged")?;
        Ok((send, incoming))
    }
}

/// Sends a file as the daemon gives leave.
async fn send(file: String, pieces: mpsc::Sender<Any>, mut updates: Streaming<Any>) -> Result<()> {
    let mut file = File::open(&file).context(file)?;
    let mut window = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        (&mut file).take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        while window < i64::try_from(piece.len())? {
            let update = updates.message().await?.context("the daemon closed the stream")?;
            window += i64::from(WindowUpdate::decode(update.value.as_slice())?.update);
        }
        window -= i64::try_from(piece.len())?;
        pieces.send(to_any("containerd.types.transfer.Data", &Data { data: piece })).await?;
    }
    drop(pieces);
    // letting go of the answers would cancel what has not been transmitted yet
    while let Ok(Some(_)) = updates.message().await {}
    Ok(())
}
