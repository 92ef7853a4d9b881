//! Which containers use which image; kept in memory, so that asking never waits.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A container that uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    pub container_id: String,
    /// Without the leading slash.
    pub container_name: String,
    pub running: bool,
    /// The image's id, `sha256:…`.
    pub image_id: String,
    /// As the client wrote it at create.
    pub image_name: String,
}

/// The register of [`ImageUser`]s; clones share it.
#[derive(Debug, Clone, Default)]
pub struct ImageUsage {
    users: Arc<RwLock<BTreeMap<String, ImageUser>>>,
}

impl ImageUsage {
    /// Containers of an image, by container id.
    pub fn containers_using(&self, image_id: &str) -> Vec<ImageUser> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.values().filter(|user| user.image_id == image_id).cloned().collect()
    }

    /// Number of containers of each image id.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        for user in users.values() {
            *counts.entry(user.image_id.clone()).or_default() += 1;
        }
        counts
    }

    /// Enters or replaces a container.
    pub fn put(&self, user: ImageUser) {
        self.users.write().unwrap_or_else(PoisonError::into_inner).insert(user.container_id.clone(), user);
    }

    /// Takes a container out.
    pub fn remove(&self, container_id: &str) {
        self.users.write().unwrap_or_else(PoisonError::into_inner).remove(container_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_container_uses_nothing() {
        let usage = ImageUsage::default();
        let user = ImageUser {
            container_id: "c".to_owned(),
            container_name: "web".to_owned(),
            running: true,
            image_id: "sha256:1".to_owned(),
            image_name: "debian".to_owned(),
        };
        usage.put(user.clone());
        assert_eq!(usage.containers_using("sha256:1"), [user]);
        assert_eq!(usage.counts().get("sha256:1"), Some(&1));
        usage.remove("c");
        assert!(usage.containers_using("sha256:1").is_empty());
    }
}
