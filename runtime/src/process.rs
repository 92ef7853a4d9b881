//! What init does to itself so as to become the process that was asked for.

pub mod home;
pub mod identity;
pub mod limits;
pub mod lookup;
pub mod program;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("{act}: {source}")]
    Act { act: String, source: std::io::Error },
    #[error("{0}")]
    Refused(String),
}

impl ProcessError {
    pub(crate) fn act(act: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let act = act.into();
        move |e| Self::Act { act, source: e.into() }
    }
    pub(crate) fn io(act: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let act = act.into();
        move |source| Self::Act { act, source }
    }
}
