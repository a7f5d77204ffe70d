//! Interprets the fuzzer's bytes as instructions, read from front to back so that a small change of
//! the bytes makes a small change of the result. After the end everything reads as zero.

/// The instructions that have not been used yet.
#[derive(Clone)]
pub struct Instructions<'a>(&'a [u8]);

impl<'a> Instructions<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All remaining bytes.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// The next `len` bytes, fewer at the end.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.take(8);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }

    /// A number below `end`, which is at most 65,536. Takes one byte if `end` is at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        let number = if end <= 256 { usize::from(self.byte()) } else { usize::from(self.u16()) };
        number % end.max(1)
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// True for one byte in sixteen.
    pub fn rarely(&mut self) -> bool {
        self.byte() & 15 == 15
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// Changes up to three bytes.
pub fn damage(bytes: &mut [u8], instructions: &mut Instructions<'_>) {
    for _ in 0..instructions.below(4) {
        let (at, change) = (instructions.below(65_536), instructions.byte());
        if let Some(at) = at.checked_rem(bytes.len()) {
            bytes[at] ^= change;
        }
    }
}

/// Cuts `bytes` into separately allocated pieces, so that reading beyond a piece is reading beyond
/// its allocation. Pieces may be empty.
pub fn pieces(bytes: &[u8], instructions: &mut Instructions<'_>) -> Vec<Box<[u8]>> {
    let lens: Vec<usize> =
        (0..1 + instructions.below(6))
            .map(|_| {
                if instructions.flag() {
                    instructions.below(65_536)
                } else {
                    instructions.below(40)
                }
            })
            .collect();
    let mut rest = bytes;
    let mut pieces = Vec::new();
    // At least one piece must not be empty, and a large input must not have too many pieces.
    let least = bytes.len() / 4096 + usize::from(lens.iter().all(|len| *len == 0));
    for len in lens.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*len).max(least).min(rest.len()));
        pieces.push(piece.into());
        rest = after;
    }
    pieces
}
