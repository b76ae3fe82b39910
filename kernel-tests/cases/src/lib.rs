//! Integration tests of ringsail-proxy on real sockets; see `tests/`. There is nothing to import here.
//!
//! Every test runs on each I/O engine the machine allows.
