//! Time formats: `strftime` in UTC, with Envoy's fractions (`%3f`) and `absl`'s (`%E3S`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::digits::{push_number, push_padded};

/// A compiled time format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeFormat {
    items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Literal(String),
    Year,
    ShortYear,
    Month,
    MonthName {
        short: bool,
    },
    Day {
        padding: u8,
    },
    DayOfYear,
    Weekday {
        short: bool,
    },
    WeekdayNumber,
    Hour,
    Hour12,
    Minute,
    Second,
    AmPm,
    /// So many digits of the second's fraction.
    Fraction(u8),
    EpochSeconds,
    /// `+0000` or `+00:00`
    Offset {
        colon: bool,
    },
    ZoneName,
}

/// Envoy's default: `2026-08-01T12:00:00.123Z`.
pub(super) const DEFAULT: &str = "%Y-%m-%dT%H:%M:%E3SZ";

/// Appends a time in a format given per call, as `%START_TIME(…)%` in a header value has it; an empty format is the
/// default. A format that cannot be rendered appends nothing.
pub fn write_time(time: SystemTime, format: &str, out: &mut Vec<u8>) {
    let format = if format.is_empty() { DEFAULT } else { format };
    if let Some(format) = TimeFormat::parse(format) {
        format.write(time, out);
    }
}

impl TimeFormat {
    /// Compiles a format. `None` when it has a conversion we do not know.
    pub(super) fn parse(format: &str) -> Option<Self> {
        let mut items = Vec::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                push_literal(&mut items, c);
                continue;
            }
            match rest.next()? {
                'Y' => items.push(Item::Year),
                'y' => items.push(Item::ShortYear),
                'm' => items.push(Item::Month),
                'b' | 'h' => items.push(Item::MonthName { short: true }),
                'B' => items.push(Item::MonthName { short: false }),
                'd' => items.push(Item::Day { padding: b'0' }),
                'e' => items.push(Item::Day { padding: b' ' }),
                'j' => items.push(Item::DayOfYear),
                'a' => items.push(Item::Weekday { short: true }),
                'A' => items.push(Item::Weekday { short: false }),
                'w' => items.push(Item::WeekdayNumber),
                'H' => items.push(Item::Hour),
                'I' => items.push(Item::Hour12),
                'M' => items.push(Item::Minute),
                'S' => items.push(Item::Second),
                'p' => items.push(Item::AmPm),
                's' => items.push(Item::EpochSeconds),
                'z' => items.push(Item::Offset { colon: false }),
                'Z' => items.push(Item::ZoneName),
                'f' => items.push(Item::Fraction(9)),
                digit @ '1'..='9' => match rest.next()? {
                    'f' => items.push(Item::Fraction(digit.to_digit(10)? as u8)),
                    _ => return None,
                },
                'E' => match rest.next()? {
                    'z' => items.push(Item::Offset { colon: true }),
                    digit => {
                        let digits = if digit == '*' { 9 } else { digit.to_digit(10)? as u8 };
                        let (Some('S' | 'f'), true) = (rest.next(), digits <= 9) else { return None };
                        items.push(Item::Second);
                        if digits > 0 {
                            push_literal(&mut items, '.');
                            items.push(Item::Fraction(digits));
                        }
                    }
                },
                'D' => items.extend(Self::parse("%m/%d/%y")?.items),
                'F' => items.extend(Self::parse("%Y-%m-%d")?.items),
                'T' => items.extend(Self::parse("%H:%M:%S")?.items),
                'R' => items.extend(Self::parse("%H:%M")?.items),
                'n' => push_literal(&mut items, '\n'),
                't' => push_literal(&mut items, '\t'),
                '%' => push_literal(&mut items, '%'),
                _ => return None,
            }
        }
        Some(Self { items })
    }

    /// Appends `time`.
    pub(super) fn write(&self, time: SystemTime, out: &mut Vec<u8>) {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = since_epoch.as_secs();
        let date = Date::of_day(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let two = |number, out: &mut Vec<u8>| push_padded(number, 2, b'0', out);
        for item in &self.items {
            match item {
                Item::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Item::Year => push_padded(date.year, 4, b'0', out),
                Item::ShortYear => two(date.year % 100, out),
                Item::Month => two(date.month, out),
                Item::MonthName { short } => {
                    out.extend_from_slice(name(&MONTHS, date.month - 1, *short).as_bytes());
                }
                Item::Day { padding } => push_padded(date.day, 2, *padding, out),
                Item::DayOfYear => push_padded(date.day_of_year, 3, b'0', out),
                Item::Weekday { short } => {
                    out.extend_from_slice(name(&WEEKDAYS, date.weekday, *short).as_bytes());
                }
                Item::WeekdayNumber => push_number(date.weekday, out),
                Item::Hour => two(hour, out),
                Item::Hour12 => two((hour + 11) % 12 + 1, out),
                Item::Minute => two(minute, out),
                Item::Second => two(second, out),
                Item::AmPm => out.extend_from_slice(if hour < 12 { b"AM" } else { b"PM" }),
                Item::Fraction(digits) => {
                    let fraction = since_epoch.subsec_nanos() / 10u32.pow(9 - u32::from(*digits));
                    push_padded(fraction.into(), usize::from(*digits), b'0', out);
                }
                Item::EpochSeconds => push_number(seconds, out),
                Item::Offset { colon } => out.extend_from_slice(if *colon { b"+00:00" } else { b"+0000" }),
                Item::ZoneName => out.extend_from_slice(b"UTC"),
            }
        }
    }
}

