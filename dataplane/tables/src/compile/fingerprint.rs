//! Recognising a resource that comes again unchanged, without keeping its bytes.

use std::hash::{DefaultHasher, Hasher};

/// 128 bits that stand for the bytes of an accepted resource. Two versions of one resource agree by chance once in
/// 2^128 updates, which is less often than memory fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fingerprint(pub(super) [u64; 2]);

impl Fingerprint {
    /// Of a resource that was never delivered.
    pub(super) const NONE: Fingerprint = Fingerprint([0, 0]);

    pub(super) fn of(resource: &[u8]) -> Fingerprint {
        Fingerprint([0_u8, 1].map(|salt| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(salt);
            hasher.write(resource);
            hasher.finish()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_and_only_they_have_equal_fingerprints() {
        assert_eq!(Fingerprint::of(b"abc"), Fingerprint::of(b"abc"));
        assert_ne!(Fingerprint::of(b"abc"), Fingerprint::of(b"abd"));
        assert_ne!(Fingerprint::of(b""), Fingerprint::NONE);
    }
}
