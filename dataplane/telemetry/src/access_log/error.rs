//! Why a format was refused.

/// A format string that Envoy would refuse as well, with the place of the problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (byte {position} of the format)")]
pub struct FormatError {
    /// Offset of the operator in the format string.
    pub position: usize,
    /// What is wrong with it.
    pub problem: FormatProblem,
}

/// What is wrong with an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatProblem {
    /// A `%` that starts neither an operator nor `%%`.
    #[error("`%` starts no operator; write `%%` for a percent sign")]
    NoOperator,
    /// No such operator.
    #[error("unknown operator `{0}`")]
    Unknown(String),
    /// Envoy has the operator, we do not.
    #[error("operator `{0}` is not supported")]
    Unsupported(String),
    /// The operator needs a parameter in parentheses.
    #[error("operator `{0}` needs a parameter")]
    MissingParameter(String),
    /// The operator takes no parameter, or not this one.
    #[error("operator `{0}` does not take the parameter `{1}`")]
    BadParameter(String, String),
    /// The operator takes no `:N`.
    #[error("operator `{0}` cannot be cut to a length")]
    NoLength(String),
    /// The format is longer than its limit.
    #[error("format is too long")]
    TooLong,
    /// A JSON format is nested too deeply.
    #[error("JSON format is nested too deeply")]
    TooDeep,
}
