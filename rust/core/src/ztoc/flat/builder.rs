//! Writes a flatbuffer back to front, byte-identical to flatbuffers-go.

use super::MAX_LEN;
use crate::error::{Error, Result, ZtocError};

/// Number of fields of the widest table in a zTOC, `FileMetadata`.
const MAX_SLOTS: usize = 14;

/// The start of an object, as its distance from the end of the buffer, which does not change when
/// bytes are added before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::ztoc) struct Mark(u32);

/// A vtable already in the buffer. Entries are distances from the start of the table, 0 if absent.
#[derive(Debug, Clone, Copy)]
struct Vtable {
    entries: [u16; MAX_SLOTS],
    len: usize,
    mark: Mark,
}

/// A flatbuffer builder.
#[derive(Debug)]
pub(in crate::ztoc) struct Builder {
    /// Finished bytes from `head` on, and zeros before it, so padding need not be written.
    buffer: Vec<u8>,
    head: usize,
    /// The largest alignment used so far, which determines the padding before the root offset.
    min_align: usize,
    /// The distinct vtables; the one used last is at the end.
    vtables: Vec<Vtable>,
}

impl Builder {
    /// Creates an empty buffer that can hold `capacity` bytes before it has to grow.
    pub(in crate::ztoc) fn with_capacity(capacity: usize) -> Self {
        let len = capacity.clamp(64, MAX_LEN);
        Self { buffer: vec![0; len], head: len, min_align: 1, vtables: Vec::new() }
    }

    /// Writes a string. Equal strings are not shared, since the reference does not share them.
    pub(in crate::ztoc) fn string(&mut self, text: &[u8]) -> Result<Mark> {
        self.align(4, text.len().saturating_add(1))?;
        self.head -= 1; // the terminating NUL
        self.put(text);
        self.put(&low32(text.len()).to_le_bytes());
        Ok(self.mark())
    }

    /// Writes a vector of `len` bytes, which `fill` writes in place, so that the largest part of a
    /// zTOC is not held in memory twice. `fill` is given zeros.
    pub(in crate::ztoc) fn byte_vector(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Mark> {
        self.align(4, len)?;
        let end = self.head;
        self.head -= len;
        fill(&mut self.buffer[self.head..end]);
        self.put(&low32(len).to_le_bytes());
        Ok(self.mark())
    }

    /// Writes a vector of references to objects that have been written.
    pub(in crate::ztoc) fn vector(&mut self, targets: &[Mark]) -> Result<Mark> {
        self.align(4, targets.len().saturating_mul(4))?;
        for &target in targets.iter().rev() {
            self.put_reference(target);
        }
        self.put(&low32(targets.len()).to_le_bytes());
        Ok(self.mark())
    }

    /// Starts a table. Fields are written in the order of the calls.
    pub(in crate::ztoc) fn table(&mut self) -> TableBuilder<'_> {
        let end = self.mark();
        TableBuilder { builder: self, end, slots: [Mark::default(); MAX_SLOTS] }
    }

    /// Writes the reference to `root` and returns the finished blob.
    pub(in crate::ztoc) fn finish(mut self, root: Mark) -> Result<Vec<u8>> {
        self.align(self.min_align, 4)?;
        self.put_reference(root);
        let mut blob = self.buffer;
        blob.copy_within(self.head.., 0);
        blob.truncate(blob.len() - self.head);
        Ok(blob)
    }

    /// The number of bytes written so far.
    fn written(&self) -> usize {
        self.buffer.len() - self.head
    }

    fn mark(&self) -> Mark {
        Mark(low32(self.written()))
    }

    /// Pads so that `size` divides the number of bytes written once `extra` more are written, and
    /// makes room for those and `size` more bytes.
    #[inline]
    fn align(&mut self, size: usize, extra: usize) -> Result<()> {
        self.min_align = self.min_align.max(size);
        // A length close to `usize::MAX` is not that of a real slice; it causes `TooLarge` below.
        let padding = self.written().wrapping_add(extra).wrapping_neg() & (size - 1);
        let needed = extra.saturating_add(padding + size);
        if needed >= MAX_LEN - self.written() {
            let kind = ZtocError::TooLarge { limit: MAX_LEN as u64 };
            return Err(Error::Ztoc { kind, at: 0 });
        }
        if needed > self.head {
            self.grow(needed);
        }
        self.head -= padding;
        Ok(())
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        let written = self.written();
        let len = (self.buffer.len() * 2).max(written + needed).min(MAX_LEN);
        let mut larger = vec![0; len];
        larger[len - written..].copy_from_slice(&self.buffer[self.head..]);
        self.head = len - written;
        self.buffer = larger;
    }

    /// Prepends `bytes`; `align` must have made room.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.head;
        self.head -= bytes.len();
        self.buffer[self.head..end].copy_from_slice(bytes);
    }

    /// Prepends a reference: the distance from its own first byte to `target`.
    #[inline]
    fn put_reference(&mut self, target: Mark) {
        let distance = self.mark().0 + 4 - target.0;
        self.put(&distance.to_le_bytes());
    }

    /// Finds a vtable with exactly these entries, whatever table it was written for.
    ///
    /// The reference searches the newest first and compares only entries, not the object size. No
    /// two vtables have equal entries, so the order of the search does not matter, and the one used
    /// last nearly always matches. A zTOC has at most about 2^8 distinct vtables: seven optional
    /// fields, and two possible alignments of a table.
    fn find_vtable(&mut self, entries: &[u16; MAX_SLOTS], len: usize) -> Option<Mark> {
        let at = self.vtables.iter().rposition(|v| v.len == len && v.entries == *entries)?;
        let last = self.vtables.len() - 1;
        self.vtables.swap(at, last);
        Some(self.vtables[last].mark)
    }
}

