//! Modification times: parsed from PAX decimal seconds, written as RFC 3339 text in UTC.

use super::number::decimal;

/// 0000-01-01T00:00:00Z.
const FIRST_SECOND: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;
const SECONDS_PER_DAY: i64 = 86_400;
const NANOSECONDS: u32 = 1_000_000_000;

/// An instant: seconds since 1970, plus a non-negative fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp {
    seconds: i64,
    /// Less than 10⁹.
    nanoseconds: u32,
}

impl Timestamp {
    /// A time in whole seconds, as in header fields.
    pub(super) const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// Parses a PAX time (POSIX pax, `mtime`): decimal seconds with a fraction of any length, of
    /// which nine digits are used. The fraction of a negative number is negative too.
    pub(super) fn from_pax(text: &[u8]) -> Option<Self> {
        let dot = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
        let (whole, fraction) = text.split_at_checked(dot)?;
        let seconds = decimal(whole)?;
        let digits = fraction.get(1..).unwrap_or_default();
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
        let nanoseconds = padded.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        if whole.first() == Some(&b'-') && nanoseconds > 0 {
            // At i64::MIN the year is out of range before and after the wrap.
            let seconds = seconds.wrapping_sub(1);
            return Some(Self { seconds, nanoseconds: NANOSECONDS - nanoseconds });
        }
        Some(Self { seconds, nanoseconds })
    }

    /// RFC 3339 in UTC, without trailing zeros in the fraction; `None` outside the years 0 to 9999.
    pub(super) fn to_rfc3339(self) -> Option<Vec<u8>> {
        if !(FIRST_SECOND..=LAST_SECOND).contains(&self.seconds) {
            return None;
        }
        // Relative to the first second, both values fit.
        let since_first = self.seconds - FIRST_SECOND;
        let (year, month, day) = civil_date(low_u32(since_first / SECONDS_PER_DAY));
        let second = low_u32(since_first % SECONDS_PER_DAY);
        let mut text = *b"0000-00-00T00:00:00Z";
        [text[0], text[1]] = two_digits(year / 100);
        [text[2], text[3]] = two_digits(year % 100);
        [text[5], text[6]] = two_digits(month);
        [text[8], text[9]] = two_digits(day);
        [text[11], text[12]] = two_digits(second / 3600);
        [text[14], text[15]] = two_digits(second / 60 % 60);
        [text[17], text[18]] = two_digits(second % 60);
        if self.nanoseconds == 0 {
            return Some(text.to_vec());
        }
        let (mut fraction, mut width) = (self.nanoseconds, 9);
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        let [whole @ .., zone] = text;
        Some([&whole[..], format!(".{fraction:0width$}").as_bytes(), &[zone]].concat())
    }
}

/// The decimal digits of a number below 100.
const fn two_digits(number: u32) -> [u8; 2] {
    [low_u8(number / 10 % 10) + b'0', low_u8(number % 10) + b'0']
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "only for days and seconds of ten thousand years"
)]
const fn low_u32(number: i64) -> u32 {
    number as u32
}

#[expect(clippy::cast_possible_truncation, reason = "only for decimal digits")]
const fn low_u8(digit: u32) -> u8 {
    digit as u8
}

/// Converts days since 0000-01-01 to year, month and day in the proleptic Gregorian calendar.
///
/// Years start in March, so that the leap day comes last, and are grouped in eras of 400 years or
/// 146,097 days (H. Hinnant, "chrono-compatible low-level date algorithms").
const fn civil_date(days: u32) -> (u32, u32, u32) {
    // Count from one era earlier, so that the two months before the first March are not negative;
    // 0000-03-01 is day 60.
    let days = days + 146_097 - 60;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year - 400, month, day)
}

#[cfg(test)]
mod tests {
    use super::{FIRST_SECOND, LAST_SECOND, Timestamp};

    fn rfc3339(seconds: i64) -> String {
        let text = Timestamp::from_seconds(seconds).to_rfc3339().unwrap_or_default();
        String::from_utf8(text).unwrap()
    }

    fn pax(text: &str) -> String {
        let time = Timestamp::from_pax(text.as_bytes()).unwrap();
        String::from_utf8(time.to_rfc3339().unwrap_or_default()).unwrap()
    }

    #[test]
    fn whole_seconds_when_in_range_then_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
        assert_eq!(rfc3339(FIRST_SECOND), "0000-01-01T00:00:00Z");
        assert_eq!(rfc3339(LAST_SECOND), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn whole_seconds_when_year_is_out_of_range_then_empty() {
        for seconds in [FIRST_SECOND - 1, LAST_SECOND + 1, i64::MIN, i64::MAX] {
            assert_eq!(rfc3339(seconds), "", "{seconds}");
        }
    }

    #[test]
    fn pax_time_when_fractional_then_nine_digits_without_trailing_zeros() {
        assert_eq!(pax("1700000000.25"), "2023-11-14T22:13:20.25Z");
        assert_eq!(pax("1.000000001"), "1970-01-01T00:00:01.000000001Z");
        assert_eq!(pax("1.0000000009"), "1970-01-01T00:00:01Z");
        assert_eq!(pax("1.1234567899"), "1970-01-01T00:00:01.123456789Z");
        assert_eq!(pax("5."), "1970-01-01T00:00:05Z");
        assert_eq!(pax("+5.5"), "1970-01-01T00:00:05.5Z");
    }

    #[test]
    fn pax_time_when_negative_then_fraction_is_subtracted() {
        assert_eq!(pax("-5.25"), "1969-12-31T23:59:54.75Z");
        assert_eq!(pax("-0.25"), "1969-12-31T23:59:59.75Z");
        assert_eq!(pax("-62167219200.5"), "");
        assert_eq!(pax("-9223372036854775808.5"), "");
    }

    #[test]
    fn pax_time_when_not_a_number_then_none() {
        for text in ["", ".5", "-", "-.5", "1.5.5", "1.x", "1.-5", "1e3", " 1"] {
            assert_eq!(Timestamp::from_pax(text.as_bytes()), None, "{text:?}");
        }
    }
}
