//! container log files: json-file, local and CRI records, rotation, reading back
