//! Inputs that are almost right: mutations of seeds, all drawn from one number.

/// Makes inputs out of seeds and of words that mean something to the target.
pub struct Mutator<'a> {
    random: fastrand::Rng,
    seeds: &'a [&'a [u8]],
    words: &'a [&'a [u8]],
}

/// Longest input made, in bytes: a few times what the largest limit under test needs to be passed.
const INPUT_BYTES_MAX: usize = 256 * 1024;

impl<'a> Mutator<'a> {
    /// The same `seed` makes the same inputs.
    pub fn new(seed: u64, seeds: &'a [&'a [u8]], words: &'a [&'a [u8]]) -> Mutator<'a> {
        Mutator { random: fastrand::Rng::with_seed(seed), seeds, words }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..self.random.usize(0..6) {
            self.change(&mut input);
            input.truncate(INPUT_BYTES_MAX);
        }
        input
    }

    fn seed(&mut self) -> &'a [u8] {
        self.seeds.get(self.random.usize(..self.seeds.len().max(1))).copied().unwrap_or_default()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.usize(..=input.len());
        let end = (at + self.random.usize(..32)).min(input.len());
        match self.random.u8(..10) {
            0 if at < input.len() => input[at] ^= 1 << self.random.u8(..8),
            1 if at < input.len() => input[at] = self.random.u8(..),
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].to_vec();
                for _ in 0..1 << self.random.u8(..8) {
                    insert(input, at, &piece);
                }
            }
            5 => {
                let other = self.seed();
                let from = self.random.usize(..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => {
                // A number becomes another: lengths and counts are where decoders go wrong.
                if let Some(digit) = input.iter().skip(at).position(u8::is_ascii_digit) {
                    let digits = input[at + digit..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let number = match self.random.u8(..4) {
                        0 => "0".to_string(),
                        1 => u64::MAX.to_string(),
                        2 => "99999999999999999999999".to_string(),
                        _ => self.random.u32(..70_000).to_string(),
                    };
                    input.splice(at + digit..at + digit + digits, number.bytes());
                }
            }
            _ => {
                if let Some(word) = self.words.get(self.random.usize(..self.words.len().max(1))) {
                    insert(input, at, word);
                }
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if input.len() < INPUT_BYTES_MAX {
        input.splice(at..at, piece.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_the_same_inputs_twice() {
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, &[b"abc 12", b"def"], &[b"word"]);
            (0..50).map(|_| mutator.next_input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }
}
