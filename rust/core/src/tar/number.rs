//! Numbers in tar: octal or base-256 in header fields, decimal in PAX records and sparse maps.
//!
//! The grammar is that of Go's `archive/tar`, which the reference uses. This module accepts and
//! rejects the same numbers; a `+`, leading zeros and negative base-256 are accepted.

/// Reads a numeric header field: base-256 if the top bit is set, octal otherwise.
#[inline]
pub(super) fn numeric(field: &[u8]) -> Option<i64> {
    filled_octal(field).or_else(|| unusual_numeric(field))
}

#[cold]
fn unusual_numeric(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base_256(field),
        _ => octal(field),
    }
}

/// Two's complement, big-endian, without the marker bit; the sign is bit 6 of the first byte.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field.first()? & 0x40 != 0;
    // A negative number is the complement of a non-negative one; the loop accumulates the latter.
    let flip = if negative { 0xff } else { 0 };
    let mut value: i64 = 0;
    for (index, byte) in field.iter().enumerate() {
        let byte = if index == 0 { (byte ^ flip) & 0x7f } else { byte ^ flip };
        value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
    }
    Some(if negative { !value } else { value })
}

/// Octal digits between spaces and NULs. Anything after an inner NUL is ignored, and an empty field
/// is 0.
pub(super) fn octal(field: &[u8]) -> Option<i64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let digits = field.get(start..)?;
    let end = digits.iter().rposition(|byte| !is_padding(byte)).map_or(0, |last| last + 1);
    let mut value: i64 = 0;
    for byte in digits.get(..end)? {
        match byte {
            b'0'..=b'7' => value = value.checked_mul(8)?.checked_add(i64::from(byte - b'0'))?,
            0 => break,
            _ => return None,
        }
    }
    Some(value)
}

/// Reads the usual form, digits and one terminator, without a branch per digit. When inlined,
/// the loop is unrolled for the length of the field.
#[inline]
fn filled_octal(field: &[u8]) -> Option<i64> {
    let (terminator, digits) = field.split_last()?;
    // 11 digits are 33 bits, so the sum below cannot overflow.
    if !matches!(terminator, b' ' | 0) || digits.is_empty() || digits.len() > 11 {
        return None;
    }
    let mut value: i64 = 0;
    let mut stray = 0;
    for byte in digits {
        stray |= (byte & 0xf8) ^ b'0';
        value = value << 3 | i64::from(byte & 7);
    }
    (stray == 0).then_some(value)
}

/// Reads a decimal number: an optional sign and at least one digit, and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    let mut number = Decimal::default();
    for byte in text {
        number.push(*byte)?;
    }
    number.finish()
}

/// A decimal number that arrives byte by byte.
#[derive(Debug, Default)]
pub(super) struct Decimal {
    negative: bool,
    started: bool,
    has_digits: bool,
    /// Kept with its sign, so that `i64::MIN` needs no special case.
    value: i64,
}

impl Decimal {
    /// Takes one more byte; returns `None` if the text is not a number.
    pub(super) fn push(&mut self, byte: u8) -> Option<()> {
        let digit = match byte {
            b'0'..=b'9' => i64::from(byte - b'0'),
            b'+' | b'-' if !self.started => {
                self.started = true;
                self.negative = byte == b'-';
                return Some(());
            }
            _ => return None,
        };
        self.started = true;
        self.has_digits = true;
        let shifted = self.value.checked_mul(10)?;
        self.value =
            if self.negative { shifted.checked_sub(digit)? } else { shifted.checked_add(digit)? };
        Some(())
    }

    /// The number, if there are any digits.
    pub(super) fn finish(&self) -> Option<i64> {
        self.has_digits.then_some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::{decimal, numeric, octal};

    #[test]
    fn octal_when_padded_on_either_side_then_padding_is_ignored() {
        assert_eq!(octal(b"0000644\0"), Some(0o644));
        assert_eq!(octal(b" 644 \0  "), Some(0o644));
        assert_eq!(octal(b"\0\0\x00644 "), Some(0o644));
        assert_eq!(octal(b"12345670"), Some(0o12_345_670));
        assert_eq!(octal(b"777777777777"), Some(0o777_777_777_777));
        assert_eq!(octal(b"12\0garbage"), Some(0o12));
        assert_eq!(octal(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(octal(b"        "), Some(0));
    }

    #[test]
    fn octal_when_not_octal_then_none() {
        for field in [b"0000648\0", b"-000644\0", b"+000644\0", b"12 34567", b"0x00644\0"] {
            assert_eq!(octal(field), None, "{field:?}");
        }
    }

    #[test]
    fn numeric_when_top_bit_is_set_then_base_256() {
        assert_eq!(numeric(&[0x80, 0, 0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(numeric(&[0xff; 12]), Some(-1));
        assert_eq!(numeric(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]), Some(-2));
        let most = [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(numeric(&most), Some(i64::MAX));
        let least = [0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(numeric(&least), Some(i64::MIN));
        let too_much = [0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(numeric(&too_much), None);
        let too_little = [0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(numeric(&too_little), None);
    }

    #[test]
    fn decimal_when_signed_or_at_the_limits_then_exact() {
        assert_eq!(decimal(b"+5"), Some(5));
        assert_eq!(decimal(b"-0"), Some(0));
        assert_eq!(decimal(b"0000000000000000000000005"), Some(5));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(decimal(b"-9223372036854775808"), Some(i64::MIN));
        for text in [&b""[..], b"-", b"+", b"--5", b"5-", b" 5", b"1_0", b"9223372036854775808"] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }
}
