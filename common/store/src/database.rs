//! One redb file with a schema version and grouped flushes.

mod backend;
mod group;
mod later;
mod unfinished;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use redb::{Durability, ReadableDatabase as _, ReadableTable, TableDefinition, TableError};
use wharf_failpoints::{Point, check, hit};
use wharf_kinds::Kind;

use backend::{Backend, Health, PutOff};
use group::Group;

/// redb's page cache. The kernel has the same pages: this one saves system calls only, and is resident for as long as the
/// daemon runs. (redb's own default is a gibibyte.)
const CACHE_BYTES: usize = 1 << 20;

const SCHEMA_TABLE: TableDefinition<'static, &'static str, u64> = TableDefinition::new("schema");

/// What a database holds, and in which version of its layout.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The name that stands in the file: a database of another name is refused.
    pub name: &'static str,
    /// The version that this program writes: a later one is refused.
    pub version: u64,
}

/// Why the database did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{} is in use by another process: stop it, or choose another directory", .0.display())]
    InUse(PathBuf),
    #[error("open {}: {source}", path.display())]
    Open { path: PathBuf, source: redb::DatabaseError },
    #[error("set the permissions of {}: {source}", path.display())]
    Permissions { path: PathBuf, source: io::Error },
    #[error(
        "{} has version {found} of {name:?}, and this program knows versions up to {known}: it was written by a later release",
        path.display()
    )]
    Later { path: PathBuf, name: &'static str, found: u64, known: u64 },
    #[error("{} is not a database of {name:?}", path.display())]
    Foreign { path: PathBuf, name: &'static str },
    #[error("the database could not be opened again after a failure")]
    Closed,
    #[error("{act} the database: {source}")]
    Engine { act: &'static str, source: Box<redb::Error> },
    #[error("record {key:?} of table {table:?} is damaged: {source}")]
    Record { table: &'static str, key: String, source: serde_json::Error },
    #[error("flush the database: {1}")]
    Flush(Kind, String),
}

impl StoreError {
    pub fn kind(&self) -> Kind {
        match self {
            StoreError::InUse(_) | StoreError::Later { .. } | StoreError::Foreign { .. } => {
                Kind::FailedPrecondition
            }
            StoreError::Permissions { source, .. } => Kind::of_io(source),
            StoreError::Open { source: redb::DatabaseError::Storage(e), .. } => storage_kind(e),
            StoreError::Engine { source, .. } => match source.as_ref() {
                redb::Error::Io(e) => Kind::of_io(e),
                redb::Error::Corrupted(_) => Kind::DataLoss,
                _ => Kind::Internal,
            },
            StoreError::Record { .. } => Kind::DataLoss,
            StoreError::Closed => Kind::Unavailable,
            StoreError::Flush(kind, _) => *kind,
            StoreError::Open { .. } => Kind::Internal,
        }
    }

    pub(crate) fn engine<E: Into<redb::Error>>(act: &'static str) -> impl FnOnce(E) -> StoreError {
        move |e| StoreError::Engine { act, source: Box::new(e.into()) }
    }
}

fn storage_kind(error: &redb::StorageError) -> Kind {
    match error {
        redb::StorageError::Io(e) => Kind::of_io(e),
        redb::StorageError::Corrupted(_) => Kind::DataLoss,
        _ => Kind::Internal,
    }
}

/// An open database; cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    path: PathBuf,
    open: RwLock<Opened>,
    group: Group,
}

struct Opened {
    /// None while it could not be opened again.
    redb: Option<redb::Database>,
    health: Health,
    put_off: PutOff,
}

impl Opened {
    fn new(path: &Path) -> Result<Self, StoreError> {
        let (health, put_off) = (Health::default(), PutOff::default());
        let opened = Backend::open(path, health.clone(), put_off.clone()).and_then(|backend| {
            redb::Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)
        });
        let redb = opened.map_err(|source| match source {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.into()),
            source => StoreError::Open { path: path.into(), source },
        })?;
        Ok(Self { redb: Some(redb), health, put_off })
    }

    fn is_usable(&self) -> bool {
        self.redb.is_some() && !self.health.is_broken()
    }

    fn redb(&self) -> Result<&redb::Database, StoreError> {
        self.redb.as_ref().ok_or(StoreError::Closed)
    }
}

