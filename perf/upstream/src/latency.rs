//! How long an answer is held back: a fixed time or a draw from a distribution.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits::DELAY_MAX;

/// A distribution of delays, written `50ms`, `normal(50ms,10ms)` or `exponential(20ms)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Latency {
    /// Always the same delay.
    Fixed(Duration),
    /// Normal with a mean and a standard deviation; negative draws become zero.
    Normal { mean: Duration, deviation: Duration },
    /// Exponential with a mean.
    Exponential { mean: Duration },
}

impl Latency {
    /// One delay, at most [`DELAY_MAX`].
    pub fn draw(self) -> Duration {
        let seconds = match self {
            Self::Fixed(delay) => return delay,
            Self::Normal { mean, deviation } => {
                mean.as_secs_f64() + deviation.as_secs_f64() * standard_normal()
            }
            Self::Exponential { mean } => -mean.as_secs_f64() * (1.0 - fastrand::f64()).ln(),
        };
        Duration::from_secs_f64(seconds.clamp(0.0, DELAY_MAX.as_secs_f64()))
    }
}

/// Box–Muller; the second value of each pair is not kept, a delay costs more than a logarithm.
fn standard_normal() -> f64 {
    let radius = (-2.0 * (1.0 - fastrand::f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * fastrand::f64()).cos()
}

/// Why a delay was not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLatency(String);

impl fmt::Display for BadLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no delay; write 50ms, 1.5s, normal(50ms,10ms) or exponential(20ms), at most {} s",
            self.0,
            DELAY_MAX.as_secs()
        )
    }
}

impl std::error::Error for BadLatency {}

impl FromStr for Latency {
    type Err = BadLatency;

    fn from_str(text: &str) -> Result<Self, BadLatency> {
        parse(text).ok_or_else(|| BadLatency(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Latency> {
    match text.split_once('(') {
        None => Some(Latency::Fixed(parse_duration(text)?)),
        Some((name, rest)) => {
            let arguments = rest.strip_suffix(')')?;
            match name {
                "normal" => {
                    let (mean, deviation) = arguments.split_once(',')?;
                    Some(Latency::Normal {
                        mean: parse_duration(mean.trim())?,
                        deviation: parse_duration(deviation.trim())?,
                    })
                }
                "exponential" => Some(Latency::Exponential { mean: parse_duration(arguments.trim())? }),
                _ => None,
            }
        }
    }
}

/// A number with the unit `us`, `ms`, `s` or `m`; a bare `0` needs no unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "" if number == 0.0 => 0.0,
        _ => return None,
    };
    let delay = Duration::try_from_secs_f64(seconds).ok()?;
    (delay <= DELAY_MAX).then_some(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_forms_are_understood() {
        assert_eq!("3s".parse(), Ok(Latency::Fixed(Duration::from_secs(3))));
        assert_eq!("0".parse(), Ok(Latency::Fixed(Duration::ZERO)));
        assert_eq!(
            "normal(50ms, 10ms)".parse(),
            Ok(Latency::Normal { mean: Duration::from_millis(50), deviation: Duration::from_millis(10) })
        );
        assert_eq!(
            "exponential(1.5ms)".parse(),
            Ok(Latency::Exponential { mean: Duration::from_micros(1500) })
        );
    }

    #[test]
    fn anything_else_is_refused_with_examples() {
        for text in ["", "3", "s", "-1s", "5h", "normal(1s)", "exponential(1s", "uniform(1s)", "301s", "1e9s"]
        {
            let error = text.parse::<Latency>().expect_err(text).to_string();
            assert!(error.contains("normal(50ms,10ms)"), "{error}");
        }
    }

    #[test]
    fn draws_have_the_asked_mean() {
        fastrand::seed(7);
        for text in ["normal(50ms,5ms)", "exponential(50ms)"] {
            let latency: Latency = text.parse().expect("a valid form");
            let mean = (0..20_000).map(|_| latency.draw().as_secs_f64()).sum::<f64>() / 20_000.0;
            assert!((mean - 0.05).abs() < 0.002, "{text}: {mean}");
        }
    }
}
