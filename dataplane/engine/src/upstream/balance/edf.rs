//! Earliest deadline first: the weighted order in which members come round.
//!
//! A member of weight `w` is due again `1/w` after it was last picked, so over time each is picked in
//! proportion to its weight, and never twice in a row while an equal one waits.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A weighted rotation over small indices.
#[derive(Debug, Default)]
pub struct Edf {
    queue: BinaryHeap<Entry>,
    /// Virtual time: the deadline of the latest pick.
    now: f64,
    /// Breaks ties in the order of insertion, as Envoy's scheduler does.
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    deadline: f64,
    sequence: u64,
    index: u32,
}

impl Edf {
    /// Adds a member. Weights must be above zero; a member of weight zero is never due and not added.
    pub fn add(&mut self, index: u32, weight: f64) {
        if weight > 0.0 {
            self.sequence += 1;
            self.queue.push(Entry { deadline: self.now + 1.0 / weight, sequence: self.sequence, index });
        }
    }

    /// Takes the member that is due and queues it again with the weight it has at this moment.
    pub fn next(&mut self, weight: impl Fn(u32) -> f64) -> Option<u32> {
        let mut due = self.queue.peek_mut()?;
        let index = due.index;
        self.now = due.deadline;
        self.sequence += 1;
        // A weight that fell to zero keeps the member at the end of the line instead of losing it.
        due.deadline = self.now + 1.0 / weight(index).max(WEIGHT_MIN);
        due.sequence = self.sequence;
        Some(index)
    }
}

/// Smallest weight used in a division; far below `1 / (requests in flight + 1)` of any real host.
const WEIGHT_MIN: f64 = 1e-9;

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// Reversed: the heap's greatest entry is the one due first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.sequence.cmp(&self.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_round_in_proportion_to_their_weights() {
        let weights = [1.0, 2.0, 5.0];
        let mut edf = Edf::default();
        for (index, weight) in weights.iter().enumerate() {
            edf.add(index as u32, *weight);
        }
        let mut picks = [0; 3];
        for _ in 0..800 {
            picks[edf.next(|i| weights[i as usize]).unwrap() as usize] += 1;
        }
        assert_eq!(picks, [100, 200, 500]);
    }

    #[test]
    fn equal_weights_alternate_in_the_order_of_insertion() {
        let mut edf = Edf::default();
        (0..3).for_each(|i| edf.add(i, 1.0));
        let order: Vec<_> = (0..6).map(|_| edf.next(|_| 1.0).unwrap()).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn weight_zero_is_never_due() {
        let mut edf = Edf::default();
        edf.add(0, 0.0);
        assert_eq!(edf.next(|_| 1.0), None);
    }
}
