//! What a corpus runner found.

use std::fmt;

/// The outcome of one corpus.
#[derive(Debug, Default)]
pub struct Report {
    /// Corpus name, as in `cargo xtask corpora NAME`.
    pub name: &'static str,
    /// Cases whose verdict is the corpus' own.
    pub agree: usize,
    /// Cases run.
    pub total: usize,
    /// Cases the corpus refuses and we accept; a subset of the disagreements.
    pub unsafe_accepts: usize,
    /// Every case that does not agree.
    pub disagreements: Vec<Disagreement>,
}

/// One case where the verdicts differ.
#[derive(Debug)]
pub struct Disagreement {
    /// The case's id in the corpus.
    pub id: String,
    /// Our verdict.
    pub ours: String,
    /// The corpus' verdict.
    pub expected: String,
}

impl Report {
    /// An empty report.
    pub fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// Counts a case that agrees.
    pub fn agreed(&mut self) {
        self.total += 1;
        self.agree += 1;
    }

    /// Counts a case that does not agree.
    pub fn disagreed(&mut self, id: impl Into<String>, ours: impl Into<String>, expected: impl Into<String>) {
        self.total += 1;
        self.disagreements.push(Disagreement { id: id.into(), ours: ours.into(), expected: expected.into() });
    }

    /// Counts a case the corpus refuses and we accepted.
    pub fn unsafe_accept(
        &mut self,
        id: impl Into<String>,
        ours: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.unsafe_accepts += 1;
        self.disagreed(id, ours, expected);
    }
}

impl fmt::Display for Report {
    /// One block per disagreement, then `NAME: agree X of N, unsafe Y`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for d in &self.disagreements {
            writeln!(f, "{}\n    ours:     {}\n    expected: {}", d.id, d.ours, d.expected)?;
        }
        write!(f, "{}: agree {} of {}, unsafe {}", self.name, self.agree, self.total, self.unsafe_accepts)
    }
}
