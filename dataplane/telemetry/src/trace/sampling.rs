//! Whether a request is traced: the request id decides, so that every proxy on its way decides the same.
//!
//! Source: Envoy's `ConnectionManagerUtility::mutateTracingRequestHeader` and `UUIDRequestIDExtension`.

/// Why a request is traced, or that it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// It is not.
    #[default]
    NotTraceable,
    /// By chance.
    Sampling,
    /// `x-envoy-force-trace`.
    ServiceForced,
    /// `x-client-trace-id`.
    ClientForced,
}

/// Shares of requests, in ten thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Whether this request is among the share that may ask for it with `x-client-trace-id`.
    pub client: bool,
    /// Whether its number is in the share of all requests.
    pub random: bool,
    /// Whether its number is in the share of those that are chosen.
    pub overall: bool,
}

/// Length of a UUID in text form.
const UUID_LEN: usize = 36;
/// Place of the character that says why: the version of the UUID, otherwise always `4`.
const REASON_AT: usize = 14;

/// The decision, given what the id says already, what headers ask for, and which shares the request is in.
pub fn decide(told: Reason, client_asks: bool, service_asks: bool, shares: Shares) -> Reason {
    let reason = match told {
        Reason::NotTraceable if client_asks && shares.client => Reason::ClientForced,
        Reason::NotTraceable if service_asks => Reason::ServiceForced,
        Reason::NotTraceable if shares.random => Reason::Sampling,
        told => told,
    };
    if shares.overall { reason } else { Reason::NotTraceable }
}

/// What a request id says.
pub fn reason_of(request_id: &[u8]) -> Reason {
    if request_id.len() != UUID_LEN {
        return Reason::NotTraceable;
    }
    match request_id.get(REASON_AT) {
        Some(b'9') => Reason::Sampling,
        Some(b'a') => Reason::ServiceForced,
        Some(b'b') => Reason::ClientForced,
        _ => Reason::NotTraceable,
    }
}

/// Makes a request id say it. False, and nothing done, when it is no UUID.
pub fn set_reason(request_id: &mut [u8], reason: Reason) -> bool {
    if request_id.len() != UUID_LEN {
        return false;
    }
    let Some(place) = request_id.get_mut(REASON_AT) else { return false };
    *place = match reason {
        Reason::NotTraceable => b'4',
        Reason::Sampling => b'9',
        Reason::ServiceForced => b'a',
        Reason::ClientForced => b'b',
    };
    true
}

/// The number by which a request falls into a share: the same in every process it passes. `None` when the id is no
/// number, and the request then not traced.
pub fn request_number(request_id: &[u8]) -> Option<u64> {
    let digits = request_id.get(..8)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Shares = Shares { client: true, random: true, overall: true };

    #[test]
    fn an_id_that_says_so_outweighs_everything_but_the_overall_share() {
        let none = Shares { client: false, random: false, overall: true };
        assert_eq!(decide(Reason::ClientForced, false, false, none), Reason::ClientForced);
        assert_eq!(
            decide(Reason::ClientForced, false, false, Shares { overall: false, ..none }),
            Reason::NotTraceable
        );
    }

    #[test]
    fn the_client_goes_before_the_service_and_chance() {
        assert_eq!(decide(Reason::NotTraceable, true, true, ALL), Reason::ClientForced);
        let shares = Shares { client: false, ..ALL };
        assert_eq!(decide(Reason::NotTraceable, true, true, shares), Reason::ServiceForced);
        assert_eq!(decide(Reason::NotTraceable, true, false, shares), Reason::Sampling);
        let shares = Shares { random: false, ..shares };
        assert_eq!(decide(Reason::NotTraceable, true, false, shares), Reason::NotTraceable);
    }

    #[test]
    fn only_a_uuid_carries_a_reason() {
        let mut id = *b"12345678-1234-4234-1234-123456789012";
        for reason in [Reason::Sampling, Reason::ServiceForced, Reason::ClientForced, Reason::NotTraceable] {
            assert!(set_reason(&mut id, reason));
            assert_eq!(reason_of(&id), reason);
        }
        let mut other = *b"not-a-uuid";
        assert!(!set_reason(&mut other, Reason::Sampling));
        assert_eq!((reason_of(&other), request_number(&other)), (Reason::NotTraceable, None));
        assert_eq!(request_number(&id), Some(0x1234_5678));
    }
}
