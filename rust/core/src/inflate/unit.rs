//! The units of inflated output: bytes, or bytes mixed with markers.

/// One unit of output. The decoders are the same for both types; only the width of a store differs.
pub trait Unit: Copy + Default + std::fmt::Debug + Send + Sync + 'static + sealed::Sealed {
    /// The unit of a literal byte.
    fn literal(byte: u8) -> Self;

    /// The units of two literal bytes; the first is the low byte.
    fn literals(bytes: u16) -> [Self; 2];

    /// Eight bytes of memory filled with this unit.
    fn word(self) -> u64;
}

impl Unit for u8 {
    #[inline(always)]
    fn literal(byte: u8) -> Self {
        byte
    }

    #[inline(always)]
    fn literals(bytes: u16) -> [Self; 2] {
        bytes.to_le_bytes()
    }

    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(self).wrapping_mul(0x0101_0101_0101_0101)
    }
}

/// A byte, or a marker (see [`Inflater::marked`](super::Inflater::marked)).
impl Unit for u16 {
    #[inline(always)]
    fn literal(byte: u8) -> Self {
        Self::from(byte)
    }

    #[inline(always)]
    fn literals(bytes: u16) -> [Self; 2] {
        [bytes & 0xff, bytes >> 8]
    }

    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(self).wrapping_mul(0x0001_0001_0001_0001)
    }
}

mod sealed {
    /// Sealed, because the fast decoder copies units as plain memory and relies on their layout.
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
}
