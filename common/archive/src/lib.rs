//! layers: tar apply and diff, whiteouts, compression, safe paths
