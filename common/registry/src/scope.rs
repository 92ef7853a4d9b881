//! What a token is for: `repository:NAME:ACTION,…`, several with spaces between (distribution, token scopes).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Scopes of one token at most; what a registry asks for beyond that is left out.
const MAX_SCOPES: usize = 64;

/// Scopes, each resource once with all its actions, in order: the same wishes make the same text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Adds scopes as they stand in challenges and requests.
    pub fn with(mut self, text: &str) -> Self {
        for scope in text.split_ascii_whitespace() {
            // the name may have colons: a host's port
            let (resource, actions) = match scope.rsplit_once(':') {
                Some((resource, actions)) if resource.contains(':') => (resource, actions),
                _ => (scope, ""),
            };
            if self.0.len() >= MAX_SCOPES && !self.0.contains_key(resource) {
                continue;
            }
            let known = self.0.entry(resource.to_owned()).or_default();
            known.extend(actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned));
        }
        self
    }

    pub fn iter(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(resource, actions)| {
            if actions.is_empty() {
                return resource.clone();
            }
            format!("{resource}:{}", actions.iter().map(String::as_str).collect::<Vec<_>>().join(","))
        })
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_stands_once_with_all_its_actions() {
        let scopes = Scopes::default().with("repository:a/b:push,pull").with("repository:x:pull");
        let scopes = scopes.with("repository:a/b:pull repository:h:5000/x:pull registry:catalog:*");
        let wanted = "registry:catalog:* repository:a/b:pull,push repository:h:5000/x:pull repository:x:pull";
        assert_eq!(scopes.to_string(), wanted);
        assert_eq!(Scopes::default().with("  ").to_string(), "");
        assert_eq!(Scopes::default().with("aws").to_string(), "aws");
    }

    #[test]
    fn a_flood_of_scopes_is_cut() {
        let flood: String = (0..1000).map(|n| format!("repository:r{n}:pull ")).collect();
        assert_eq!(Scopes::default().with(&flood).iter().count(), MAX_SCOPES);
    }
}
