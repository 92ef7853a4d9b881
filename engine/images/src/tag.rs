//! Giving an image one more name.

use engine_backend::BackendError;
use wharf_kinds::Kind;
use wharf_vocab::{ImageReference, ReferenceError};

use crate::images::Images;
use crate::lookup::LookupError;

/// Why an image was not tagged.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    #[error("refusing to create a tag with a digest reference")]
    Digest,
    #[error("refusing to create an ambiguous tag using digest algorithm as name")]
    Ambiguous,
    #[error("invalid reference format")]
    Empty,
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl TagError {
    /// What to decide on.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Digest | Self::Ambiguous | Self::Empty => Kind::InvalidArgument,
            Self::Reference(error) => error.kind(),
            Self::Lookup(error) => error.kind(),
            Self::Backend(error) => error.kind(),
        }
    }
}

/// A repository and a tag as clients send them apart; none without a repository.
pub(crate) fn repo_and_tag(repository: &str, tag: &str) -> Result<Option<ImageReference>, TagError> {
    if repository.is_empty() {
        return Ok(None);
    }
    let reference = ImageReference::parse(repository)?;
    if reference.digest().is_some() {
        return Err(TagError::Digest);
    }
    match tag {
        "" => Ok(Some(reference.with_default_tag())),
        tag => Ok(Some(reference.with_tag(tag)?)),
    }
}

impl Images {
    /// Names the image `source` also `repository:tag`; an image that has that name loses it.
    pub async fn tag(&self, source: &str, repository: &str, tag: &str) -> Result<(), TagError> {
        let name = repo_and_tag(repository, tag)?.ok_or(TagError::Empty)?;
        if name.familiar_name() == "sha256" {
            return Err(TagError::Ambiguous);
        }
        let (known, _) = self.find(source).await?;
        self.publish(&name, &known.image.target).await?;
        self.publish_event("tag", known.image.id().as_str(), &name.familiar());
        Ok(())
    }
}
