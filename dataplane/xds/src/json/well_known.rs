//! The text forms of protobuf's well-known types.

/// Longest duration protobuf's JSON allows, in seconds: 10,000 years. Source: `google/protobuf/duration.proto`.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

/// Whether messages of this type are no JSON objects, so that an `Any` holds them under `value`.
pub(super) fn has_own_form(full_name: &str) -> bool {
    matches!(
        full_name,
        "google.protobuf.Any"
            | "google.protobuf.Duration"
            | "google.protobuf.Timestamp"
            | "google.protobuf.Struct"
            | "google.protobuf.Value"
            | "google.protobuf.ListValue"
    ) || is_wrapper(full_name)
}

pub(super) fn is_wrapper(full_name: &str) -> bool {
    matches!(
        full_name,
        "google.protobuf.DoubleValue"
            | "google.protobuf.FloatValue"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.Int32Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.BoolValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue"
    )
}

/// `3s`, `0.250s`: seconds with no, three, six or nine digits of fraction.
pub(super) fn duration_text(seconds: i64, nanos: i32) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    format!("{sign}{}{}s", seconds.unsigned_abs(), fraction(nanos.unsigned_abs()))
}

/// `2026-11-20T12:00:00Z`, with a fraction of three, six or nine digits when there is one.
pub(super) fn timestamp_text(seconds: i64, nanos: i32) -> String {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{}Z",
        time / 3600,
        time / 60 % 60,
        time % 60,
        fraction(nanos.unsigned_abs())
    )
}

fn fraction(nanos: u32) -> String {
    if nanos == 0 {
        String::new()
    } else if nanos.is_multiple_of(1_000_000) {
        format!(".{:03}", nanos / 1_000_000)
    } else if nanos.is_multiple_of(1_000) {
        format!(".{:06}", nanos / 1_000)
    } else {
        format!(".{nanos:09}")
    }
}

/// Seconds and nanoseconds of `1.5s`; both carry the sign.
pub(super) fn duration_from_text(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    if seconds > DURATION_SECONDS_MAX {
        return None;
    }
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

/// Seconds since 1970 and nanoseconds of an RFC 3339 time.
pub(super) fn timestamp_from_text(text: &str) -> Option<(i64, i32)> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let (clock, offset_seconds) = split_offset(rest)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let in_range = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    let days = days_from_civil(year, month, day);
    Some((days * 86_400 + hour * 3600 + minute * 60 + second - offset_seconds, nanos))
}

fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = text.rfind(['+', '-'])?;
    let [hours, minutes] = numbers(&text[at + 1..], ':')?;
    let seconds = hours * 3600 + minutes * 60;
    Some((&text[..at], if text[at..].starts_with('-') { -seconds } else { seconds }))
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for slot in &mut found {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 4 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// Days since 1970-01-01 of a date in the Gregorian calendar. Years are counted from March, so that the leap day is
/// the last of its year; an era is 400 years.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_with_groups_of_three_digits() {
        for (seconds, nanos, text) in
            [(3, 0, "3s"), (0, 250_000_000, "0.250s"), (0, 1_000, "0.000001s"), (1, 1, "1.000000001s")]
        {
            assert_eq!(duration_text(seconds, nanos), text);
            assert_eq!(duration_from_text(text), Some((seconds, nanos)));
        }
        assert_eq!(duration_text(-1, -500_000_000), "-1.500s");
        assert_eq!(duration_from_text("-1.5s"), Some((-1, -500_000_000)));
    }

    #[test]
    fn durations_need_their_unit_and_digits() {
        for text in ["", "s", "3", "3m", "1.s5", "1.1234567891s", "315576000001s", "+1s", "1 s"] {
            assert_eq!(duration_from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn timestamps_survive_a_round_trip() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_795_176_000, 123_000_000, "2026-11-20T12:00:00.123Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp_text(seconds, nanos), text);
            assert_eq!(timestamp_from_text(text), Some((seconds, nanos)));
        }
        assert_eq!(timestamp_from_text("1970-01-01T02:00:00+02:00"), Some((0, 0)));
        assert_eq!(timestamp_from_text("1970-01-01"), None);
        assert_eq!(timestamp_from_text("1970-13-01T00:00:00Z"), None);
    }
}
