//! Sandboxes: what a group of containers runs in, whether or not it runs.

use std::time::SystemTime;

use wharf_vocab::{Filter, Identifier, label_field};

use crate::error::{MetadataError, Subject};
use crate::fields::{apply_to_map, settle_labels};
use crate::records::Sandbox;
use crate::tables::SANDBOXES;
use crate::{Metadata, Scope, namespaces};

pub struct Sandboxes<'a>(pub(crate) &'a Metadata);

impl Sandboxes<'_> {
    pub fn get(&self, scope: &Scope, id: &str) -> Result<Sandbox, MetadataError> {
        let found = SANDBOXES.get(&self.0.db.view()?, &[&scope.namespace, id])?;
        found.ok_or_else(|| absent(id))
    }

    /// In order of ids. Filters know `id`, `runtime.name` and `labels`.
    pub fn list(&self, scope: &Scope, filters: &[String]) -> Result<Vec<Sandbox>, MetadataError> {
        let filter = Filter::parse_all(filters)?;
        let all = SANDBOXES.list(&self.0.db.view()?, &[&scope.namespace])?;
        Ok(all.into_iter().map(|(_, s)| s).filter(|s| matches(&filter, s)).collect())
    }

    /// `created` and `updated` are set here.
    pub fn create(&self, scope: &Scope, mut sandbox: Sandbox) -> Result<Sandbox, MetadataError> {
        validate(&mut sandbox)?;
        self.0.db.write(|tx| {
            let key = [scope.namespace.as_str(), &sandbox.id];
            if SANDBOXES.contains(tx, &key)? {
                return Err(MetadataError::AlreadyExists(Subject::Sandbox(sandbox.id.clone())));
            }
            namespaces::ensure(tx, &scope.namespace)?;
            sandbox.created = SystemTime::now();
            sandbox.updated = sandbox.created;
            SANDBOXES.put(tx, &key, &sandbox)?;
            Ok(())
        })?;
        Ok(sandbox)
    }

    /// Paths: `labels`, `labels.k`, `extensions`, `extensions.k`, `spec`, `runtime`. An empty mask means all of
    /// them, and refuses another runtime.
    pub fn update(&self, scope: &Scope, wanted: &Sandbox, mask: &[String]) -> Result<Sandbox, MetadataError> {
        self.0.db.write(|tx| {
            let key = [scope.namespace.as_str(), &wanted.id];
            let mut sandbox = SANDBOXES.get(tx, &key)?.ok_or_else(|| absent(&wanted.id))?;
            let all = ["labels", "extensions", "spec", "runtime"].map(String::from);
            if mask.is_empty() && sandbox.runtime.name != wanted.runtime.name {
                return Err(MetadataError::Invalid("sandbox.Runtime.Name field is immutable".into()));
            }
            for path in if mask.is_empty() { &all[..] } else { mask } {
                apply(&mut sandbox, wanted, path)?;
            }
            validate(&mut sandbox)?;
            sandbox.updated = SystemTime::now();
            SANDBOXES.put(tx, &key, &sandbox)?;
            Ok(sandbox)
        })
    }

    pub fn delete(&self, scope: &Scope, id: &str) -> Result<(), MetadataError> {
        self.0.db.write(|tx| match SANDBOXES.remove(tx, &[&scope.namespace, id])? {
            true => Ok(()),
            false => Err(absent(id)),
        })
    }
}

fn absent(id: &str) -> MetadataError {
    MetadataError::NotFound(Subject::Sandbox(id.into()))
}

fn apply(sandbox: &mut Sandbox, wanted: &Sandbox, path: &str) -> Result<(), MetadataError> {
    if apply_to_map(path, "labels", &mut sandbox.labels, &wanted.labels) {
        return Ok(());
    }
    if let Some(key) = path.strip_prefix("extensions.") {
        match wanted.extensions.get(key) {
            Some(value) => sandbox.extensions.insert(key.to_owned(), value.clone()),
            None => sandbox.extensions.remove(key),
        };
        return Ok(());
    }
    match path {
        "extensions" => sandbox.extensions.clone_from(&wanted.extensions),
        "runtime" => sandbox.runtime.clone_from(&wanted.runtime),
        "spec" => sandbox.spec.clone_from(&wanted.spec),
        _ => {
            let subject = format!("sandbox {:?}", sandbox.id);
            return Err(MetadataError::Immutable { path: path.into(), subject });
        }
    }
    Ok(())
}

