//! Results by input, forgotten when no recent snapshot asked for them.

use std::collections::HashMap;
use std::hash::Hash;

/// Remembers results of the last two generations: what the current one uses is kept, what neither used is dropped, so
/// that memory follows the mesh and nothing has to be invalidated.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    current: HashMap<K, V>,
    previous: HashMap<K, V>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Cache { current: HashMap::new(), previous: HashMap::new() }
    }
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    /// Begins a generation.
    pub(crate) fn advance(&mut self) {
        self.previous = std::mem::take(&mut self.current);
    }

    /// The result for an input, computed at most once per two generations.
    pub(crate) fn get_or_insert_with(&mut self, key: K, compute: impl FnOnce(&K) -> V) -> V {
        if let Some(value) = self.current.get(&key) {
            return value.clone();
        }
        let (key, value) = match self.previous.remove_entry(&key) {
            Some(found) => found,
            None => {
                let value = compute(&key);
                (key, value)
            }
        };
        self.current.insert(key, value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_dropped_after_two_generations_without_use() {
        let mut cache: Cache<u32, u32> = Cache::default();
        let mut computed = 0;
        let mut get = |cache: &mut Cache<u32, u32>| {
            cache.get_or_insert_with(1, |_| {
                computed += 1;
                computed
            })
        };
        assert_eq!(get(&mut cache), 1);
        cache.advance();
        assert_eq!(get(&mut cache), 1);
        cache.advance();
        cache.advance();
        assert_eq!(get(&mut cache), 2);
    }
}
