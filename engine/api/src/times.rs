//! Instants in queries, with Docker's error for what is none.

use wharf_docker::moment;
use wharf_docker::time::Time;

use crate::error::ApiError;

/// Parses `since` and `until`: nanoseconds since the epoch. Empty is none.
pub fn parse(name: &str, value: &str) -> Result<Option<i64>, ApiError> {
    if value.is_empty() {
        return Ok(None);
    }
    let at = moment::parse(value, Time::now()).ok_or_else(|| {
        ApiError::invalid(format!(
            "invalid value for {name:?}: failed to parse value as time or duration: {value:?}"
        ))
    })?;
    Ok(Some(i64::try_from(at.unix_nanoseconds()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_none_and_nonsense_is_refused() {
        assert_eq!(parse("since", "").unwrap(), None);
        assert_eq!(parse("since", "5").unwrap(), Some(5_000_000_000));
        assert!(parse("since", "yesterday").is_err());
    }
}