fn validate(sandbox: &mut Sandbox) -> Result<(), MetadataError> {
    Identifier::parse(&sandbox.id)
        .map_err(|source| MetadataError::Identifier { field: Some("invalid sandbox ID"), source })?;
    settle_labels(&mut sandbox.labels, "sandbox.Labels")
}

fn matches(filter: &Filter, sandbox: &Sandbox) -> bool {
    let present = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned().into());
    filter.matches(|path| match path {
        ["id", ..] => present(&sandbox.id),
        ["runtime", "name", ..] => present(&sandbox.runtime.name),
        ["labels", key @ ..] => label_field(key, &sandbox.labels).map(|v| v.to_owned().into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{AnyValue, Runtime};
    use wharf_kinds::Kind;

    fn sandbox(id: &str) -> Sandbox {
        let runtime = Runtime { name: "io.containerd.wharf.v2".into(), options: None };
        Sandbox { id: id.into(), runtime, ..Sandbox::default() }
    }

    #[test]
    fn records_are_kept_per_namespace_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (Scope::new("here", None), Scope::new("there", None));
        {
            let store = Metadata::open(dir.path()).unwrap();
            let made = store.sandboxes().create(&here, sandbox("pod")).unwrap();
            assert!(made.created > SystemTime::UNIX_EPOCH && made.created == made.updated);
            let again = store.sandboxes().create(&here, sandbox("pod")).unwrap_err();
            assert_eq!(again.kind(), Kind::AlreadyExists);
            store.sandboxes().create(&there, sandbox("pod")).unwrap();
        }
        let store = Metadata::open(dir.path()).unwrap();
        assert_eq!(store.sandboxes().get(&here, "pod").unwrap().runtime.name, "io.containerd.wharf.v2");
        store.sandboxes().delete(&here, "pod").unwrap();
        assert_eq!(store.sandboxes().delete(&here, "pod").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(store.sandboxes().get(&here, "pod").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(store.sandboxes().list(&there, &[]).unwrap().len(), 1);
    }

    #[test]
    fn updates_follow_their_mask() {
        let dir = tempfile::tempdir().unwrap();
        let (store, scope) = (Metadata::open(dir.path()).unwrap(), Scope::new("ns", None));
        let mut first = sandbox("pod");
        first.labels.insert("a".into(), "1".into());
        store.sandboxes().create(&scope, first).unwrap();

        let mut wanted = sandbox("pod");
        wanted.runtime.name = "another".into();
        wanted.labels.insert("b".into(), "2".into());
        wanted.extensions.insert("x".into(), AnyValue { type_url: "t".into(), value: vec![1] });
        let mask = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        let update = |paths: &[&str]| store.sandboxes().update(&scope, &wanted, &mask(paths));
        assert_eq!(update(&[]).unwrap_err().kind(), Kind::InvalidArgument);
        assert_eq!(update(&["sandboxer"]).unwrap_err().kind(), Kind::InvalidArgument);
        let updated = update(&["labels.b", "extensions.x"]).unwrap();
        assert_eq!((updated.labels.len(), updated.extensions.len()), (2, 1));
        assert_eq!(updated.runtime.name, "io.containerd.wharf.v2");
        assert!(updated.updated > updated.created);

        let found = |filter: &str| store.sandboxes().list(&scope, &[filter.to_owned()]).unwrap().len();
        assert_eq!((found("labels.b==2"), found("labels.b==3"), found("id==pod")), (1, 0, 1));
    }

    #[test]
    fn ids_must_be_identifiers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Metadata::open(dir.path()).unwrap();
        let error = store.sandboxes().create(&Scope::new("ns", None), sandbox("../pod")).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }
}
