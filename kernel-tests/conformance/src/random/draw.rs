//! Drawing from one number.

/// A generator with the questions that settings and traffic ask it.
pub struct Draw(fastrand::Rng);

impl Draw {
    /// The same `seed` draws the same.
    pub fn new(seed: u64) -> Draw {
        Draw(fastrand::Rng::with_seed(seed))
    }

    /// `true` in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.u32(..100) < percent
    }

    /// One of several.
    pub fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.0.usize(..of.len())]
    }

    /// A number of this range, both ends included.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        self.0.u32(low..=high)
    }

    /// So many of several, each at most once, in their order.
    pub fn some<'a, T: ?Sized>(&mut self, of: &[&'a T], count: usize) -> Vec<&'a T> {
        let mut indices: Vec<usize> = (0..of.len()).collect();
        self.0.shuffle(&mut indices);
        indices.truncate(count);
        indices.sort_unstable();
        indices.into_iter().map(|index| of[index]).collect()
    }
}
