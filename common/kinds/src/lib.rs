//! error kinds and their only mapping to gRPC, ttrpc and HTTP codes
