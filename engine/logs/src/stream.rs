//! A log as a stream of chunks.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use wharf_logs::Reader;

use crate::render::{Renderer, Verdict};
use crate::watch::Watch;
use crate::{LogError, LogQuery, LogSource, until};

/// Bytes after which a chunk is handed out.
const CHUNK: usize = 64 << 10;
/// How often a folder that is not there yet is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Opens a log. `ended` is done when the container has ended, and its log with it; it is looked at only when
/// following.
///
/// # Errors
/// If a file that exists cannot be read. A log that does not exist is empty.
pub async fn open(
    source: LogSource,
    query: LogQuery,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<LogStream, LogError> {
    // watched before it is read, so that no change falls between
    let watch = if query.follow { watch(&source.path)? } else { None };
    let (path, format) = (source.path.clone(), source.format);
    let opening = tokio::task::spawn_blocking(move || Reader::open(&path, format, query.start));
    let reader = opening.await.map_err(|_| LogError::Interrupted)??;
    let state = State { reader, renderer: Renderer::new(query) };
    Ok(LogStream { state: Some(state), path: source.path, query, watch, ended: Some(Box::pin(ended)) })
}

/// None if the folder is not there yet.
fn watch(path: &std::path::Path) -> Result<Option<Watch>, LogError> {
    match Watch::on(path) {
        Ok(watch) => Ok(Some(watch)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LogError::Watch { path: path.to_owned(), source }),
    }
}

/// A log being read.
pub struct LogStream {
    /// Absent once nothing more will come.
    state: Option<State>,
    path: PathBuf,
    query: LogQuery,
    watch: Option<Watch>,
    /// Absent once the container is known to have ended.
    ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

struct State {
    reader: Reader,
    renderer: Renderer,
}

/// What one turn of reading gave.
struct Batch {
    bytes: Vec<u8>,
    /// Nothing later will be asked for.
    is_last: bool,
}

impl State {
    /// Reads until a chunk is full or nothing more is there now.
    fn batch(&mut self) -> Result<Batch, wharf_logs::ReadError> {
        let mut bytes = Vec::new();
        while bytes.len() < CHUNK {
            let Some(record) = self.reader.next()? else { break };
            if self.renderer.render(&record, &mut bytes) == Verdict::Beyond {
                return Ok(Batch { bytes, is_last: true });
            }
        }
        Ok(Batch { bytes, is_last: false })
    }
}

impl LogStream {
    /// The next bytes; `None` at the end. Following, it waits for more until the container has ended and all of its
    /// log was handed out, or until the time asked for has passed.
    ///
    /// # Errors
    /// If a file cannot be read; the stream is at its end then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LogError> {
        loop {
            let Some(mut state) = self.state.take() else { return Ok(None) };
            // what had ended before this turn has written all it will
            let was_over = !self.query.follow || self.ended.is_none() || self.is_past();
            let turn = tokio::task::spawn_blocking(move || {
                let batch = state.batch();
                (state, batch)
            });
            let (state, batch) = turn.await.map_err(|_| LogError::Interrupted)?;
            let batch = batch?;
            if batch.is_last {
                return Ok((!batch.bytes.is_empty()).then(|| batch.bytes.into()));
            }
            if !batch.bytes.is_empty() {
                self.state = Some(state);
                return Ok(Some(batch.bytes.into()));
            }
            if was_over {
                return Ok(None);
            }
            self.state = Some(state);
            self.wait().await?;
        }
    }

    fn is_past(&self) -> bool {
        self.query.until.is_some_and(|stamp| until(stamp).is_zero())
    }

    /// Waits until the log may have more, the container has ended, or the time asked for has passed.
    async fn wait(&mut self) -> Result<(), LogError> {
        if self.watch.is_none() {
            self.watch = watch(&self.path)?;
        }
        let changed = async {
            match &self.watch {
                Some(watch) => watch.changed().await,
                None => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    Ok(())
                }
            }
        };
        let ended = async {
            match &mut self.ended {
                Some(ended) => ended.await,
                None => std::future::pending().await,
            }
        };
        let passed = async {
            match self.query.until {
                Some(stamp) => tokio::time::sleep(until(stamp)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changed => changed.map_err(|source| LogError::Watch { path: self.path.clone(), source })?,
            () = ended => self.ended = None,
            () = passed => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
