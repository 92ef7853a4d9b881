//! `wharf/hello`, the image that ships inside the daemon, so that a first container needs no network.

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_kinds::Kind;
use wharf_store::file;

use crate::images::Images;
use crate::load::{LoadError, LoadRequest};
use crate::progress::Progress;

/// Written by this crate's build script.
static ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello.tar"));
const DIGEST: &str = env!("WHARF_HELLO_DIGEST");
const NAME: &str = "docker.io/wharf/hello:latest";
/// Holds the digest of the archive that was loaded into this root, so that a removed image stays removed.
const MARK: &str = "hello-loaded";

/// Why the embedded image was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Backend(#[from] engine_backend::BackendError),
    #[error("remember in {path} that wharf/hello was loaded: {reason}")]
    Mark { path: String, reason: String },
}

impl EmbeddedError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Load(error) => error.kind(),
            Self::Backend(error) => error.kind(),
            Self::Mark { .. } => Kind::Internal,
        }
    }
}

impl Images {
    /// Loads `wharf/hello` unless there is one, or this very archive was loaded into this root before. Returns whether
    /// it was loaded now. To be called at each start, once the lifecycle daemon can be reached.
    pub async fn load_embedded(&self) -> Result<bool, EmbeddedError> {
        let mark = self.inner.state.join(MARK);
        if tokio::fs::read_to_string(&mark).await.is_ok_and(|known| known.trim() == DIGEST) {
            return Ok(false);
        }
        let is_here = match self.backend().image_get(NAME).await {
            Ok(_) => true,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error.into()),
        };
        if !is_here {
            let (sender, archive) = mpsc::channel(1);
            let feed = async move {
                // a reader that stops early reports its own error
                let _ = sender.send(Ok(Bytes::from_static(ARCHIVE))).await;
            };
            let request = LoadRequest { archive, platform: None, quiet: true };
            let progress = Progress::silent();
            let (loaded, ()) = tokio::join!(self.load(request, &progress), feed);
            loaded?;
        }
        let failed = |reason: String| EmbeddedError::Mark { path: mark.display().to_string(), reason };
        tokio::fs::create_dir_all(&self.inner.state).await.map_err(|e| failed(e.to_string()))?;
        let path = mark.clone();
        let write = move || file::replace(&path, DIGEST.as_bytes(), 0o600).map_err(|e| e.to_string());
        let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|e| Err(e.to_string()));
        written.map_err(failed)?;
        Ok(!is_here)
    }
}
