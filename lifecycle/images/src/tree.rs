//! What an image consists of, and which part of it is wanted.

use std::collections::HashSet;
use std::sync::Arc;

use lifecycle_metadata::Scope;
use lifecycle_snapshots::Snapshotter;
use serde::Deserialize;
use wharf_kinds::Kind;
use wharf_registry::{Children, Descriptor, Repository, media_types};
use wharf_vocab::{Digest, Labels, Platform, PlatformMatcher};

use crate::error::ImagesError;
use crate::images::{Inner, PATIENCE_FOR_DOCUMENTS, blocking};
use crate::labels;
use crate::order::inside_out;
use crate::progress::{Progress, Subject};

/// Documents of one image: an index of indexes and so on.
const MAX_DOCUMENTS: usize = 4096;

/// An image of those wanted that is to be unpacked: the one that fits the platform best.
#[derive(Clone)]
pub struct Unpack {
    pub platform: Platform,
    pub snapshotter: Snapshotter,
}

/// What of an image is wanted.
#[derive(Clone, Default)]
pub struct Selection {
    /// Images for these platforms; all if there are none.
    pub platforms: Vec<Platform>,
    /// Documents and configs of the other platforms too, without their layers.
    pub all_metadata: bool,
    /// At most so many images, the best ones; 0 for no limit.
    pub limit: usize,
    /// What to unpack, and into which snapshots.
    pub unpack: Vec<Unpack>,
    /// Entries of an index that are not here are left out: an archive may have one platform of several.
    pub partial: bool,
}

/// One image of one platform.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    /// As the index has it; otherwise the config says.
    pub platform: Option<Platform>,
    /// Its layers are wanted, not only what describes them.
    pub whole: bool,
    /// Names of the documents it stands in.
    pub parents: Vec<String>,
}

/// An image or index, read.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Every document, each behind those that it points to.
    pub documents: Vec<(Descriptor, Arc<Vec<u8>>)>,
    pub images: Vec<Parts>,
}

/// What of an image's config counts here.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub variant: Option<String>,
    #[serde(default)]
    pub rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct RootFs {
    /// Go writes `null` for an image without layers.
    #[serde(default, deserialize_with = "none_is_empty")]
    pub diff_ids: Vec<Digest>,
}

fn none_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Digest>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Config {
    pub fn parse(digest: &Digest, bytes: &[u8]) -> Result<Self, ImagesError> {
        serde_json::from_slice(bytes)
            .map_err(|e| ImagesError::Config { digest: digest.clone(), reason: e.to_string() })
    }

    pub fn platform(&self) -> Option<Platform> {
        let mut text = format!("{}/{}", self.os, self.architecture);
        if let Some(variant) = self.variant.as_deref().filter(|variant| !variant.is_empty()) {
            text = format!("{text}/{variant}");
        }
        Platform::parse(&text).ok()
    }
}

struct Pending {
    descriptor: Descriptor,
    parents: Vec<String>,
    whole: bool,
}

impl Inner {
    /// Reads an image's documents, from the content store or else from the registry, and stores those that come.
    pub async fn tree(
        self: &Arc<Self>,
        scope: &Scope,
        root: &Descriptor,
        name: &str,
        selection: &Selection,
        from: Option<&Repository>,
        progress: &Progress,
    ) -> Result<Tree, ImagesError> {
        let mut tree = Tree::default();
        let mut points_to = Vec::new();
        let mut seen = HashSet::new();
        let mut pending =
            vec![Pending { descriptor: root.clone(), parents: vec![name.to_owned()], whole: true }];
        while let Some(next) = pending.pop() {
            if !seen.insert(next.descriptor.digest.clone()) || tree.documents.len() >= MAX_DOCUMENTS {
                continue;
            }
            let subject = Subject::new(&next.descriptor, &next.parents);
            let bytes = match self.document(scope, &subject, from, progress).await {
                Err(error)
                    if selection.partial && !tree.documents.is_empty() && error.kind() == Kind::NotFound =>
                {
                    continue;
                }
                other => Arc::new(other?),
            };
            let children = Children::parse(&next.descriptor.media_type, &bytes)
                .map_err(|source| ImagesError::Document { digest: next.descriptor.digest.clone(), source })?;
            let mut kept = Vec::new();
            match &children {
                Children::Parts { config, layers } => tree.images.push(Parts {
                    config: config.clone(),
                    layers: layers.clone(),
                    platform: next.descriptor.platform.clone(),
                    whole: next.whole,
                    parents: vec![subject.name.clone()],
                }),
                Children::Manifests(entries) => {
                    for (entry, whole) in chosen(entries, selection, &next.descriptor.digest)? {
                        kept.push(entry.digest.clone());
                        let (descriptor, parents) = (entry.clone(), vec![subject.name.clone()]);
                        pending.push(Pending { descriptor, parents, whole: whole && next.whole });
                    }
                }
            }
            let known: HashSet<_> = kept.iter().collect();
            let labels = labels::references(&children, |digest| known.contains(digest));
            self.label(scope, &next.descriptor.digest, labels, from).await?;
            tree.documents.push((next.descriptor, bytes));
            points_to.push(kept);
        }
        let known: Vec<_> =
            tree.documents.iter().zip(&points_to).map(|((d, _), to)| (&d.digest, to.as_slice())).collect();
        tree.documents = inside_out(&known).into_iter().map(|n| tree.documents[n].clone()).collect();
        Ok(tree)
    }

