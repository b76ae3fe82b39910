//! Path normalisation: makes one path out of its many spellings, before anything matches on it.
//!
//! Authorization policies and routes match on the normal form and the upstream gets it, so a
//! disagreement with Envoy here would be a way around a policy.

mod canonical;
mod slashes;
#[cfg(test)]
mod tests;

pub use canonical::canonicalize;
pub use slashes::{merge, unescape};

/// What to do with `%2F`, `%2f`, `%5C` and `%5c` in the path.
/// Source: Envoy `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// Leave them.
    #[default]
    Keep,
    /// Refuse the request.
    Reject,
    /// Unescape and answer with a redirect to the new path.
    Redirect,
    /// Unescape and go on.
    Forward,
}

/// What to do with a `#fragment` in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fragment {
    /// Refuse the request (Envoy's own default).
    #[default]
    Reject,
    /// Cut it off (Istio sets Envoy so).
    Strip,
}

/// The normalisation an HTTP connection manager asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Normalization {
    /// Resolve dot segments, decode unreserved bytes, encode what may not stand in a path.
    /// Source: Envoy `normalize_path`.
    pub normalize: bool,
    /// Source: Envoy `merge_slashes`.
    pub merge_slashes: bool,
    /// Source: Envoy `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
    /// Treatment of fragments.
    pub fragment: Fragment,
}

/// What to do with the request after normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The path was in normal form; `out` was not written.
    Unchanged,
    /// `out` holds the path to use.
    Changed,
    /// `out` holds the path to redirect to (307, `location`).
    Redirect,
    /// Answer 400 with details `path_normalization_failed`. `out` holds the path as far as it got.
    Rejected,
}

impl Normalization {
    /// Normalises `path` (path and query; the query is never changed) into `out`, which is cleared
    /// first. Allocates only for paths with escaped slashes that are to be unescaped.
    ///
    /// The order is Envoy's: fragment, escaped slashes, normal form, merged slashes.
    pub fn apply(&self, path: &[u8], out: &mut Vec<u8>) -> Outcome {
        out.clear();
        if self.leaves_alone(path) {
            return Outcome::Unchanged;
        }
        let mut rest = path;
        if let Some(at) = memchr::memchr(b'#', path) {
            match self.fragment {
                Fragment::Reject => {
                    out.extend_from_slice(path);
                    return Outcome::Rejected;
                }
                Fragment::Strip => rest = path.get(..at).unwrap_or(path),
            }
        }
        let mut unescaped = Vec::new();
        let mut redirect = false;
        if self.escaped_slashes != EscapedSlashes::Keep && slashes::unescape(rest, &mut unescaped) {
            match self.escaped_slashes {
                EscapedSlashes::Keep => {}
                EscapedSlashes::Reject => {
                    *out = unescaped;
                    return Outcome::Rejected;
                }
                EscapedSlashes::Redirect => redirect = true,
                EscapedSlashes::Forward => {}
            }
            rest = &unescaped;
        }
        if self.normalize {
            if !canonical::canonicalize(rest, out) {
                out.clear();
                out.extend_from_slice(rest);
                return Outcome::Rejected;
            }
        } else {
            out.extend_from_slice(rest);
        }
        if self.merge_slashes {
            slashes::merge(out);
        }
        match (redirect, out.as_slice() == path) {
            (true, _) => Outcome::Redirect,
            (false, true) => Outcome::Unchanged,
            (false, false) => Outcome::Changed,
        }
    }

    /// One look at each byte of the path decides that most paths need no work.
    fn leaves_alone(&self, path: &[u8]) -> bool {
        let mut previous = 0;
        let mut rest = path.iter();
        for &byte in rest.by_ref() {
            let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Special);
            match class {
                Class::Plain => {}
                Class::QueryStart => break,
                Class::Special => return false,
                Class::Escape if self.normalize => return false,
                Class::Dot if previous == b'/' => return false,
                Class::Slash if previous == b'/' && self.merge_slashes => return false,
                Class::Escape | Class::Dot | Class::Slash => {}
            }
            previous = byte;
        }
        path.first() == Some(&b'/') && memchr::memchr(b'#', rest.as_slice()).is_none()
    }
}

/// What a byte of a path may ask for.
#[derive(Clone, Copy)]
enum Class {
    /// Nothing.
    Plain,
    Slash,
    Dot,
    QueryStart,
    /// Is escaped in the normal form.
    Escape,
    /// A percent sign, a backslash or a fragment: needs a closer look.
    Special,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Plain; 256];
    let mut byte = 0;
    while byte < 256 {
        // In a const initialiser an index out of bounds is an error of the build.
        #[allow(clippy::indexing_slicing)]
        {
            classes[byte] = match byte as u8 {
                b'/' => Class::Slash,
                b'.' => Class::Dot,
                b'?' => Class::QueryStart,
                b'%' | b'\\' | b'#' => Class::Special,
                other if canonical::must_escape(other) => Class::Escape,
                _ => Class::Plain,
            };
        }
        byte += 1;
    }
    classes
};

/// Path without query and fragment.
pub fn without_query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|b| matches!(b, b'?' | b'#')).unwrap_or(path.len());
    path.get(..end).unwrap_or(path)
}

/// Path and, when there is one, the query with its question mark.
pub(crate) fn split_query(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(memchr::memchr(b'?', path).unwrap_or(path.len()))
}
