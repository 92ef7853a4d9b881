//! distribution-spec registry client
