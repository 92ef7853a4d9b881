//! Topics: `/component/component…`, each component an identifier (`/tasks/exit`).

use wharf_vocab::{Identifier, IdentifierError};

/// Why a text is not a topic. The texts are containerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("must not be empty: invalid argument")]
    Empty,
    #[error("must start with '/': invalid argument")]
    NoSlash,
    #[error("must have at least one component: invalid argument")]
    NoComponent,
    #[error("failed validation on component {component:?}: {source}")]
    Component { component: String, source: IdentifierError },
}

/// Checks a topic without keeping it.
pub(crate) fn check(topic: &str) -> Result<(), TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    let Some(rest) = topic.strip_prefix('/') else {
        return Err(TopicError::NoSlash);
    };
    if rest.is_empty() {
        return Err(TopicError::NoComponent);
    }
    for component in rest.split('/') {
        Identifier::parse(component)
            .map_err(|source| TopicError::Component { component: component.into(), source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_rooted_paths_of_identifiers() {
        assert_eq!(check("/tasks/exit"), Ok(()));
        assert_eq!(check(""), Err(TopicError::Empty));
        assert_eq!(check("tasks"), Err(TopicError::NoSlash));
        assert_eq!(check("/"), Err(TopicError::NoComponent));
        assert!(matches!(check("/tasks//exit"), Err(TopicError::Component { .. })));
        assert!(matches!(check("/tasks/ex it"), Err(TopicError::Component { .. })));
    }
}
