//! Collects what is wrong with one object, with the path to the value at hand.

use prost_reflect::MessageDescriptor;

use crate::decode::tree::Position;
use crate::diagnostic::Severity;
use crate::limits::ERRORS_PER_OBJECT_MAX;
use crate::path::{FieldPath, Segment};

/// One finding, before the file and the object are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    pub(crate) at: Position,
    pub(crate) path: FieldPath,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

/// The findings of one object and the path of the value that is being read.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) path: FieldPath,
    /// The messages around the value at hand, outermost first.
    pub(crate) around: Vec<MessageDescriptor>,
    found: Vec<Problem>,
    left_out_count: usize,
}

impl Problems {
    /// Reads the value at one step deeper.
    pub(crate) fn within<T>(&mut self, segment: Segment, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(segment);
        let result = read(self);
        self.path.pop();
        result
    }

    /// Reports an error at the current path.
    pub(crate) fn error(&mut self, at: Position, message: impl Into<String>, fix: Option<String>) {
        self.push(Severity::Error, at, message.into(), fix);
    }

    /// Reports a warning at the current path.
    pub(crate) fn warning(&mut self, at: Position, message: impl Into<String>, fix: Option<String>) {
        self.push(Severity::Warning, at, message.into(), fix);
    }

    fn push(&mut self, severity: Severity, at: Position, message: String, fix: Option<String>) {
        if self.found.len() >= ERRORS_PER_OBJECT_MAX {
            self.left_out_count += 1;
            return;
        }
        self.found.push(Problem { severity, at, path: self.path.clone(), message, fix });
    }

    /// True when something makes the object refused.
    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// What was found, in order; a last line counts what was left out.
    pub(crate) fn into_found(mut self) -> Vec<Problem> {
        if self.left_out_count > 0
            && let Some(last) = self.found.last().cloned()
        {
            let message = format!("{} more errors in this object", self.left_out_count);
            self.found.push(Problem { path: FieldPath::default(), message, fix: None, ..last });
        }
        self.found
    }
}
