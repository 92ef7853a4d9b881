//! An image to a registry.

use std::collections::HashSet;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use lifecycle_metadata::Scope;
use tokio::task::JoinSet;
use wharf_failpoints::{Point, hit};
use wharf_registry::{Descriptor, Repository, Source, Target, Uploaded};

use crate::error::ImagesError;
use crate::images::{Images, Inner, blocking};
use crate::labels::{self, sources};
use crate::progress::{Progress, Subject};
use crate::tree::Selection;
use crate::wording::Act;

/// Bytes read from the disk at a time.
const PIECE: usize = 256 << 10;

impl Images {
    /// Sends what of the image the registry does not have: blobs side by side, then documents from the inside out,
    /// the root at last under the target.
    pub async fn push(
        &self,
        scope: &Scope,
        root: &Descriptor,
        name: &str,
        selection: &Selection,
        to: &Repository,
        target: &Target,
        progress: &Progress,
    ) -> Result<(), ImagesError> {
        progress.image("pushing content", name, root);
        let to = to.for_push();
        let tree = self.0.tree(scope, root, name, selection, None, progress).await?;
        let mut seen = HashSet::new();
        let mut under_way = JoinSet::new();
        for image in tree.images.iter().filter(|image| image.whole) {
            let layers = image.layers.iter().filter(|layer| !layer.is_foreign());
            for blob in layers.chain([&image.config]) {
                if seen.insert(blob.digest.clone()) {
                    let (inner, scope, to) = (self.0.clone(), scope.clone(), to.clone());
                    let (subject, progress) = (Subject::new(blob, &image.parents), progress.clone());
                    under_way.spawn(async move { inner.send(&scope, &to, &subject, &progress).await });
                }
            }
        }
        while let Some(sent) = under_way.join_next().await {
            sent.unwrap_or(Err(ImagesError::Broken))?;
        }
        for (document, bytes) in &tree.documents {
            let own = Target::Digest(document.digest.clone());
            let target = if document.digest == root.digest { target } else { &own };
            let subject = Subject::new(document, &[name.to_owned()]);
            // what cannot be looked at may be stored all the same
            if to.has_manifest(target, &document.digest).await.unwrap_or(false) {
                progress.blob("already exists", &subject, document.size);
                continue;
            }
            let stored = to.put_manifest(target, &document.media_type, bytes).await;
            stored.map_err(ImagesError::registry(Act::Push, name))?;
            progress.blob("complete", &subject, document.size);
        }
        progress.image("pushed content", name, root);
        Ok(())
    }
}

impl Inner {
    async fn send(
        self: &Arc<Self>,
        scope: &Scope,
        to: &Repository,
        subject: &Subject,
        progress: &Progress,
    ) -> Result<(), ImagesError> {
        let _slot = self.slots.clone().acquire_owned().await.map_err(|_| ImagesError::Broken)?;
        let descriptor = subject.descriptor.clone();
        let (this, at, digest) = (self.clone(), scope.clone(), descriptor.digest.clone());
        let (file, labels) = blocking(move || {
            let labels = this.content.info(&at, &digest)?.labels;
            Ok((Arc::new(this.content.reader(&at, &digest)?.into_file()), labels))
        })
        .await?;
        progress.blob("uploading", subject, 0);
        let source: Source = Arc::new(move |offset| {
            // two pieces ahead: the disk is read while the network sends
            let (send, receive) = tokio::sync::mpsc::channel(2);
            let (file, size) = (file.clone(), descriptor.size);
            tokio::task::spawn_blocking(move || {
                let mut at = offset;
                while at < size {
                    let wanted = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
                    let mut piece = vec![0; wanted];
                    let read = file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece));
                    let failed = read.is_err();
                    if send.blocking_send(read).is_err() || failed {
                        return;
                    }
                    at += wanted as u64;
                }
            });
            Box::pin(tokio_stream::wrappers::ReceiverStream::new(receive))
        });
        let mounts = sources(&labels, to);
        let uploaded = to.upload(&subject.descriptor, &mounts, &source).await;
        let uploaded = uploaded.map_err(ImagesError::registry(Act::Push, &subject.name))?;
        hit(Point::ImagePushed);
        let event = if uploaded == Uploaded::Existed { "already exists" } else { "complete" };
        progress.blob(event, subject, subject.descriptor.size);
        let (this, scope, digest) = (self.clone(), scope.clone(), subject.descriptor.digest.clone());
        let to = to.clone();
        // the next push to this registry can mount it from here
        blocking(move || {
            Ok(labels::add(&this.content, &scope, &digest, wharf_vocab::Labels::new(), Some(&to))?)
        })
        .await
    }
}
