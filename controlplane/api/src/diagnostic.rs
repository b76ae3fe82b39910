//! What is wrong with an object, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

use crate::object::ObjectKey;

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is wrong; something was left aside (a kind that is not read, for example).
    Note,
    /// The object is accepted, but probably does not do what its author meant.
    Warning,
    /// The object (or, without an object, the document) is refused.
    Error,
}

/// A place in a file. Lines and columns count from 1; columns are characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file's name as the source knows it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One finding about an object or a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// Istio's analyzer code (`IST0101`) where Istio has one for this finding.
    pub code: Option<&'static str>,
    /// Where the offending text stands.
    pub origin: Origin,
    /// The object concerned, once its kind and name are known.
    pub object: Option<ObjectKey>,
    /// The field concerned, such as `spec.http[0].timeout`; empty for the whole object.
    pub field_path: String,
    /// What is wrong, as a phrase without a full stop.
    pub message: String,
    /// What to write instead, where that can be said.
    pub fix: Option<String>,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// `FILE:LINE:COLUMN: error: KIND NAMESPACE/NAME: FIELD: MESSAGE`, and the fix on a line of its own:
/// editors and terminals make the place clickable.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.severity)?;
        if let Some(code) = self.code {
            write!(f, " [{code}]")?;
        }
        f.write_str(": ")?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field_path.is_empty() {
            write!(f, "{}: ", self.field_path)?;
        }
        f.write_str(&self.message)?;
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}
