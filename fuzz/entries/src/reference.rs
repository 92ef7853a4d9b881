//! Names that people and clients type: image references, digests, platforms, identifiers, filters.

use wharf_vocab::{Digest, Filter, Identifier, ImageReference, Platform};

use crate::outcome::{self, must};

/// What is accepted reads back as the same from every form it is shown in.
pub fn reference(data: &[u8]) -> u64 {
    let Ok(text) = std::str::from_utf8(data) else { return 0 };
    let image = ImageReference::parse(text);
    if let Ok(image) = &image {
        for shown in [image.to_string(), image.familiar()] {
            assert_eq!(&must(ImageReference::parse(&shown), "shown", &shown), image, "{shown:?} of {text:?}");
        }
        let tagged = image.clone().with_default_tag().to_string();
        must(ImageReference::parse(&tagged), "with a tag", &tagged);
    }
    let digest = Digest::parse(text);
    if let Ok(digest) = &digest {
        assert_eq!(digest.as_str(), text);
        assert_eq!(digest.hex().len(), digest.algorithm().hex_len());
    }
    let platform = Platform::parse(text);
    if let Ok(platform) = &platform {
        let shown = platform.to_string();
        let again = must(Platform::parse(&shown), "shown", &shown);
        assert_eq!(again.normalized(), platform.normalized(), "{shown:?} of {text:?}");
    }
    let identifier = Identifier::parse(text);
    let filter = Filter::parse_all(&[text]);
    if let Ok(filter) = &filter {
        filter.matches(|_| Some("foo".into()));
    }
    outcome::of("image", &image, |i| usize::from(i.tag().is_some()) + 2 * usize::from(i.digest().is_some()))
        ^ outcome::of("digest", &digest, |_| 1).rotate_left(1)
        ^ outcome::of("platform", &platform, |p| p.os_features.len()).rotate_left(3)
        ^ outcome::of("identifier", &identifier, |_| 1).rotate_left(4)
        ^ outcome::of("filter", &filter, |_| 1).rotate_left(5)
}
