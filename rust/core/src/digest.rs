//! SHA-256 digests, the only kind that SOCI uses, in OCI form (`sha256:` and 64 lowercase hex
//! digits).
//!
//! Source: OCI image-spec 1.1.1, descriptor.md, "Digests".

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::error::ZtocError;

const PREFIX: &str = "sha256:";

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest with these 32 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ZtocError;

    /// Parses the OCI form; uppercase hex digits and other algorithms are rejected.
    fn from_str(text: &str) -> Result<Self, ZtocError> {
        let hex = text.strip_prefix(PREFIX).ok_or(ZtocError::DigestSpelling)?.as_bytes();
        if hex.len() != 64 {
            return Err(ZtocError::DigestSpelling);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, ZtocError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ZtocError::DigestSpelling),
    }
}

/// Bytes in a SHA-256 block (FIPS 180-4 §5.2.1).
const BLOCK_LEN: usize = 64;
/// Bytes that one of two hashers takes before it is the other's turn. A SHA-NI round waits for the
/// round before it; with turns this short, the CPU overlaps that wait with rounds of the other
/// hasher.
const TURN_LEN: usize = 2 * BLOCK_LEN;

/// An incremental SHA-256 hasher.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    sha256: Sha256,
    /// Bytes in the current, incomplete block.
    pending_len: usize,
}

impl Hasher {
    /// A hasher that has seen no bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.pending_len = (self.pending_len + bytes.len() % BLOCK_LEN) % BLOCK_LEN;
    }

    /// Adds `bytes` to this hasher and `other_bytes` to `other`. Equivalent to two calls of
    /// [`Self::update`], but faster on CPUs with SHA-256 instructions.
    pub fn update_with(&mut self, bytes: &[u8], other: &mut Self, other_bytes: &[u8]) {
        let bytes = self.fill_block(bytes);
        let other_bytes = other.fill_block(other_bytes);
        let (turns, _) = bytes.as_chunks::<TURN_LEN>();
        let (other_turns, _) = other_bytes.as_chunks::<TURN_LEN>();
        // Whole blocks, so the number of pending bytes does not change.
        for (turn, other_turn) in turns.iter().zip(other_turns) {
            self.sha256.update(turn);
            other.sha256.update(other_turn);
        }
        let done = turns.len().min(other_turns.len()) * TURN_LEN;
        self.update(&bytes[done..]);
        other.update(&other_bytes[done..]);
    }

    /// Adds the bytes that complete the pending block and returns the rest.
    fn fill_block<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let missing = (BLOCK_LEN - self.pending_len) % BLOCK_LEN;
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.update(head);
        rest
    }

    /// Returns the digest of all bytes so far and resets the hasher.
    pub fn finish_reset(&mut self) -> Digest {
        self.pending_len = 0;
        Digest(self.sha256.finalize_reset().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_update_with_when_alignment_varies_then_both_digests_are_right() {
        let bytes: Vec<u8> = (0..1000_u32).map(|i| (i * i % 251) as u8).collect();
        for start in 0..2 * BLOCK_LEN {
            for len in [0, 1, 63, 64, 65, 127, 128, 129, 500] {
                let (mut one, mut two) = (Hasher::new(), Hasher::new());
                one.update(&bytes[..start]);
                one.update_with(&bytes[start..start + len], &mut two, &bytes[1..]);
                one.update_with(&bytes[start + len..], &mut two, &bytes[..len]);
                let expected = [&bytes[1..], &bytes[..len]].concat();
                assert_eq!(one.finish_reset(), Digest::of(&bytes), "start {start}, len {len}");
                assert_eq!(two.finish_reset(), Digest::of(&expected), "start {start}, len {len}");
            }
        }
    }
}
