//! First matching route among many, without trying each.

use hashbrown::HashTable;

use super::{PathMatch, Route};
use crate::strings::Str;

/// Routes of one virtual host by their path conditions. Answers the same as trying the routes in order.
///
/// Exact and case-sensitive prefix conditions are found by hash: one pass over the path yields the hash of every
/// prefix length in use. What cannot be hashed (regular expressions, folded case, CONNECT) is tried in order, as far
/// as it precedes the best hashed hit.
#[derive(Debug)]
pub(crate) struct PathIndex {
    exact: HashTable<Group>,
    prefix: HashTable<Group>,
    /// The prefix lengths that occur, ascending.
    prefix_lens: Box<[u32]>,
    /// Routes outside the tables, ascending.
    others: Box<[u32]>,
}

/// Routes with the same text in their path condition.
#[derive(Debug)]
struct Group {
    text: Str,
    /// Indexes into the virtual host's routes, ascending.
    routes: Vec<u32>,
}

impl PathIndex {
    /// The index over `routes`.
    pub(crate) fn new(routes: &[Route]) -> PathIndex {
        let mut index = PathIndex {
            exact: HashTable::new(),
            prefix: HashTable::new(),
            prefix_lens: Box::default(),
            others: Box::default(),
        };
        let (mut lens, mut others) = (Vec::new(), Vec::new());
        for (at, route) in (0..).zip(routes) {
            match &route.matcher.path {
                PathMatch::Exact { path, ignore_case: false } => push(&mut index.exact, path, at),
                // Whether the next byte is a slash is left to the route's own matcher.
                PathMatch::Prefix { prefix, ignore_case: false }
                | PathMatch::PathSeparatedPrefix { prefix, ignore_case: false } => {
                    push(&mut index.prefix, prefix, at);
                    lens.push(prefix.len() as u32);
                }
                PathMatch::Exact { .. }
                | PathMatch::Prefix { .. }
                | PathMatch::PathSeparatedPrefix { .. }
                | PathMatch::Regex(_)
                | PathMatch::Connect => others.push(at),
            }
        }
        lens.sort_unstable();
        lens.dedup();
        index.prefix_lens = lens.into();
        index.others = others.into();
        index
    }

    /// The lowest index for which `matches` holds.
    pub(crate) fn first_match(&self, path: &[u8], matches: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = u32::MAX;
        let mut consider = |routes: &[u32]| {
            let earlier = routes.iter().take_while(|at| **at < best);
            if let Some(at) = earlier.copied().find(|at| matches(*at)) {
                best = at;
            }
        };
        let mut hash = FNV_OFFSET;
        let mut lens = self.prefix_lens.iter().copied().peekable();
        for len in 0..=path.len() {
            if lens.next_if(|next| *next as usize == len).is_some()
                && let Some(group) = find(&self.prefix, fnv_finish(hash), &path[..len])
            {
                consider(&group.routes);
            }
            if let Some(byte) = path.get(len) {
                hash = fnv_step(hash, *byte);
            }
        }
        if let Some(group) = find(&self.exact, fnv_finish(hash), path) {
            consider(&group.routes);
        }
        consider(&self.others);
        (best != u32::MAX).then_some(best)
    }
}

fn push(table: &mut HashTable<Group>, text: &Str, route: u32) {
    let hash = |text: &Str| fnv_finish(text.bytes().fold(FNV_OFFSET, fnv_step));
    let entry = table.entry(hash(text), |group| group.text == *text, |group| hash(&group.text));
    entry.or_insert_with(|| Group { text: text.clone(), routes: Vec::new() }).into_mut().routes.push(route);
}

fn find<'a>(table: &'a HashTable<Group>, hash: u64, text: &[u8]) -> Option<&'a Group> {
    table.find(hash, |group| group.text.as_bytes() == text)
}

/// Start value of 64-bit FNV-1a.
pub(super) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// One byte of FNV-1a, which can be cut off at any length: what the prefix lookup needs.
pub(super) fn fnv_step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

/// Spreads the last bytes into the high bits, from which the hash table takes its tags.
pub(super) fn fnv_finish(hash: u64) -> u64 {
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
