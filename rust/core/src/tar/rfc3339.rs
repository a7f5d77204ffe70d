//! Parsing modification times in zTOCs (RFC 3339 §5.6).
//!
//! tocsin writes them in UTC, but the reference writes them in the local time zone.

use super::entry::FileMetadata;

impl FileMetadata {
    /// Seconds since 1970-01-01T00:00:00Z and the nanoseconds after them (0 to 999,999,999); `None`
    /// if the stored text is empty or not a valid time.
    #[must_use]
    pub fn mod_time_parts(&self) -> Option<(i64, u32)> {
        parse(&self.mod_time)
    }
}

fn parse(text: &[u8]) -> Option<(i64, u32)> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let number = |at: usize, len: usize| -> Option<i64> {
        date_time.get(at..at + len)?.iter().try_fold(0, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let marks = [4, 7, 10, 13, 16].map(|at| date_time[at]);
    if marks != *b"--T::" {
        return None;
    }
    let (month, day) = (number(5, 2)?, number(8, 2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_from_civil(number(0, 4)?, month, day);
    let seconds = ((days * 24 + number(11, 2)?) * 60 + number(14, 2)?) * 60 + number(17, 2)?;

    let fraction_len = match rest.first() {
        Some(b'.') => 1 + rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    };
    let (fraction, zone) = rest.split_at(fraction_len);
    let digits = fraction.iter().skip(1).copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some((seconds - zone_seconds(zone)?, nanoseconds))
}

/// `Z`, or `±hh:mm` ahead of UTC.
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

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years start in March, so that the leap
/// day comes last.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;

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
            ("2024-02-29T12:00:00+05:30", (1_709_188_200, 0)),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(parts), "{text}");
        }
    }

    #[test]
    fn parse_when_not_a_time_then_none() {
        for text in
            ["", "now", "2023-11-14 22:13:20Z", "2023-13-14T22:13:20Z", "2023-11-14T22:13:20"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