    /// A document's bytes, which are in the content store afterwards.
    async fn document(
        self: &Arc<Self>,
        scope: &Scope,
        subject: &Subject,
        from: Option<&Repository>,
        progress: &Progress,
    ) -> Result<Vec<u8>, ImagesError> {
        // whoever wants the same waits here, without a thread; but not for as long as a registry may take over it with
        // another: two can store the same
        let turn = self.turn(scope, &subject.descriptor.digest);
        let _turn = tokio::time::timeout(PATIENCE_FOR_DOCUMENTS, turn.lock()).await.ok();
        let (this, at, digest) = (self.clone(), scope.clone(), subject.descriptor.digest.clone());
        let here =
            blocking(
                move || {
                    if this.keep(&at, &digest)? { this.read(&at, &digest).map(Some) } else { Ok(None) }
                },
            );
        match (here.await?, from) {
            (Some(bytes), _) => {
                progress.blob("already exists", subject, bytes.len() as u64);
                Ok(bytes)
            }
            (None, None) => {
                let digest = subject.descriptor.digest.clone();
                let missing = lifecycle_metadata::Subject::ContentDigest(digest);
                Err(lifecycle_metadata::MetadataError::NotFound(missing).into())
            }
            (None, Some(from)) => {
                progress.blob("downloading", subject, 0);
                let bytes = from.document(&subject.descriptor).await;
                let bytes = bytes.map_err(ImagesError::fetch(&subject.descriptor))?;
                let (this, scope, descriptor) = (self.clone(), scope.clone(), subject.descriptor.clone());
                let bytes = blocking(move || {
                    this.store(&scope, &descriptor, &bytes, Labels::new())?;
                    Ok(bytes)
                })
                .await?;
                progress.blob("complete", subject, bytes.len() as u64);
                Ok(bytes)
            }
        }
    }

    pub async fn label(
        self: &Arc<Self>,
        scope: &Scope,
        digest: &Digest,
        labels: Labels,
        from: Option<&Repository>,
    ) -> Result<(), ImagesError> {
        let (this, scope, digest, from) = (self.clone(), scope.clone(), digest.clone(), from.cloned());
        blocking(move || Ok(labels::add(&this.content, &scope, &digest, labels, from.as_ref())?)).await
    }
}

/// The entries of an index that are wanted, and whether with their layers.
fn chosen<'a>(
    entries: &'a [Descriptor],
    selection: &Selection,
    index: &Digest,
) -> Result<Vec<(&'a Descriptor, bool)>, ImagesError> {
    let readable = entries.iter().filter(|entry| media_types::is_manifest(&entry.media_type));
    if selection.platforms.is_empty() && selection.limit == 0 {
        return Ok(readable.map(|entry| (entry, true)).collect());
    }
    let matchers: Vec<_> = selection.platforms.iter().map(PlatformMatcher::only).collect();
    // the place in the list of platforms first, then how well it fits
    let rank = |entry: &Descriptor| -> Option<(usize, usize)> {
        let Some(platform) = &entry.platform else { return Some((0, usize::MAX)) };
        if matchers.is_empty() {
            return Some((0, 0));
        }
        matchers.iter().enumerate().find_map(|(n, matcher)| Some((n, matcher.rank(platform)?)))
    };
    let mut ranked: Vec<_> = readable.clone().filter_map(|entry| Some((rank(entry)?, entry))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    if selection.limit > 0 {
        ranked.truncate(selection.limit);
    }
    if ranked.is_empty() {
        let platforms = selection.platforms.clone();
        return Err(ImagesError::NoMatch { digest: index.clone(), platforms });
    }
    let mut wanted: Vec<_> = ranked.into_iter().map(|(_, entry)| (entry, true)).collect();
    if selection.all_metadata {
        let whole: HashSet<_> = wanted.iter().map(|(entry, _)| entry.digest.clone()).collect();
        wanted.extend(readable.filter(|entry| !whole.contains(&entry.digest)).map(|entry| (entry, false)));
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use lifecycle_content::ContentStore;
    use lifecycle_metadata::Metadata;

    use super::*;
    use crate::images::Images;

    #[tokio::test]
    async fn a_document_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(dir.path()).unwrap();
        let content = ContentStore::open(&dir.path().join("content"), metadata.clone()).unwrap();
        let inner = Images::new(metadata, content).0;
        let scope = Scope::new("default", None);
        let digest = Digest::sha256(b"{}");
        let descriptor = Descriptor::new(media_types::OCI_MANIFEST, digest.clone(), 2);
        inner.store(&scope, &descriptor, b"{}", Labels::new()).unwrap();
        // somebody is at it, and stays
        let turn = inner.turn(&scope, &digest);
        let _theirs = turn.lock().await;
        let subject = Subject::new(&descriptor, &[]);
        let progress = Progress::default();
        let document = inner.document(&scope, &subject, None, &progress);
        let bytes = tokio::time::timeout(20 * PATIENCE_FOR_DOCUMENTS, document).await.expect("it waits");
        assert_eq!(bytes.unwrap(), b"{}");
    }
}
