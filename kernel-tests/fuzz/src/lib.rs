//! Every entry point that reads bytes somebody else wrote, as a function from bytes to nothing that must not panic.
//!
//! Two drivers call the [`targets`]: `cargo fuzz` (in `libfuzzer/`, which needs a nightly compiler), and the test
//! `tests/short_run.rs`, which feeds each target for a bounded number of rounds with what [`mutate::Mutator`] makes of
//! its seeds. The targets check more than the absence of panics: a decoder's verdict may not depend on where its input
//! is cut, may not take more than it was given, and what it accepts it must accept again.

pub mod mutate;
pub mod targets;
