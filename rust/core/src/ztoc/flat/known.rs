//! Fast access to tables that have been read without an error before.
//!
//! Nothing is counted against the reader's limit, and nothing fails: a field that is absent, or
//! would lie outside the blob, is zero or empty.

use std::fmt;

/// A table whose fields have all been read without an error before.
#[derive(Clone, Copy)]
pub(in crate::ztoc) struct KnownTable<'a> {
    blob: &'a [u8],
    /// The blob from the start of the table to its end.
    table: &'a [u8],
    /// The vtable's entries, two bytes for each field.
    entries: &'a [u8],
}

impl<'a> KnownTable<'a> {
    /// The table that an element of a vector refers to; the first element is at `first`.
    #[inline]
    pub(in crate::ztoc) fn element(blob: &'a [u8], first: usize, index: usize) -> Option<Self> {
        Self::referred_to(blob, first.checked_add(index.checked_mul(4)?)?)
    }

    #[inline]
    fn referred_to(blob: &'a [u8], reference: usize) -> Option<Self> {
        let at = reference.checked_add(length(blob, reference)?)?;
        let table = blob.get(at..)?;
        let distance = i32::from_le_bytes(array(table, 0)?);
        let vtable = at.checked_add_signed(isize::try_from(distance).ok()?.checked_neg()?)?;
        let len = usize::from(u16::from_le_bytes(array(blob, vtable)?));
        let entries = blob.get(vtable..vtable.checked_add(len)?)?.get(4..)?;
        Some(Self { blob, table, entries })
    }

    /// The offset of a field in the table; `None` if the field is absent.
    #[inline]
    fn field(&self, slot: usize) -> Option<usize> {
        match u16::from_le_bytes(array(self.entries, 2 * slot)?) {
            0 => None,
            distance => Some(usize::from(distance)),
        }
    }

    #[inline]
    fn scalar<const N: usize>(&self, slot: usize) -> Option<[u8; N]> {
        array(self.table, self.field(slot)?)
    }

    /// A field of eight bytes.
    #[inline]
    pub(in crate::ztoc) fn int64(&self, slot: usize) -> i64 {
        self.scalar(slot).map_or(0, i64::from_le_bytes)
    }

    /// A field of four bytes.
    #[inline]
    pub(in crate::ztoc) fn uint32(&self, slot: usize) -> u32 {
        self.scalar(slot).map_or(0, u32::from_le_bytes)
    }

    /// The length of the string or vector that a field refers to, and all bytes of the blob after
    /// that length.
    #[inline]
    fn target(&self, slot: usize) -> Option<(usize, &'a [u8])> {
        let field = self.table.get(self.field(slot)?..)?;
        let target = field.get(length(field, 0)?..)?;
        Some((length(target, 0)?, target.get(4..)?))
    }

    /// The bytes of a string without its NUL.
    #[inline]
    pub(in crate::ztoc) fn string(&self, slot: usize) -> &'a [u8] {
        self.target(slot).and_then(|(len, rest)| rest.get(..len)).unwrap_or_default()
    }

    /// The tables that a vector refers to.
    pub(in crate::ztoc) fn tables(&self, slot: usize) -> impl Iterator<Item = Self> + use<'a> {
        let blob = self.blob;
        let (count, rest) = self.target(slot).unwrap_or_default();
        let first = blob.len().saturating_sub(rest.len());
        (0..count).map_while(move |index| Self::element(blob, first, index))
    }
}

/// The string whose length is at `at` in the blob, without its NUL. It has been read without an
/// error before.
#[inline]
pub(in crate::ztoc) fn string_at(blob: &[u8], at: usize) -> &[u8] {
    let text = || blob.get(at..)?.get(4..)?.get(..length(blob, at)?);
    text().unwrap_or_default()
}

impl fmt::Debug for KnownTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownTable(at byte {})", self.blob.len().saturating_sub(self.table.len()))
    }
}

#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[inline]
fn length(blob: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(array(blob, at)?)).ok()
}
