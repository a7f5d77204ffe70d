//! The bit buffer between the input and the decoders.
//!
//! DEFLATE fills each byte from its low bit upwards (RFC 1951 §3.1.1), so new bytes go above the
//! bits held. Bits above `count` are zero; `fast.rs` relies on this and preserves it.

/// Up to 63 bits taken from the input but not used yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BitBuffer {
    value: u64,
    count: u32,
}

impl BitBuffer {
    /// A buffer that holds the low `count` bits (0 to 8) of `value`.
    pub(crate) const fn primed(value: u8, count: u8) -> Self {
        Self { value: value as u64 & ((1 << count) - 1), count: count as u32 }
    }

    /// The inverse of `parts`.
    pub(super) const fn from_parts(value: u64, count: u32) -> Self {
        Self { value, count }
    }

    /// The bits and their number.
    pub(super) const fn parts(self) -> (u64, u32) {
        (self.value, self.count)
    }

    /// The bits held, the next one lowest, with zeros above them.
    pub(crate) const fn peek(self) -> u64 {
        self.value
    }

    /// The number of bits held.
    pub(crate) const fn count(self) -> u32 {
        self.count
    }

    /// Takes whole bytes from `input` while they fit. Afterwards at least 56 bits are held, unless
    /// the input ends first.
    #[inline]
    pub(crate) fn fill(&mut self, input: &mut &[u8]) {
        if let Some((word, _)) = input.split_first_chunk::<8>() {
            let bytes = (63 - self.count) / 8;
            let taken = u64::from_le_bytes(*word) & ((1_u64 << (8 * bytes)) - 1);
            self.value |= taken << self.count;
            self.count += 8 * bytes;
            *input = &input[bytes as usize..];
            return;
        }
        while self.count <= 55
            && let Some((&byte, rest)) = input.split_first()
        {
            self.value |= u64::from(byte) << self.count;
            self.count += 8;
            *input = rest;
        }
    }

    /// Drops the lowest `count` bits; at least that many must be held.
    #[inline]
    pub(crate) const fn consume(&mut self, count: u32) {
        self.value >>= count;
        self.count -= count;
    }

    /// Takes the next `count` bits (at most 32); returns `None` and takes nothing if the input ends
    /// first.
    #[inline]
    pub(crate) fn take(&mut self, count: u32, input: &mut &[u8]) -> Option<u32> {
        if self.count < count {
            self.fill(input);
            if self.count < count {
                return None;
            }
        }
        let bits = self.value & ((1_u64 << count) - 1);
        self.consume(count);
        u32::try_from(bits).ok()
    }

    /// Drops the rest of the current byte.
    pub(crate) const fn align_to_byte(&mut self) {
        self.consume(self.count % 8);
    }
}
