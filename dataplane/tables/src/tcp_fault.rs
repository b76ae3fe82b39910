//! Faults of relayed connections. Source: our own `ringsail.filters.network.fault.v1.TcpFault`.

use std::time::{Duration, SystemTime};

use crate::fraction::Fraction;

/// What may be done to a connection. Each fault is drawn by itself.
#[derive(Clone, PartialEq, Debug)]
pub struct TcpFault {
    /// A wait before the upstream is connected.
    pub connect_delay: Option<(Fraction, Duration)>,
    /// The client is reset before the upstream is connected.
    pub refuse: Option<Fraction>,
    /// Nothing is answered, and the upstream is never connected.
    pub blackhole: Option<Fraction>,
    /// Both sides are reset.
    pub reset: Option<(Fraction, ResetAt)>,
    /// Bytes per second in each direction, at least 1.
    pub bandwidth: Option<(Fraction, u64)>,
    /// The direction to the client ends after that many bytes.
    pub half_close: Option<(Fraction, u64)>,
    /// From here on nothing is drawn any more.
    pub expires_at: Option<SystemTime>,
}

/// When a connection is reset: whichever comes first. At least one is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResetAt {
    /// That many bytes went through in both directions together.
    pub bytes: Option<u64>,
    /// That time has passed since the upstream was connected.
    pub time: Option<Duration>,
}

/// The faults of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drawn {
    /// See [`TcpFault::connect_delay`].
    pub connect_delay: Option<Duration>,
    /// See [`TcpFault::refuse`].
    pub refuse: bool,
    /// See [`TcpFault::blackhole`].
    pub blackhole: bool,
    /// See [`TcpFault::reset`].
    pub reset: Option<ResetAt>,
    /// See [`TcpFault::bandwidth`].
    pub bytes_per_second: Option<u64>,
    /// See [`TcpFault::half_close`].
    pub half_close_after_bytes: Option<u64>,
}

impl TcpFault {
    /// Draws for one connection.
    pub fn draw(&self, now: SystemTime, mut random: impl FnMut() -> u64) -> Drawn {
        if self.expires_at.is_some_and(|end| now >= end) {
            return Drawn::default();
        }
        let mut drawn = |share: Option<Fraction>| share.is_some_and(|share| share.chooses(random()));
        let with =
            |fault: Option<(Fraction, Duration)>, drawn: bool| fault.filter(|_| drawn).map(|(_, it)| it);
        Drawn {
            connect_delay: with(self.connect_delay, drawn(self.connect_delay.map(|(share, _)| share))),
            refuse: drawn(self.refuse),
            blackhole: drawn(self.blackhole),
            reset: self.reset.filter(|(share, _)| drawn(Some(*share))).map(|(_, at)| at),
            bytes_per_second: self.bandwidth.filter(|(share, _)| drawn(Some(*share))).map(|(_, it)| it),
            half_close_after_bytes: self
                .half_close
                .filter(|(share, _)| drawn(Some(*share)))
                .map(|(_, it)| it),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(share: Fraction) -> TcpFault {
        TcpFault {
            connect_delay: Some((share, Duration::from_secs(1))),
            refuse: Some(share),
            blackhole: Some(share),
            reset: Some((share, ResetAt { bytes: Some(3), time: None })),
            bandwidth: Some((share, 100)),
            half_close: Some((share, 5)),
            expires_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(100)),
        }
    }

    #[test]
    fn each_fault_is_drawn_by_itself() {
        let half = fault(Fraction { numerator: 50, denominator: 100 });
        let mut draws = [0, 99, 0, 99, 0, 99].into_iter();
        let drawn = half.draw(SystemTime::UNIX_EPOCH, || draws.next().unwrap());
        assert_eq!(
            drawn,
            Drawn {
                connect_delay: Some(Duration::from_secs(1)),
                blackhole: true,
                bytes_per_second: Some(100),
                ..Drawn::default()
            }
        );
    }

    #[test]
    fn an_expired_fault_draws_nothing() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(fault(Fraction::ALL).draw(end, || 0), Drawn::default());
        assert!(fault(Fraction::ALL).draw(end - Duration::from_nanos(1), || 0).refuse);
    }
}
