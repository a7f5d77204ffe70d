//! Reads an untrusted flatbuffer.
//!
//! Every position is checked before it is used, and nothing is assumed to be aligned. References
//! may point anywhere, so many can share a target, and a small blob could expand to a lot of
//! memory. To prevent this, the bytes read are counted, shared ones each time, and limited to a
//! multiple of the blob's length.

use std::cell::Cell;

use crate::error::{Error, Result, ZtocError};

/// Maximum number of bytes read, as a multiple of the blob's length. Without sharing each byte is
/// read once; builders that share strings stay well below 4 times.
const SHARING: u64 = 4;

/// A blob, and the number of bytes that may still be read from it.
#[derive(Debug)]
pub(in crate::ztoc) struct Reader<'a> {
    blob: &'a [u8],
    /// The offset of the blob in the caller's data, for errors.
    base: u64,
    limit: u64,
    left: Cell<u64>,
}

impl<'a> Reader<'a> {
    /// A reader of `blob`. Positions in errors are relative to `base`.
    pub(in crate::ztoc) fn new(blob: &'a [u8], base: u64) -> Self {
        let limit = (blob.len() as u64).saturating_mul(SHARING);
        Self { blob, base, limit, left: Cell::new(limit) }
    }

    /// The root table.
    pub(in crate::ztoc) fn root(&self, what: &'static str) -> Result<Table<'_, 'a>> {
        Table::at(self, self.follow(0, what)?, what)
    }

    /// Length of the blob in bytes.
    pub(in crate::ztoc) fn len(&self) -> usize {
        self.blob.len()
    }

    fn error(&self, kind: ZtocError, at: usize) -> Error {
        Error::Ztoc { kind, at: self.base.saturating_add(at as u64) }
    }

    fn charge(&self, len: usize, at: usize) -> Result<()> {
        match self.left.get().checked_sub(len as u64) {
            Some(left) => self.left.set(left),
            None => return Err(self.error(ZtocError::Amplified { limit: self.limit }, at)),
        }
        Ok(())
    }