impl Database {
    /// Opens or creates the file, readable by its owner only. A second process gets [`StoreError::InUse`].
    pub fn open(path: &Path, schema: Schema) -> Result<Self, StoreError> {
        let opened = Opened::new(path)?;
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o600))
            .map_err(|e| StoreError::Permissions { path: path.into(), source: e.into() })?;
        let inner = Inner { path: path.into(), open: RwLock::new(opened), group: Group::default() };
        let database = Database(Arc::new(inner));
        database.check_schema(path, schema)?;
        Ok(database)
    }

    /// The open database. After a failure of its file, such as a full disk, it is opened anew first: what was
    /// reported as written is in it.
    fn opened(&self) -> Result<RwLockReadGuard<'_, Opened>, StoreError> {
        let open = self.0.open.read().unwrap_or_else(PoisonError::into_inner);
        if open.is_usable() {
            return Ok(open);
        }
        drop(open);
        let mut broken = self.0.open.write().unwrap_or_else(PoisonError::into_inner);
        if !broken.is_usable() {
            // the old one lets go of the file first; views of it answer with errors
            broken.redb = None;
            // commits that nobody flushed are lost, and those who made them still wait to hear of it
            self.0.group.lost("the disk failed before the change was safe");
            *broken = Opened::new(&self.0.path)?;
        }
        drop(broken);
        Ok(self.0.open.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn check_schema(&self, path: &Path, schema: Schema) -> Result<(), StoreError> {
        self.write(|tx| {
            let opened = tx.inner().open_table(SCHEMA_TABLE);
            let mut table = opened.map_err(StoreError::engine("open a table of"))?;
            let mut found = None;
            let mut entries = 0;
            for entry in table.iter().map_err(StoreError::engine("read"))? {
                let (name, version) = entry.map_err(StoreError::engine("read"))?;
                entries += 1;
                if name.value() == schema.name {
                    found = Some(version.value());
                }
            }
            match found {
                Some(found) if found > schema.version => Err(StoreError::Later {
                    path: path.into(),
                    name: schema.name,
                    found,
                    known: schema.version,
                }),
                Some(_) => Ok(()),
                None if entries > 0 => Err(StoreError::Foreign { path: path.into(), name: schema.name }),
                None => {
                    table.insert(schema.name, schema.version).map_err(StoreError::engine("write"))?;
                    Ok(())
                }
            }
        })
    }

    /// One consistent view; it neither waits for writers nor holds them up.
    pub fn view(&self) -> Result<View, StoreError> {
        self.opened()?.redb()?.begin_read().map(View).map_err(StoreError::engine("read"))
    }

    /// Runs `change` alone among writers. An error of it undoes everything it wrote. After `Ok` the change
    /// survives a power cut; writers that come together share the flush. `change` reaches the database through its
    /// transaction only.
    pub fn write<T, E: From<StoreError>>(&self, change: impl FnOnce(&Write) -> Result<T, E>) -> Result<T, E> {
        self.commit(change, false)
    }

    /// The same, for what need not survive a power cut in the moment after: the flush is begun and not waited for. After
    /// `Ok` the change survives the end of this process at any instant; and whatever was written later, in either way,
    /// never survives without it.
    pub fn write_ahead<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Write) -> Result<T, E>,
    ) -> Result<T, E> {
        self.commit(change, true)
    }

    fn commit<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Write) -> Result<T, E>,
        ahead: bool,
    ) -> Result<T, E> {
        // held to the end, so that nobody opens the file anew meanwhile; taken before arriving, so that everybody in
        // the queue gets a turn even if somebody waits to do so
        let opened = self.opened().map_err(E::from)?;
        let redb = opened.redb().map_err(E::from)?;
        let waiting = self.0.group.arrive();
        let begun = redb.begin_write();
        let last = waiting.entered();
        let mut tx = begun.map_err(StoreError::engine("write")).map_err(E::from)?;
        let flush_now = last || self.0.group.is_overdue();
        let durability = if flush_now { Durability::Immediate } else { Durability::None };
        tx.set_durability(durability).map_err(StoreError::engine("write")).map_err(E::from)?;
        let tx = Write(tx);
        let outcome = change(&tx);
        let outcome = match outcome {
            Ok(value) => value,
            Err(error) => {
                let _ = tx.0.abort();
                // others may rely on this writer for their flush
                if last {
                    self.flush_pending(&opened);
                }
                return Err(error);
            }
        };
        if let Err(error) = check(Point::MetadataCommit) {
            let _ = tx.0.abort();
            if last {
                self.flush_pending(&opened);
            }
            return Err(StoreError::Flush(Kind::of_io(&error), error.to_string()).into());
        }
        // those whose commits this one flushes may have to wait for it
        opened.put_off.set(ahead && flush_now && self.0.group.newest_pending().is_none());
        // the number is taken while this writer still keeps the others out
        let ticket = self.0.group.ticket();
        let committed = tx.0.commit().map_err(StoreError::engine("commit to"));
        match (committed, flush_now) {
            (Ok(()), true) => self.0.group.flushed(ticket, Ok(())),
            (Ok(()), false) => self.0.group.wait(ticket, || self.flush_pending(&opened)).map_err(E::from)?,
            (Err(error), _) => {
                self.0.group.flushed(ticket, Err(&error));
                return Err(error.into());
            }
        }
        hit(Point::MetadataCommitted);
        Ok(outcome)
    }

    /// Makes durable what was committed without a flush.
    fn flush_pending(&self, opened: &Opened) {
        let Some(newest) = self.0.group.newest_pending() else { return };
        let flush = || -> Result<(), StoreError> {
            let mut tx = opened.redb()?.begin_write().map_err(StoreError::engine("write"))?;
            tx.set_durability(Durability::Immediate).map_err(StoreError::engine("write"))?;
            opened.put_off.set(false);
            tx.commit().map_err(StoreError::engine("commit to"))
        };
        self.0.group.flushed(newest, flush().as_ref().copied());
    }
}