fn push_literal(items: &mut Vec<Item>, c: char) {
    match items.last_mut() {
        Some(Item::Literal(text)) => text.push(c),
        _ => items.push(Item::Literal(c.into())),
    }
}

/// A day of the proleptic Gregorian calendar.
#[derive(Debug)]
struct Date {
    year: u64,
    /// 1–12
    month: u64,
    /// 1–31
    day: u64,
    /// 1–366
    day_of_year: u64,
    /// 0 = Sunday
    weekday: u64,
}

impl Date {
    /// The date `days` after 1970-01-01: counts in 400-year eras from 0000-03-01, so that the leap
    /// day is the last of its year.
    fn of_day(days: u64) -> Self {
        let from_march = days + 719_468;
        let era = from_march / 146_097;
        let day_of_era = from_march % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_march_year + 2) / 153;
        let day = day_of_march_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let leap =
            u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)));
        let day_of_year = if month > 2 { day_of_march_year + 60 + leap } else { day_of_march_year - 305 };
        Self { year, month, day, day_of_year, weekday: (days + 4) % 7 }
    }
}

fn name(names: &[&'static str], index: u64, short: bool) -> &'static str {
    let name = names.get(index as usize).copied().unwrap_or("");
    if short { name.get(..3).unwrap_or(name) } else { name }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, seconds: u64, nanos: u32, expected: &str) {
        let mut out = Vec::new();
        let time = UNIX_EPOCH + Duration::new(seconds, nanos);
        TimeFormat::parse(format).unwrap_or_else(|| panic!("{format} is refused")).write(time, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn default_is_iso_8601_with_milliseconds() {
        check(DEFAULT, 1_785_585_600, 123_999_999, "2026-08-01T12:00:00.123Z");
    }

    #[test]
    fn calendar_is_right_around_leap_days() {
        for (seconds, expected) in [
            (0, "1970-01-01 001 Thu"),
            (951_696_000, "2000-02-28 059 Mon"),
            (951_782_400, "2000-02-29 060 Tue"),
            (951_868_800, "2000-03-01 061 Wed"),
            (1_709_164_800, "2024-02-29 060 Thu"),
            (1_735_603_200, "2024-12-31 366 Tue"),
            (4_107_542_400, "2100-03-01 060 Mon"),
        ] {
            check("%F %j %a", seconds, 0, expected);
        }
    }

    #[test]
    fn conversions_are_those_of_strftime() {
        check("%d/%b/%Y:%T %z %s.%3f", 1_785_585_600, 5_000_000, "01/Aug/2026:12:00:00 +0000 1785585600.005");
        check("%e %B %y %A %I %p %R %%", 1_785_585_600, 0, " 1 August 26 Saturday 12 PM 12:00 %");
        check("%f %6f %E*S %E0S %Ez", 1, 1000, "000001000 000001 01.000001000 01 +00:00");
    }

    #[test]
    fn unknown_conversions_are_refused() {
        for format in ["%q", "%", "%3x", "%EqS", "%E3x"] {
            assert_eq!(TimeFormat::parse(format), None, "{format}");
        }
    }
}
