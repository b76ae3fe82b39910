//! Where ringsail-proxy answers otherwise than Envoy on purpose.

/// A case that is meant to differ.
pub struct Difference {
    /// The [`crate::case::Case`]'s id.
    pub case: &'static str,
    /// Why ours is the better answer.
    pub reason: &'static str,
}

/// Every intended difference; a case listed here that agrees again fails the test, so that none outlives its reason.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "chunked-answer",
        reason: "chunks are passed on as they come instead of being joined",
    },
    Difference {
        case: "obs-fold",
        reason: "a folded field is refused (RFC 9112 section 5.2): parsers disagree about where it ends",
    },
    Difference {
        case: "websocket-refused",
        reason: "an answer that refuses the upgrade is treated as any other: its own fields stay, hop-by-hop ones go",
    },
];

/// The reason why `case` may differ, if it may.
pub fn reason(case: &str) -> Option<&'static str> {
    DIFFERENCES.iter().find(|difference| difference.case == case).map(|difference| difference.reason)
}