    fn slice(&self, at: usize, len: usize, what: &'static str) -> Result<&'a [u8]> {
        at.checked_add(len)
            .and_then(|end| self.blob.get(at..end))
            .ok_or_else(|| self.error(ZtocError::OutOfBounds(what), at))
    }

    fn array<const N: usize>(&self, at: usize, what: &'static str) -> Result<[u8; N]> {
        self.blob
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .ok_or_else(|| self.error(ZtocError::OutOfBounds(what), at))
    }

    fn length(&self, at: usize, what: &'static str) -> Result<usize> {
        let len = u32::from_le_bytes(self.array(at, what)?);
        // Only a 16-bit usize could fail here.
        usize::try_from(len).map_err(|_| self.error(ZtocError::OutOfBounds(what), at))
    }

    /// The target of the reference at `at`. A null reference would point to itself and is an error.
    fn follow(&self, at: usize, what: &'static str) -> Result<usize> {
        let distance = self.length(at, what)?;
        self.charge(4, at)?;
        match distance {
            0 => Err(self.error(ZtocError::OutOfBounds(what), at)),
            distance => {
                at.checked_add(distance).ok_or_else(|| self.error(ZtocError::OutOfBounds(what), at))
            }
        }
    }

    fn string(&self, at: usize, what: &'static str) -> Result<&'a [u8]> {
        let len = self.length(at, what)?;
        // `length` has read the four bytes at `at`, so the sum does not overflow.
        let text = self.slice(at + 4, len.saturating_add(1), what)?;
        self.charge(len.saturating_add(5), at)?;
        match text {
            [text @ .., 0] => Ok(text),
            _ => Err(self.error(ZtocError::Unterminated(what), at)),
        }
    }
}

/// A table in the blob.
#[derive(Debug, Clone, Copy)]
pub(in crate::ztoc) struct Table<'r, 'a> {
    reader: &'r Reader<'a>,
    at: usize,
    /// The vtable's entries, two bytes for each field.
    entries: &'a [u8],
}

impl<'r, 'a> Table<'r, 'a> {
    fn at(reader: &'r Reader<'a>, at: usize, what: &'static str) -> Result<Self> {
        let outside = || reader.error(ZtocError::OutOfBounds(what), at);
        let distance = i32::from_le_bytes(reader.array(at, what)?);
        reader.charge(4, at)?;
        let vtable = i64::try_from(at)
            .ok()
            .and_then(|table| table.checked_sub(i64::from(distance)))
            .and_then(|vtable| usize::try_from(vtable).ok())
            .ok_or_else(outside)?;
        let len = u16::from_le_bytes(reader.array(vtable, what)?);
        // The object size at vtable + 2 is not used: the reference's builder shares a vtable
        // between tables that differ only in that, so it may be off by a few bytes.
        let entries = reader.slice(vtable, usize::from(len), what)?.get(4..).ok_or_else(outside)?;
        Ok(Self { reader, at, entries })
    }

    /// The position of the table.
    pub(in crate::ztoc) fn position(&self) -> u64 {
        self.reader.base.saturating_add(self.at as u64)
    }

    fn field(&self, slot: usize, what: &'static str) -> Result<Option<usize>> {
        let entry = self.entries.get(2 * slot..).and_then(|rest| rest.first_chunk());
        match entry.map_or(0, |entry| u16::from_le_bytes(*entry)) {
            0 => Ok(None),
            distance => self
                .at
                .checked_add(usize::from(distance))
                .map(Some)
                .ok_or_else(|| self.reader.error(ZtocError::OutOfBounds(what), self.at)),
        }
    }

    fn scalar<const N: usize>(&self, slot: usize, what: &'static str) -> Result<Option<[u8; N]>> {
        let Some(at) = self.field(slot, what)? else { return Ok(None) };
        let bytes = self.reader.array(at, what)?;
        self.reader.charge(N, at)?;
        Ok(Some(bytes))
    }

    /// A field of eight bytes, 0 when absent.
    pub(in crate::ztoc) fn int64(&self, slot: usize, what: &'static str) -> Result<i64> {
        Ok(self.scalar(slot, what)?.map_or(0, i64::from_le_bytes))
    }

    /// A field of four bytes, 0 when absent.
    pub(in crate::ztoc) fn int32(&self, slot: usize, what: &'static str) -> Result<i32> {
        Ok(self.scalar(slot, what)?.map_or(0, i32::from_le_bytes))
    }

    /// A field of four bytes, 0 when absent.
    pub(in crate::ztoc) fn uint32(&self, slot: usize, what: &'static str) -> Result<u32> {
        Ok(self.scalar(slot, what)?.map_or(0, u32::from_le_bytes))
    }

    /// A field of one byte, `default` when absent.
    pub(in crate::ztoc) fn int8(&self, slot: usize, default: i8, what: &'static str) -> Result<i8> {
        Ok(self.scalar(slot, what)?.map_or(default, i8::from_le_bytes))
    }

    fn target(&self, slot: usize, what: &'static str) -> Result<usize> {
        match self.field(slot, what)? {
            Some(at) => self.reader.follow(at, what),
            None => Err(self.reader.error(ZtocError::Missing(what), self.at)),
        }
    }

    /// A required string, without the NUL.
    pub(in crate::ztoc) fn string(&self, slot: usize, what: &'static str) -> Result<&'a [u8]> {
        Ok(self.placed_string(slot, what)?.1)
    }

    /// Like `string`, but also returns the offset of its length in the blob.
    pub(in crate::ztoc) fn placed_string(
        &self,
        slot: usize,
        what: &'static str,
    ) -> Result<(usize, &'a [u8])> {
        let at = self.target(slot, what)?;
        Ok((at, self.reader.string(at, what)?))
    }

    /// A required table.
    pub(in crate::ztoc) fn table(&self, slot: usize, what: &'static str) -> Result<Self> {
        Table::at(self.reader, self.target(slot, what)?, what)
    }

    /// A required vector of bytes, with its position.
    pub(in crate::ztoc) fn bytes(
        &self,
        slot: usize,
        what: &'static str,
    ) -> Result<(u64, &'a [u8])> {
        let at = self.target(slot, what)?;
        let len = self.reader.length(at, what)?;
        let bytes = self.reader.slice(at + 4, len, what)?;
        self.reader.charge(len.saturating_add(4), at)?;
        Ok((self.reader.base.saturating_add(at as u64 + 4), bytes))
    }

    /// A required vector of references.
    pub(in crate::ztoc) fn vector(
        &self,
        slot: usize,
        what: &'static str,
    ) -> Result<Vector<'r, 'a>> {
        let at = self.target(slot, what)?;
        let count = self.reader.length(at, what)?;
        // Check the whole vector here, not each element: the bytes must exist before anything is
        // allocated for `count` elements.
        self.reader.slice(at + 4, count.saturating_mul(4), what)?;
        self.reader.charge(4, at)?;
        Ok(Vector { reader: self.reader, first: at + 4, count, what })
    }
}

/// A vector of references. All its elements are inside the blob; their targets may not be.
#[derive(Debug, Clone, Copy)]
pub(in crate::ztoc) struct Vector<'r, 'a> {
    reader: &'r Reader<'a>,
    first: usize,
    count: usize,
    what: &'static str,
}

impl<'r, 'a> Vector<'r, 'a> {
    /// The offset of the first element.
    pub(in crate::ztoc) fn first(&self) -> usize {
        self.first
    }

    /// The number of elements.
    pub(in crate::ztoc) fn len(&self) -> usize {
        self.count
    }

    fn targets(self) -> impl Iterator<Item = Result<usize>> {
        (0..self.count).map(move |index| self.reader.follow(self.first + 4 * index, self.what))
    }

    /// The elements as tables.
    pub(in crate::ztoc) fn tables(self) -> impl Iterator<Item = Result<Table<'r, 'a>>> {
        self.targets().map(move |at| Table::at(self.reader, at?, self.what))
    }

    /// The elements as strings, with the position of each.
    pub(in crate::ztoc) fn strings(self) -> impl Iterator<Item = Result<(u64, &'a [u8])>> {
        self.targets().map(move |at| {
            let at = at?;
            let position = self.reader.base.saturating_add(at as u64);
            Ok((position, self.reader.string(at, self.what)?))
        })
    }
}
