//! Writes a flatbuffer back to front, byte for byte as flatbuffers-go does.

use super::MAX_LEN;
use crate::error::{Error, Result, ZtocError};

/// The widest table of a zTOC, `FileMetadata`, has 14 fields.
const MAX_SLOTS: usize = 14;

/// Where an object starts, as its distance from the end: that does not change while bytes are
/// put before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::ztoc) struct Mark(u32);

/// A vtable already in the buffer. Entries are distances from the table's start, 0 for absent.
#[derive(Debug, Clone, Copy)]
struct Vtable {
    entries: [u16; MAX_SLOTS],
    len: usize,
    mark: Mark,
}

/// A flatbuffer in the making.
#[derive(Debug)]
pub(in crate::ztoc) struct Builder {
    /// Finished bytes from `head` on; zeros before it, so that padding needs no writing.
    buffer: Vec<u8>,
    head: usize,
    /// The widest alignment asked for so far; it decides the padding before the root offset.
    min_align: usize,
    /// Distinct vtables, the last used one last.
    vtables: Vec<Vtable>,
}

impl Builder {
    /// Starts an empty buffer; `capacity` bytes will fit before it has to grow.
    pub(in crate::ztoc) fn with_capacity(capacity: usize) -> Self {
        let len = capacity.clamp(64, MAX_LEN);
        Self { buffer: vec![0; len], head: len, min_align: 1, vtables: Vec::new() }
    }

    /// Writes a string. Equal strings are written again each time: the reference never shares them.
    pub(in crate::ztoc) fn string(&mut self, text: &[u8]) -> Result<Mark> {
        self.align(4, text.len().saturating_add(1))?;
        self.head -= 1; // the terminating NUL
        self.put(text);
        self.put(&low32(text.len()).to_le_bytes());
        Ok(self.mark())
    }

    /// Writes a vector of `len` bytes, which `fill` puts in place: the largest part of a zTOC is
    /// never held twice. `fill` gets zeros.
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

    /// Writes a vector of references to objects already written.
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

    /// How many bytes are written.
    fn written(&self) -> usize {
        self.buffer.len() - self.head
    }

    fn mark(&self) -> Mark {
        Mark(low32(self.written()))
    }

    /// Pads so that, once `extra` more bytes are written, `size` divides the number of bytes
    /// written, and makes room for those and `size` more.
    #[inline]
    fn align(&mut self, size: usize, extra: usize) -> Result<()> {
        self.min_align = self.min_align.max(size);
        // A length near the top of `usize` can be no real slice; it ends as `TooLarge` below.
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

    /// Puts `bytes` before all others; `align` has made the room.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.head;
        self.head -= bytes.len();
        self.buffer[self.head..end].copy_from_slice(bytes);
    }

    /// Puts a reference: the distance from its own first byte to `target`.
    #[inline]
    fn put_reference(&mut self, target: Mark) {
        let distance = self.mark().0 + 4 - target.0;
        self.put(&distance.to_le_bytes());
    }

    /// The vtable with exactly these entries, whatever table it was written for.
    ///
    /// The reference searches newest first and compares entries only, not the object size. No two
    /// vtables here have equal entries, so the order of the search is free, and the last used one
    /// nearly always fits. A zTOC has at most some 2^8 distinct ones: seven optional fields, and
    /// two alignments a table can start with.
    fn find_vtable(&mut self, entries: &[u16; MAX_SLOTS], len: usize) -> Option<Mark> {
        let at = self.vtables.iter().rposition(|v| v.len == len && v.entries == *entries)?;
        let last = self.vtables.len() - 1;
        self.vtables.swap(at, last);
        Some(self.vtables[last].mark)
    }
}

/// A table in the making.
#[derive(Debug)]
pub(in crate::ztoc) struct TableBuilder<'b> {
    builder: &'b mut Builder,
    /// What was written before the table.
    end: Mark,
    /// Where each field is; nothing is ever at 0, so that means absent.
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

    /// Writes a reference to an object already written.
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

    /// Ends the table with its vtable, or a reference to an equal one written before.
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
                // One call for the whole: two bytes at a time never need padding here.
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
        // Signed: positive for a new vtable, which lies before the table, negative for an old one.
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
    fn test_builder_when_it_grows_then_bytes_are_the_same() {
        assert_eq!(blob(0), blob(1 << 20));
    }

    #[test]
    fn test_builder_when_blob_would_reach_1_gib_then_refuses_as_go_does() {
        let refused = Err(Error::Ztoc { kind: ZtocError::TooLarge { limit: 1 << 30 }, at: 0 });
        // Four bytes of length and one to spare; with three more there is no padding either.
        let mut builder = Builder::with_capacity(0);
        assert_eq!(builder.align(4, MAX_LEN - 4), refused);
        assert_eq!(builder.align(4, usize::MAX), refused);
        assert_eq!(builder.align(4, MAX_LEN - 8), Ok(()));
    }
}
