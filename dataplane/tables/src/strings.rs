//! Interned, immutable strings.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use hashbrown::HashSet;

/// An immutable string shared by everything that names the same thing.
///
/// Reading is free; cloning is an atomic increment and therefore belongs to the compiler, not to a request.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Str(Arc<str>);

impl Str {
    /// A string that is not interned; for tests and single uses.
    pub fn new(text: &str) -> Str {
        Str(Arc::from(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Str {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Default for Str {
    fn default() -> Str {
        Str(Arc::from(""))
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

/// The compiler's set of strings in use.
#[derive(Default)]
pub(crate) struct Interner {
    set: HashSet<Str>,
    /// Size at which unused strings are looked for again: twice what the last sweep kept.
    sweep_at: usize,
}

impl Interner {
    pub(crate) fn intern(&mut self, text: &str) -> Str {
        if let Some(found) = self.set.get(text) {
            return found.clone();
        }
        let new = Str::new(text);
        self.set.insert(new.clone());
        new
    }

    /// Forgets strings that nothing else holds. Amortised: runs only after the set has doubled.
    pub(crate) fn sweep(&mut self) {
        if self.set.len() < self.sweep_at.max(SWEEP_FROM) {
            return;
        }
        self.set.retain(|s| Arc::strong_count(&s.0) > 1);
        self.set.shrink_to_fit();
        self.sweep_at = self.set.len() * 2;
    }
}

/// Below this many strings a sweep is not worth its time.
const SWEEP_FROM: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_one_allocation() {
        let mut strings = Interner::default();
        let (a, b) = (strings.intern("reviews"), strings.intern("reviews"));
        assert!(Arc::ptr_eq(&a.0, &b.0));
    }

    #[test]
    fn a_sweep_forgets_what_nobody_holds() {
        let mut strings = Interner::default();
        let kept = strings.intern("kept");
        for i in 0..SWEEP_FROM {
            strings.intern(&i.to_string());
        }
        strings.sweep();
        assert_eq!(strings.set.len(), 1);
        assert_eq!(kept, "kept");
    }
}