/// A builder for a table.
#[derive(Debug)]
pub(in crate::ztoc) struct TableBuilder<'b> {
    builder: &'b mut Builder,
    /// The mark before the table was started.
    end: Mark,
    /// The mark of each field; 0 means absent, since no field can have that mark.
    slots: [Mark; MAX_SLOTS],
}

impl TableBuilder<'_> {
    /// Writes a field of eight bytes unless it is 0, its default.
    pub(in crate::ztoc) fn int64(&mut self, slot: usize, value: i64) -> Result<()> {
        if value == 0 { Ok(()) } else { self.scalar(slot, value.to_le_bytes()) }
    }

    /// Writes a field of four bytes unless it is 0, its default.
    pub(in crate::ztoc) fn int32(&mut self, slot: usize, value: i32) -> Result<()> {
        if value == 0 { Ok(()) } else { self.scalar(slot, value.to_le_bytes()) }
    }

    /// Writes a field of four bytes unless it is 0, its default.
    pub(in crate::ztoc) fn uint32(&mut self, slot: usize, value: u32) -> Result<()> {
        if value == 0 { Ok(()) } else { self.scalar(slot, value.to_le_bytes()) }
    }

    /// Writes a field of one byte unless it is its default.
    pub(in crate::ztoc) fn int8(&mut self, slot: usize, value: i8, default: i8) -> Result<()> {
        if value == default { Ok(()) } else { self.scalar(slot, value.to_le_bytes()) }
    }

    /// Writes a reference to an object that has been written.
    #[inline]
    pub(in crate::ztoc) fn reference(&mut self, slot: usize, target: Mark) -> Result<()> {
        self.builder.align(4, 0)?;
        self.builder.put_reference(target);
        self.slots[slot] = self.builder.mark();
        Ok(())
    }

    #[inline]
    fn scalar<const N: usize>(&mut self, slot: usize, bytes: [u8; N]) -> Result<()> {
        self.builder.align(N, 0)?;
        self.builder.put(&bytes);
        self.slots[slot] = self.builder.mark();
        Ok(())
    }

    /// Ends the table with its vtable, or with a reference to an equal one.
    pub(in crate::ztoc) fn finish(self) -> Result<Mark> {
        let Self { builder, end, slots } = self;
        builder.align(4, 0)?;
        builder.put(&[0; 4]);
        let table = builder.mark();
        let len = slots.iter().rposition(|slot| slot.0 != 0).map_or(0, |last| last + 1);
        let mut entries = [0; MAX_SLOTS];
        for (entry, slot) in entries.iter_mut().zip(slots).filter(|(_, slot)| slot.0 != 0) {
            *entry = low16(table.0 - slot.0);
        }
        let vtable = match builder.find_vtable(&entries, len) {
            Some(mark) => mark,
            None => {
                // One call for the whole vtable: fields of two bytes need no padding between them.
                builder.align(2, 2 * len + 2)?;
                for entry in entries[..len].iter().rev() {
                    builder.put(&entry.to_le_bytes());
                }
                builder.put(&low16(table.0 - end.0).to_le_bytes());
                builder.put(&low16(low32(2 * len + 4)).to_le_bytes());
                let mark = builder.mark();
                builder.vtables.push(Vtable { entries, len, mark });
                mark
            }
        };
        // Signed: positive for a new vtable, which precedes the table, negative for an existing
        // one.
        let distance = vtable.0.wrapping_sub(table.0);
        let at = builder.buffer.len() - table.0 as usize;
        builder.buffer[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        Ok(table)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "`align` keeps every length below MAX_LEN, 2^30"
)]
const fn low32(len: usize) -> u32 {
    len as u32
}

#[allow(clippy::cast_possible_truncation, reason = "a table of 14 fields has at most 128 bytes")]
const fn low16(len: u32) -> u16 {
    len as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(capacity: usize) -> Vec<u8> {
        let mut builder = Builder::with_capacity(capacity);
        let text = builder.string(&[b'x'; 100]).unwrap();
        let bytes = builder.byte_vector(3001, |out| out.fill(7)).unwrap();
        let mut table = builder.table();
        table.int64(2, -1).unwrap();
        table.reference(0, text).unwrap();
        table.reference(1, bytes).unwrap();
        let root = table.finish().unwrap();
        builder.finish(root).unwrap()
    }

    #[test]
    fn test_builder_when_buffer_grows_then_bytes_are_the_same() {
        assert_eq!(blob(0), blob(1 << 20));
    }

    #[test]
    fn test_builder_when_blob_would_reach_1_gib_then_fails_as_in_go() {
        let refused = Err(Error::Ztoc { kind: ZtocError::TooLarge { limit: 1 << 30 }, at: 0 });
        // Four bytes for the length and one spare byte; three bytes fewer would need padding.
        let mut builder = Builder::with_capacity(0);
        assert_eq!(builder.align(4, MAX_LEN - 4), refused);
        assert_eq!(builder.align(4, usize::MAX), refused);
        assert_eq!(builder.align(4, MAX_LEN - 8), Ok(()));
    }
}
