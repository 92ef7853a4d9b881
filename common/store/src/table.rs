//! Typed tables: records as JSON under keys of several text parts.

use std::marker::PhantomData;

use redb::TableDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::{Read, StoreError, Write};

type Raw<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

/// A table whose keys are a fixed number of text parts and whose values are records of type `V`.
///
/// Keys sort by their parts in turn, bytewise, so that everything under a prefix of parts is one range.
pub struct Table<V> {
    name: &'static str,
    parts: usize,
    value: PhantomData<fn() -> V>,
}

impl<V: Serialize + DeserializeOwned> Table<V> {
    /// `name` is what stands in the file: never reuse one for another type. `parts` is the length of every key.
    pub const fn new(name: &'static str, parts: usize) -> Self {
        Table { name, parts, value: PhantomData }
    }

    fn raw(&self) -> Raw<'static> {
        TableDefinition::new(self.name)
    }

    fn damaged(&self, key: &[u8], source: serde_json::Error) -> StoreError {
        StoreError::Record { table: self.name, key: String::from_utf8_lossy(key).into_owned(), source }
    }

    pub fn get(&self, from: &impl Read, key: &[&str]) -> Result<Option<V>, StoreError> {
        let key = self.full_key(key);
        from.with_table(self.raw(), |table| {
            let Some(value) = table.get(key.as_slice()).map_err(StoreError::engine("read"))? else {
                return Ok(None);
            };
            serde_json::from_slice(value.value()).map(Some).map_err(|e| self.damaged(&key, e))
        })
        .map(Option::flatten)
    }

    pub fn contains(&self, from: &impl Read, key: &[&str]) -> Result<bool, StoreError> {
        let key = self.full_key(key);
        let found = from.with_table(self.raw(), |table| {
            Ok(table.get(key.as_slice()).map_err(StoreError::engine("read"))?.is_some())
        })?;
        Ok(found.unwrap_or(false))
    }

    /// Every record whose key begins with these parts, in order of keys; each with its whole key.
    pub fn list(&self, from: &impl Read, prefix: &[&str]) -> Result<Vec<(Vec<String>, V)>, StoreError> {
        let mut out = Vec::new();
        self.scan(from, prefix, |key, value| {
            let record = serde_json::from_slice(value).map_err(|e| self.damaged(key, e))?;
            out.push((decode(key), record));
            Ok(true)
        })?;
        Ok(out)
    }

    /// The keys that begin with these parts, without reading the records.
    pub fn keys(&self, from: &impl Read, prefix: &[&str]) -> Result<Vec<Vec<String>>, StoreError> {
        let mut out = Vec::new();
        self.scan(from, prefix, |key, _| {
            out.push(decode(key));
            Ok(true)
        })?;
        Ok(out)
    }

    /// Whether anything stands under these parts.
    pub fn any(&self, from: &impl Read, prefix: &[&str]) -> Result<bool, StoreError> {
        let mut found = false;
        self.scan(from, prefix, |_, _| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    pub fn put(&self, to: &Write, key: &[&str], value: &V) -> Result<(), StoreError> {
        let key = self.full_key(key);
        let bytes = serde_json::to_vec(value).map_err(|e| self.damaged(&key, e))?;
        let mut table = to.inner().open_table(self.raw()).map_err(StoreError::engine("open a table"))?;
        table.insert(key.as_slice(), bytes.as_slice()).map_err(StoreError::engine("write"))?;
        Ok(())
    }

    /// Whether there was such a record.
    pub fn remove(&self, from: &Write, key: &[&str]) -> Result<bool, StoreError> {
        let key = self.full_key(key);
        let mut table = from.inner().open_table(self.raw()).map_err(StoreError::engine("open a table"))?;
        let removed = table.remove(key.as_slice()).map_err(StoreError::engine("remove"))?.is_some();
        Ok(removed)
    }

    /// Removes everything under these parts and says how many records that were.
    pub fn remove_all(&self, from: &Write, prefix: &[&str]) -> Result<usize, StoreError> {
        let keys = self.keys(from, prefix)?;
        for key in &keys {
            let parts: Vec<&str> = key.iter().map(String::as_str).collect();
            self.remove(from, &parts)?;
        }
        Ok(keys.len())
    }

    fn scan(
        &self,
        from: &impl Read,
        prefix: &[&str],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let start = encode(prefix);
        from.with_table(self.raw(), |table| {
            let range = table.range(start.as_slice()..).map_err(StoreError::engine("read"))?;
            for entry in range {
                let (key, value) = entry.map_err(StoreError::engine("read"))?;
                if !key.value().starts_with(&start) || !visit(key.value(), value.value())? {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn full_key(&self, key: &[&str]) -> Vec<u8> {
        debug_assert_eq!(key.len(), self.parts, "table {} has keys of {} parts", self.name, self.parts);
        encode(key)
    }
}

/// Each part ends with a zero byte; a zero within a part is followed by 0xff, which no UTF-8 text holds.
/// That keeps the order of the parts and lets no part run into the next.
fn encode(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.len() + 1).sum());
    for part in parts {
        for byte in part.bytes() {
            out.push(byte);
            if byte == 0 {
                out.push(0xff);
            }
        }
        out.push(0);
    }
    out
}

fn decode(key: &[u8]) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = key.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != 0 {
            part.push(byte);
        } else if bytes.next_if_eq(&0xff).is_some() {
            part.push(0);
        } else {
            parts.push(String::from_utf8_lossy(&std::mem::take(&mut part)).into_owned());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_keep_their_order() {
        let keys = [["a", "z"], ["a\0", "b"], ["a\0x", ""], ["aa", "a"], ["b", "\0\0"]];
        let mut encoded: Vec<_> = keys.iter().map(|k| encode(k)).collect();
        for (key, bytes) in keys.iter().zip(&encoded) {
            assert_eq!(decode(bytes), key);
        }
        let before = encoded.clone();
        encoded.sort();
        assert_eq!(encoded[0], before[0]);
        assert!(!before[3].starts_with(&encode(&["a"])), "aa is not under a");
    }
}
