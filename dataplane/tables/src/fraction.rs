//! Fractions of requests, decided by a random number that the caller passes in.

/// A share of requests: the numerator and denominator of `envoy.type.v3.FractionalPercent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fraction {
    /// How many of `denominator` requests are chosen.
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

impl Fraction {
    /// Every request.
    pub const ALL: Fraction = Fraction { numerator: 100, denominator: 100 };

    /// Whether the request with this random number is chosen: `random % denominator < numerator`, as Envoy decides.
    pub fn chooses(&self, random: u64) -> bool {
        random % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_chooses_nothing_and_full_chooses_everything() {
        let none = Fraction { numerator: 0, denominator: 100 };
        for random in [0, 1, 99, 100, u64::MAX] {
            assert!(!none.chooses(random));
            assert!(Fraction::ALL.chooses(random));
        }
    }

    #[test]
    fn half_a_percent_needs_the_larger_denominator() {
        let half = Fraction { numerator: 50, denominator: 10_000 };
        let chosen = (0..10_000).filter(|random| half.chooses(*random)).count();
        assert_eq!(chosen, 50);
    }
}
