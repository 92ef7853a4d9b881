//! Image errors as Docker answers them.

use engine_images::{
    DeleteError, ImportError, ListError, LoadError, LookupError, PruneError, PullError, SaveError, TagError,
};

use crate::error::ApiError;

macro_rules! by_kind {
    ($($error:ty),*) => {$(
        impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                Self::new(error.kind(), error.to_string())
            }
        }
    )*};
}
by_kind!(
    DeleteError,
    ImportError,
    ListError,
    LoadError,
    LookupError,
    PruneError,
    PullError,
    SaveError,
    TagError
);
