//! API versions: the prefix of paths, and what a client may ask for.

use std::fmt;

use crate::error::ApiError;

/// An API version, such as 1.51.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u32,
    minor: u32,
}

impl ApiVersion {
    /// The newest whose behaviour is implemented; what requests without a version get.
    pub const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 51 };
    /// The oldest that is served.
    pub const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 24 };

    /// Whether the client speaks this version or a later one.
    pub fn at_least(self, major: u32, minor: u32) -> bool {
        self >= ApiVersion { major, minor }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        (digits(major) && digits(minor))
            .then(|| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }))
            .flatten()
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Splits `/v1.43/containers/json` into the version and the rest; a path without version is of the newest.
///
/// # Errors
/// Docker's texts for versions outside what is served.
pub fn split(path: &str) -> Result<(ApiVersion, &str), ApiError> {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        Some((ApiVersion::parse(version)?, &path[2 + version.len()..]))
    });
    let Some((version, rest)) = versioned else { return Ok((ApiVersion::NEWEST, path)) };
    if version > ApiVersion::NEWEST {
        return Err(ApiError::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            ApiVersion::NEWEST
        )));
    }
    if version < ApiVersion::OLDEST {
        return Err(ApiError::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a \
             newer version",
            ApiVersion::OLDEST
        )));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_split_off() {
        let (version, rest) = split("/v1.43/containers/json").unwrap();
        assert_eq!((version.to_string().as_str(), rest), ("1.43", "/containers/json"));
        assert!(version.at_least(1, 43) && !version.at_least(1, 44));
        assert_eq!(split("/_ping").unwrap(), (ApiVersion::NEWEST, "/_ping"));
        assert_eq!(split("/volumes/v1.2").unwrap().1, "/volumes/v1.2");
        assert_eq!(split("/version").unwrap().1, "/version");
    }

    #[test]
    fn versions_outside_are_refused_in_dockers_words() {
        let new = split("/v1.99/info").unwrap_err();
        assert_eq!(new.message(), "client version 1.99 is too new. Maximum supported API version is 1.51");
        let old = split("/v1.12/info").unwrap_err();
        assert!(
            old.message()
                .starts_with("client version 1.12 is too old. Minimum supported API version is 1.24")
        );
    }
}
