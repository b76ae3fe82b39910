//! Durations and times as they are written in JSON and YAML.

/// Nanoseconds of a duration string.
///
/// Compat: Istio reads durations with Go's `time.ParseDuration` behind its JSON decoder, so `100ms` and
/// `1h30m` are legal beside proto3's `1.5s`.
///
/// # Errors
/// A phrase that says what is wrong.
pub fn parse_duration(text: &str) -> Result<i128, &'static str> {
    const MALFORMED: &str = "not a duration";
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(MALFORMED);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|found: char| !found.is_ascii_digit()).ok_or("a duration without a unit")?;
        let (whole, after) = rest.split_at(digits);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(tail) => {
                tail.split_at(tail.find(|found: char| !found.is_ascii_digit()).unwrap_or(tail.len()))
            }
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(MALFORMED);
        }
        let unit_len =
            after.find(|found: char| found.is_ascii_digit() || found == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let unit_nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3_600 * 1_000_000_000,
            "" => return Err("a duration without a unit"),
            _ => return Err("a duration with an unknown unit"),
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| MALFORMED)? };
        let mut nanos = whole.checked_mul(unit_nanos).ok_or("a duration out of range")?;
        let mut scale = unit_nanos;
        for digit in fraction.bytes() {
            scale /= 10;
            nanos += i128::from(digit - b'0') * scale;
        }
        total = total.checked_add(nanos).ok_or("a duration out of range")?;
        rest = after;
    }
    // Source: google/protobuf/duration.proto, ±10 000 years.
    if total > 315_576_000_000 * 1_000_000_000 {
        return Err("a duration out of range");
    }
    Ok(if negative { -total } else { total })
}

/// Seconds and nanoseconds since 1970 of an RFC 3339 time.
pub(crate) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let digits = |from: usize, len: usize| -> Option<i64> {
        let part = text.get(from..from + len)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
    let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
    let bytes = text.as_bytes();
    let separated = bytes[4] == b'-'
        && bytes[7] == b'-'
        && matches!(bytes[10], b'T' | b't')
        && bytes[13] == b':'
        && bytes[16] == b':';
    if !separated || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &text[19..];
    let mut nanos = 0i32;
    if let Some(fraction) = rest.strip_prefix('.') {
        let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if len == 0 || len > 9 {
            return None;
        }
        let value: i32 = fraction[..len].parse().ok()?;
        nanos = value * 10i32.pow(9 - u32::try_from(len).ok()?);
        rest = &fraction[len..];
    }
    let offset_seconds = match rest.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let hours: i64 = rest.get(1..3)?.parse().ok()?;
            let minutes: i64 = rest.get(4..6)?.parse().ok()?;
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset_seconds, nanos))
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March here, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("3s", 3_000_000_000),
            ("1.5s", 1_500_000_000),
            ("100ms", 100_000_000),
            ("1h30m", 5_400_000_000_000),
            ("0", 0),
            ("-2s", -2_000_000_000),
            (".5s", 500_000_000),
            ("0.000000001s", 1),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn a_duration_without_unit_or_with_junk_is_refused() {
        for text in ["", "5", "s", "1.s.", "5 s", "5d", "1h5", "1e3s", "-"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_with_offsets_and_fractions() {
        assert_eq!(parse_timestamp("1970-01-01T00:00:00Z"), Some((0, 0)));
        assert_eq!(parse_timestamp("2024-02-29T12:30:45.5+02:00"), Some((1_709_202_645, 500_000_000)));
        for text in ["2024-02-29", "2024-13-01T00:00:00Z", "2024-02-29T12:30:45", "é024-02-29T12:30:45Z"] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }
}
