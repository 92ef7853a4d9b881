//! Labels of content: what a document keeps alive, and where a blob came from.

use std::collections::BTreeSet;

use lifecycle_content::{ContentError, ContentStore};
use lifecycle_metadata::Scope;
use wharf_registry::{Children, Repository};
use wharf_vocab::{Digest, Labels, label_names};

/// Bytes of a label's key and value together, as containerd bounds them.
const MAX_LABEL: usize = 4096;

/// The labels by which a document keeps its parts; `kept` says of which entries of an index.
pub(crate) fn references(children: &Children, kept: impl Fn(&Digest) -> bool) -> Labels {
    let base = label_names::GC_REF_CONTENT;
    match children {
        Children::Manifests(entries) => {
            let kept = entries.iter().filter(|entry| kept(&entry.digest));
            kept.enumerate().map(|(n, entry)| (format!("{base}.m.{n}"), entry.digest.to_string())).collect()
        }
        Children::Parts { config, layers } => {
            let layers = layers.iter().enumerate();
            let layers = layers.map(|(n, layer)| (format!("{base}.l.{n}"), layer.digest.to_string()));
            layers.chain([(format!("{base}.config"), config.digest.to_string())]).collect()
        }
    }
}

/// The label that says which repositories of a registry have the blob: containerd's, which leaves out the port.
pub(crate) fn source_key(repository: &Repository) -> String {
    let domain = repository.domain();
    let host = match domain.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => domain,
    };
    format!("{}{}", label_names::DISTRIBUTION_SOURCE, host.trim_matches(['[', ']']))
}

/// Repositories of the registry that are said to have the blob.
pub(crate) fn sources(labels: &Labels, repository: &Repository) -> Vec<String> {
    let known = labels.get(&source_key(repository)).map(String::as_str).unwrap_or_default();
    known.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

/// Sets labels on a blob that is there, leaving its others; adds the repository to its sources.
pub(crate) fn add(
    content: &ContentStore,
    scope: &Scope,
    digest: &Digest,
    mut labels: Labels,
    from: Option<&Repository>,
) -> Result<(), ContentError> {
    let info = content.info(scope, digest)?;
    if let Some(from) = from {
        let mut known: BTreeSet<String> = sources(&info.labels, from).into_iter().collect();
        known.insert(from.path().to_owned());
        let (key, value) = (source_key(from), known.into_iter().collect::<Vec<_>>().join(","));
        // a blob that many repositories have is not to fail for that
        if key.len() + value.len() <= MAX_LABEL {
            labels.insert(key, value);
        }
    }
    labels.retain(|key, value| info.labels.get(key) != Some(value));
    if labels.is_empty() {
        return Ok(());
    }
    let mask: Vec<String> = labels.keys().map(|key| format!("labels.{key}")).collect();
    content.update(scope, digest, &labels, &mask).map(drop)
}