/// What tables can be read from: a [`View`], or a [`Write`] that sees its own changes.
pub trait Read {
    /// `None` if nothing was ever written to the table.
    #[doc(hidden)]
    fn with_table<T>(
        &self,
        table: TableDefinition<'_, &'static [u8], &'static [u8]>,
        use_it: impl FnOnce(&dyn Rows) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError>;
}

/// The two reads that tables need, for both kinds of transaction.
#[doc(hidden)]
pub trait Rows {
    fn get(&self, key: &[u8]) -> redb::Result<Option<redb::AccessGuard<'_, &'static [u8]>>>;
    fn range(
        &self,
        from: std::ops::RangeFrom<&[u8]>,
    ) -> redb::Result<redb::Range<'_, &'static [u8], &'static [u8]>>;
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Rows for T {
    fn get(&self, key: &[u8]) -> redb::Result<Option<redb::AccessGuard<'_, &'static [u8]>>> {
        ReadableTable::get(self, key)
    }

    fn range(
        &self,
        from: std::ops::RangeFrom<&[u8]>,
    ) -> redb::Result<redb::Range<'_, &'static [u8], &'static [u8]>> {
        ReadableTable::range::<&[u8]>(self, from)
    }
}

/// A consistent view of the whole database.
pub struct View(redb::ReadTransaction);

impl Read for View {
    fn with_table<T>(
        &self,
        table: TableDefinition<'_, &'static [u8], &'static [u8]>,
        use_it: impl FnOnce(&dyn Rows) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match self.0.open_table(table) {
            Ok(table) => use_it(&table).map(Some),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(StoreError::engine("open a table of")(e)),
        }
    }
}

/// A change in the making; see [`Database::write`].
pub struct Write(redb::WriteTransaction);

impl Write {
    pub(crate) fn inner(&self) -> &redb::WriteTransaction {
        &self.0
    }
}

impl Read for Write {
    fn with_table<T>(
        &self,
        table: TableDefinition<'_, &'static [u8], &'static [u8]>,
        use_it: impl FnOnce(&dyn Rows) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let table = self.0.open_table(table).map_err(StoreError::engine("open a table of"))?;
        use_it(&table).map(Some)
    }
}

#[cfg(test)]
mod tests;
