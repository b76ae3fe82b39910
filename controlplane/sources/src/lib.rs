//! Where objects come from: a folder of YAML files, watched.
//!
//! A source turns what it sees into [`Batch`]es of [`Change`]s for the model. It decides nothing about an
//! object's meaning: `ringsail-api` accepts or refuses each one, the source only remembers what was
//! accepted last.
//!
//! Where to start: [`FolderSource`], then `catalog.rs` (what the files hold → what serves), then `scan.rs`
//! (which files there are).
//!
//! Invariants:
//! - A refused object keeps serving in its last good version, and a file that cannot be read keeps all
//!   its objects. Only a file that reads well and lacks an object, or a deleted file, deletes one.
//! - One save is one batch: a file with ten changed objects makes one snapshot.
//! - What is wrong stays in [`Batch::diagnostics`] for as long as it is wrong.

mod catalog;
mod folder;
pub mod limits;
mod scan;

use std::sync::Arc;

use ringsail_api::Diagnostic;
pub use ringsail_model::Change;

pub use folder::{FolderSource, OpenError};

/// What a source saw at one moment.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What changed since the batch before. The first batch puts everything there is, so that a receiver
    /// is in step with the source once it has applied it.
    pub changes: Vec<Change>,
    /// Everything that is wrong as of this batch, by file and line.
    pub diagnostics: Arc<[Diagnostic]>,
}
