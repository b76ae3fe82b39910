//! The `date` header, formatted once a second.

/// Caches the text of the `date` header (RFC 9110 §5.6.7, IMF-fixdate) for the second it was made in.
#[derive(Debug)]
pub struct DateCache {
    second: u64,
    text: [u8; LEN],
}

const LEN: usize = b"Sun, 06 Nov 1994 08:49:37 GMT".len();
const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

impl Default for DateCache {
    fn default() -> Self {
        DateCache { second: 0, text: imf_fixdate(0) }
    }
}

impl DateCache {
    /// The text for a time in whole seconds since the Unix epoch.
    pub fn at(&mut self, second: u64) -> [u8; LEN] {
        if self.second != second {
            self.second = second;
            self.text = imf_fixdate(second);
        }
        self.text
    }
}

fn imf_fixdate(second: u64) -> [u8; LEN] {
    let days = second / 86_400;
    let (year, month, day) = civil_from_days(days);
    let time = second % 86_400;
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    two_digits(&mut text[5..7], u64::from(day));
    text[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    two_digits(&mut text[12..14], year / 100);
    two_digits(&mut text[14..16], year % 100);
    two_digits(&mut text[17..19], time / 3600);
    two_digits(&mut text[20..22], time / 60 % 60);
    two_digits(&mut text[23..25], time % 60);
    text
}

fn two_digits(out: &mut [u8], number: u64) {
    out[0] = b'0' + (number / 10 % 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

/// Year, month (1–12) and day (1–31) of the Gregorian calendar. Years are counted from 1 March of year 0, so that
/// the leap day is the last of its year.
fn civil_from_days(days_since_epoch: u64) -> (u64, u8, u8) {
    const DAYS_BEFORE_EPOCH: u64 = 719_468;
    let days = days_since_epoch + DAYS_BEFORE_EPOCH;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u8;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_in_the_rfc() {
        let mut cache = DateCache::default();
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&cache.at(second)).unwrap(), text);
        }
    }
}
