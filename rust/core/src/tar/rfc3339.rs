//! Parsing modification times in zTOCs (RFC 3339 §5.6).
//!
//! tocsin writes them in UTC, but the reference writes them in the local time zone.

use super::entry::FileMetadata;

impl FileMetadata {
    /// Seconds since 1970-01-01T00:00:00Z and the nanoseconds after them (0 to 999,999,999); `None`
    /// if the stored text is empty or not a valid time.
    #[must_use]
    pub fn mod_time_parts(&self) -> Option<(i64, u32)> {
        time_parts(&self.mod_time)
    }
}

/// Like [`FileMetadata::mod_time_parts`], but for any text.
pub(crate) fn time_parts(text: &[u8]) -> Option<(i64, u32)> {
    let (date_time, rest) = text.split_first_chunk::<19>()?;
    let digit = |at: usize| date_time[at].wrapping_sub(b'0');
    let digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18].map(digit);
    let marks = [4, 7, 10, 13, 16].map(|at| date_time[at]);
    if marks != *b"--T::" || digits.iter().any(|digit| *digit > 9) {
        return None;
    }
    let two = |at: usize| u32::from(digits[at]) * 10 + u32::from(digits[at + 1]);
    let (year, month, day) = (two(0) * 100 + two(2), two(4), two(6));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let time_of_day = (two(8) * 60 + two(10)) * 60 + two(12);
    let seconds = days_from_civil(year, month, day) * 86_400 + i64::from(time_of_day);

    let fraction_len = match rest.first() {
        Some(b'.') => 1 + rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    };
    let (fraction, zone) = rest.split_at(fraction_len);
    Some((seconds - zone_seconds(zone)?, nanoseconds(fraction)))
}

/// Converts a fraction, which is a point and digits, or empty.
fn nanoseconds(fraction: &[u8]) -> u32 {
    if fraction.is_empty() {
        return 0;
    }
    let digits = fraction.iter().skip(1).copied().chain(std::iter::repeat(b'0')).take(9);
    digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

/// Seconds ahead of UTC, from `Z` or `±hh:mm`.
fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let [sign, h1, h2, b':', m1, m2] = *zone else {
        return (zone == b"Z").then_some(0);
    };
    let number = |tens: u8, ones: u8| {
        let digits = [tens, ones];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| i64::from(digits[0] - b'0') * 10 + i64::from(digits[1] - b'0'))
    };
    let seconds = (number(h1, h2)? * 60 + number(m1, m2)?) * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
///
/// Years start in March, so that the leap day comes last, and 400 years are added, so that no
/// number is negative.
#[inline]
fn days_from_civil(year: u32, month: u32, day: u32) -> i64 {
    let (year, month) = if month > 2 { (year + 400, month - 3) } else { (year + 399, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year / 4 - year / 100 + year / 400;
    i64::from(year * 365 + leap_days + day_of_year) - (719_468 + 146_097)
}

#[cfg(test)]
mod tests {
    use super::time_parts;

    #[test]
    fn parse_when_utc_or_with_offset_then_seconds() {
        for (text, parts) in [
            ("1970-01-01T00:00:00Z", (0, 0)),
            ("2023-11-14T22:13:20Z", (1_700_000_000, 0)),
            ("2023-11-14T17:13:20-05:00", (1_700_000_000, 0)),
            ("2023-11-14T22:13:20.25Z", (1_700_000_000, 250_000_000)),
            ("1969-12-31T23:59:54.75Z", (-6, 750_000_000)),
            ("0000-01-01T00:00:00Z", (-62_167_219_200, 0)),
            ("9999-12-31T23:59:59Z", (253_402_300_799, 0)),
            ("1900-03-01T00:00:00Z", (-2_203_891_200, 0)),
            ("2000-02-29T00:00:00Z", (951_782_400, 0)),
            ("2100-12-31T23:59:59Z", (4_133_980_799, 0)),
            ("2024-02-29T12:00:00+05:30", (1_709_188_200, 0)),
        ] {
            assert_eq!(time_parts(text.as_bytes()), Some(parts), "{text}");
        }
    }

    #[test]
    fn parse_when_not_a_time_then_none() {
        for text in [
            "",
            "now",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:1x:20Z",
            "2023-13-14T22:13:20Z",
            "2023-11-14T22:13:20",
        ] {
            assert_eq!(time_parts(text.as_bytes()), None, "{text}");
        }
    }
}
