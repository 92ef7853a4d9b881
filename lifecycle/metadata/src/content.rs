//! Records of blobs and of ingests. Their bytes are the content store's affair.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use wharf_store::{Read, Write};
use wharf_vocab::{Digest, Filter, Labels, label_field, label_names};

use crate::error::{MetadataError, Subject};
use crate::fields::{settle_labels, update_labels};
use crate::outbox::Change;
use crate::records::{BlobInfo, IngestRecord};
use crate::tables::{BLOBS, INGESTS, NAMESPACES, SEQUENCES};
use crate::{Metadata, Scope, leases, namespaces};

/// How long an ingest without a lease may stay unfinished.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Bytes that the name of an ingest may have.
const MAX_REFERENCE: usize = 1024;

pub struct ContentRecords<'a>(pub(crate) &'a Metadata);

impl ContentRecords<'_> {
    pub fn info(&self, scope: &Scope, digest: &Digest) -> Result<BlobInfo, MetadataError> {
        blob(&self.0.db.view()?, scope, digest)
    }

    /// In order of digests. Fields for filters: `digest`, `size`, `labels`.
    pub fn list(&self, scope: &Scope, filters: &[String]) -> Result<Vec<BlobInfo>, MetadataError> {
        let filter = Filter::parse_all(filters)?;
        let all = BLOBS.list(&self.0.db.view()?, &[&scope.namespace])?;
        let matches = |info: &BlobInfo| {
            filter.matches(|path| match path {
                ["digest", ..] => Some(info.digest.as_str().to_owned().into()),
                ["size", ..] => Some(info.size.to_string().into()),
                ["labels", key @ ..] => label_field(key, &info.labels).map(|v| v.to_owned().into()),
                _ => None,
            })
        };
        Ok(all.into_iter().map(|(_, info)| info).filter(matches).collect())
    }

    /// Paths: `labels`, `labels.k`. An empty mask replaces the labels.
    pub fn update(
        &self,
        scope: &Scope,
        digest: &Digest,
        labels: &Labels,
        mask: &[String],
    ) -> Result<BlobInfo, MetadataError> {
        let info = self.0.change(|tx| {
            let mut info = blob(tx, scope, digest)?;
            update_labels(&mut info.labels, labels, mask, || format!("content info {:?}", digest.as_str()))?;
            settle_labels(&mut info.labels, "info.Labels")?;
            info.updated = SystemTime::now();
            BLOBS.put(tx, &[&scope.namespace, digest.as_str()], &info)?;
            Ok::<_, MetadataError>(info)
        })?;
        Ok(info)
    }

    /// Removes the record; the bytes go when no namespace has a record of them.
    pub fn delete(&self, scope: &Scope, digest: &Digest) -> Result<(), MetadataError> {
        self.0.change(|tx| {
            if !BLOBS.remove(tx, &[&scope.namespace, digest.as_str()])? {
                return Err(MetadataError::NotFound(Subject::ContentDigest(digest.clone())));
            }
            leases::detach(tx, scope, leases::CONTENT_KIND, digest.as_str())?;
            let change = Change::ContentDeleted { digest: digest.to_string() };
            self.0.announce(tx, &scope.namespace, change)?;
            Ok(())
        })?;
        self.0.dirty.deleted();
        Ok(())
    }

    pub fn ingest(&self, scope: &Scope, reference: &str) -> Result<IngestRecord, MetadataError> {
        ingest(&self.0.db.view()?, scope, reference)
    }

    pub fn ingests(&self, scope: &Scope) -> Result<Vec<IngestRecord>, MetadataError> {
        let all = INGESTS.list(&self.0.db.view()?, &[&scope.namespace])?;
        Ok(all.into_iter().map(|(_, ingest)| ingest).collect())
    }

    /// Begins or takes up an ingest, under the scope's lease. `here` is the size of the expected blob where its bytes
    /// are on disk already and may be taken over, whichever namespace brought them.
    ///
    /// AlreadyExists if this namespace has the expected blob: the lease keeps it from then on.
    pub fn begin_ingest(
        &self,
        scope: &Scope,
        reference: &str,
        total: u64,
        expected: Option<&Digest>,
        here: Option<u64>,
    ) -> Result<IngestRecord, MetadataError> {
        if reference.is_empty() {
            return Err(MetadataError::Invalid("ref must not be empty".into()));
        }
        if reference.len() > MAX_REFERENCE {
            return Err(MetadataError::Invalid(format!("ref is longer than {MAX_REFERENCE} bytes")));
        }
        let begun = self.0.change(|tx| {
            if let Some(digest) = expected
                && BLOBS.contains(tx, &[&scope.namespace, digest.as_str()])?
            {
                leases::attach(tx, scope, leases::CONTENT_KIND, digest.as_str())?;
                return Ok::<_, MetadataError>(None);
            }
            namespaces::ensure(tx, &scope.namespace)?;
            let leased = leases::attach(tx, scope, leases::INGESTS_KIND, reference)?;
            let now = SystemTime::now();
            let mut record = match INGESTS.get(tx, &[&scope.namespace, reference])? {
                Some(record) => record,
                None => IngestRecord {
                    reference: reference.into(),
                    id: next_id(tx)?,
                    total: 0,
                    shared: None,
                    started: now,
                    expires: None,
                },
            };
            record.expires = if leased { None } else { now.checked_add(ABANDONED_AFTER) };
            let size_here = expected.zip(here);
            match size_here {
                Some((digest, size)) if total == 0 || total == size => {
                    record.shared = Some(digest.clone());
                    record.total = size;
                }
                _ if total > 0 => record.total = total,
                _ => {}
            }
            INGESTS.put(tx, &[&scope.namespace, reference], &record)?;
            Ok(Some(record))
        })?;
        match (begun, expected) {
            (Some(record), _) => {
                self.0.dirty.expires(record.expires);
                Ok(record)
            }
            (None, Some(digest)) => Err(MetadataError::AlreadyExists(Subject::Content(digest.clone()))),
            (None, None) => Err(MetadataError::NotFound(Subject::Ingest(reference.into()))),
        }
    }

    /// Whether a namespace that shares its content with all others has the blob.
    pub fn is_shareable(&self, digest: &Digest) -> Result<bool, MetadataError> {
        let view = self.0.db.view()?;
        for (key, labels) in NAMESPACES.list(&view, &[])? {
            let shares = labels.get(label_names::NAMESPACE_SHAREABLE).is_some_and(|value| value == "true");
            if shares && BLOBS.contains(&view, &[&key[0], digest.as_str()])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The ingest brings its own bytes from now on, rather than taking over another namespace's blob.
    pub fn unshare_ingest(&self, scope: &Scope, reference: &str) -> Result<(), MetadataError> {
        self.0.change(|tx| {
            let mut record = ingest(tx, scope, reference)?;
            record.shared = None;
            Ok(INGESTS.put(tx, &[&scope.namespace, reference], &record)?)
        })
    }

    /// Records a blob whose bytes are in place, ends its ingest, and hands it to the scope's lease, all at once.
    ///
    /// AlreadyExists if the namespace has it: the ingest is ended and the lease keeps the blob all the same.
    pub fn commit(
        &self,
        scope: &Scope,
        reference: &str,
        digest: &Digest,
        size: u64,
        mut labels: Labels,
    ) -> Result<BlobInfo, MetadataError> {
        settle_labels(&mut labels, "info.Labels")?;
        let committed = self.0.change(|tx| {
            INGESTS.remove(tx, &[&scope.namespace, reference])?;
            leases::detach(tx, scope, leases::INGESTS_KIND, reference)?;
            leases::attach(tx, scope, leases::CONTENT_KIND, digest.as_str())?;
            let key = [scope.namespace.as_str(), digest.as_str()];
            if BLOBS.contains(tx, &key)? {
                return Ok::<_, MetadataError>(None);
            }
            namespaces::ensure(tx, &scope.namespace)?;
            let now = SystemTime::now();
            let info = BlobInfo { digest: digest.clone(), size, labels, created: now, updated: now };
            BLOBS.put(tx, &key, &info)?;
            let change = Change::ContentCreated { digest: digest.to_string(), size };
            self.0.announce(tx, &scope.namespace, change)?;
            Ok(Some(info))
        })?;
        committed.ok_or_else(|| MetadataError::AlreadyExists(Subject::Content(digest.clone())))
    }

    /// Forgets an ingest.
    pub fn abort(&self, scope: &Scope, reference: &str) -> Result<IngestRecord, MetadataError> {
        self.0.change(|tx| {
            let record = ingest(tx, scope, reference)?;
            INGESTS.remove(tx, &[&scope.namespace, reference])?;
            leases::detach(tx, scope, leases::INGESTS_KIND, reference)?;
            Ok(record)
        })
    }

    /// The digests and ingest files that some namespace has a record of: everything else on disk is garbage.
    ///
    /// A write, though it changes nothing: it returns only once every deletion it has seen is on disk. Bytes removed
    /// for a deletion that a crash then undoes would leave a record without its bytes.
    pub fn in_use(&self) -> Result<(BTreeMap<Digest, u64>, BTreeSet<u64>), MetadataError> {
        self.0.settle(|tx| {
            let mut blobs = BTreeMap::new();
            let mut ingests = BTreeSet::new();
            for (_, info) in BLOBS.list(tx, &[])? {
                blobs.insert(info.digest, info.size);
            }
            for (_, record) in INGESTS.list(tx, &[])? {
                ingests.insert(record.id);
                if let Some(digest) = record.shared {
                    blobs.insert(digest, record.total);
                }
            }
            Ok((blobs, ingests))
        })
    }
}

fn blob(from: &impl Read, scope: &Scope, digest: &Digest) -> Result<BlobInfo, MetadataError> {
    BLOBS
        .get(from, &[&scope.namespace, digest.as_str()])?
        .ok_or_else(|| MetadataError::NotFound(Subject::ContentDigest(digest.clone())))
}

fn ingest(from: &impl Read, scope: &Scope, reference: &str) -> Result<IngestRecord, MetadataError> {
    INGESTS
        .get(from, &[&scope.namespace, reference])?
        .ok_or_else(|| MetadataError::NotFound(Subject::Ingest(reference.into())))
}

fn next_id(tx: &Write) -> Result<u64, MetadataError> {
    let id = SEQUENCES.get(tx, &["ingest"])?.unwrap_or(0) + 1;
    SEQUENCES.put(tx, &["ingest"], &id)?;
    Ok(id)
}
