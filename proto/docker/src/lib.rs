//! Docker Engine API: the JSON bodies of the REST contract
