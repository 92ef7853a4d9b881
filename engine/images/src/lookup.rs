//! Finding an image by anything a client may call it.

use std::sync::Arc;

use engine_backend::BackendError;
use wharf_kinds::Kind;
use wharf_vocab::{Digest, ImageReference, Platform, ReferenceError};

use crate::catalog::{Catalog, Known};
use crate::error::StoreError;
use crate::images::Images;
use crate::name::RecordName;
use crate::stored::{self, StoredImage};

/// Why a name leads to no image.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The text has Docker's form: a name with its tag, or what the client wrote.
    #[error("No such image: {0}")]
    NotFound(String),
    #[error("{0} is ambiguous: more than one image has an id that begins so")]
    Ambiguous(String),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl LookupError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Ambiguous(_) => Kind::InvalidArgument,
            Self::Reference(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Backend(error) => error.kind(),
        }
    }
}

/// What a text was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// A whole id or the beginning of one.
    Id,
    /// A name; it has a tag or a digest.
    Name(ImageReference),
}

/// An id written out: `sha256:HEX` or the 64 digits alone.
pub(crate) fn whole_id(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    (hex.len() == 64).then(|| Digest::parse(&format!("sha256:{hex}")).ok()).flatten()
}

impl Images {
    /// Finds an image among all. `docker.io/library/` and `:latest` may be left out of names, and the end of ids.
    pub(crate) async fn find(&self, text: &str) -> Result<(Known, Via), LookupError> {
        let catalog = self.catalog().await?;
        find_in(&catalog, text)
    }

    /// The image behind a text, for a platform or this machine's. A name with a tag costs one request.
    pub(crate) async fn image(
        &self,
        text: &str,
        platform: Option<&Platform>,
    ) -> Result<(Arc<StoredImage>, String), LookupError> {
        if whole_id(text).is_none()
            && let Ok(reference) = ImageReference::parse(text)
            && reference.digest().is_none()
        {
            let name = reference.with_default_tag().to_string();
            match self.backend().image_get(&name).await {
                Ok(record) => {
                    let missing = || LookupError::NotFound(text.to_owned());
                    let target = stored::from_backend(&record.target).ok_or_else(missing)?;
                    let image = stored::read(self.backend(), &self.inner.cache, &target, platform).await?;
                    return Ok((image, name));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (known, via) = self.find(text).await?;
        let name = match &via {
            Via::Name(reference) => reference.to_string(),
            Via::Id => String::new(),
        };
        match platform {
            None => Ok((known.image, name)),
            Some(_) => {
                let target = &known.image.target;
                Ok((stored::read(self.backend(), &self.inner.cache, target, platform).await?, name))
            }
        }
    }
}

pub(crate) fn find_in(catalog: &Catalog, text: &str) -> Result<(Known, Via), LookupError> {
    if let Some(id) = whole_id(text) {
        let by_target = || catalog.values().find(|k| k.records.iter().any(|r| r.image.target.digest == id));
        return match catalog.get(&id).or_else(by_target) {
            Some(known) => Ok((known.clone(), Via::Id)),
            None => Err(LookupError::NotFound(text.to_owned())),
        };
    }
    let reference = ImageReference::parse(text)?;
    let reference = match reference.digest() {
        // `name:tag@digest` means the digest
        Some(digest) => reference.with_digest(digest.clone()),
        None => reference.with_default_tag(),
    };
    if let Some(known) = catalog.values().find(|known| is_named(known, &reference)) {
        return Ok((known.clone(), Via::Name(reference)));
    }
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    if prefix.is_empty() || !prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(LookupError::NotFound(reference.familiar()));
    }
    let mut candidates = catalog.values().filter(|k| k.image.id().hex().starts_with(prefix));
    match (candidates.next(), candidates.next()) {
        (Some(known), None) => Ok((known.clone(), Via::Id)),
        (Some(_), Some(_)) => Err(LookupError::Ambiguous(text.to_owned())),
        (None, _) => Err(LookupError::NotFound(reference.familiar())),
    }
}

fn is_named(known: &Known, reference: &ImageReference) -> bool {
    let Some(digest) = reference.digest() else {
        return known
            .records
            .iter()
            .any(|r| matches!(&r.name, RecordName::Tagged(name) if name == reference));
    };
    known.records.iter().any(|record| match &record.name {
        RecordName::Tagged(name) | RecordName::Digested(name) => {
            name.name() == reference.name()
                && (record.image.target.digest == *digest || record.image.manifest.digest == *digest)
        }
        RecordName::Nameless => false,
    })
}
