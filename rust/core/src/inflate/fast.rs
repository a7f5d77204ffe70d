//! The fast decoder: literals and matches of one block while input and output leave room.
//!
//! The one file of the core where `unsafe` is allowed. What makes it fast:
//!
//! * a 64-bit bit buffer refilled without a branch by one unaligned 8-byte load: the whole word is
//!   OR-ed in above the bits held, and the read position moves by the bytes that fitted. Bits above
//!   the count are then not zero but equal to the input bits that come next, so that OR-ing the next
//!   word over them changes nothing;
//! * one look-up a symbol, or one for two literals with short code words; up to three look-ups of
//!   literals between refills. Both bytes of an entry are stored, whether it has one literal or two, and
//!   only the step behind them differs: a branch would be guessed wrong too often;
//! * a chain of one shift, one mask and one load from symbol to symbol, which is what bounds the speed:
//!   each entry is looked up in bits that are held already, and the refill that follows is needed
//!   only by the look-up after that;
//! * the next symbol's entry is loaded before a match is copied, so that the two overlap;
//! * matches are copied in words that may run over the match's end, into slack. No call is made in
//!   the loop, so that all of its state stays in registers.
//!
//! What makes it safe: both margins are checked once a round, at the head of the loop, and every load
//! and store below is within them. A pattern that is no literal, length or end of block leaves the loop
//! unused, and the plain decoder meets it again and tells.

#![allow(unsafe_code, reason = "unchecked loads and stores inside margins checked once a round")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "shift counts and payloads are small by layout"
)]

use std::ptr;

use crate::checkpoint::WINDOW_LEN;
use crate::error::{CodeName, GzipError};
use crate::inflate::bits::BitBuffer;
use crate::inflate::huffman::{BlockTables, DISTANCE_BITS, LITLEN_BITS, low_bits};
use crate::inflate::tables::{
    self, END_OF_BLOCK, EXCEPTIONAL, LITERALS, MAX_MATCH, SUBTABLE, consumed,
};
use crate::inflate::unit::Unit;
use crate::inflate::window::{COPY_OVERRUN, OutputWindow, SLACK_LEN};

/// Input that must be left at the head of a round: it has two refills at most, each of which loads 8
/// bytes and moves on by at most 7.
const INPUT_MARGIN: usize = 2 * 8;
/// Output that must be left at the head of a round: three pairs of literals, a match, and the overrun
/// of its copy.
const OUTPUT_MARGIN: usize = 6 + MAX_MATCH + COPY_OVERRUN;

const _: () = assert!(OUTPUT_MARGIN <= SLACK_LEN + 6);

/// Most bits of a length: code word and extra bits (RFC 1951 §3.2.5).
const LENGTH_BITS_MAX: u32 = 15 + 5;
/// Extra bits of the largest distances.
const DISTANCE_EXTRA_MAX: u32 = 13;
/// Bits held after a refill.
const REFILLED: u32 = 56;
/// Bits a distance from the main table may need, and the look-up that follows it.
const DISTANCE_NEEDS: u8 = (DISTANCE_BITS + DISTANCE_EXTRA_MAX + LITLEN_BITS) as u8;

// Three entries of literals, and the look-up of the next one.
const _: () = assert!(3 * LITLEN_BITS + LITLEN_BITS <= REFILLED);
// Two entries of literals, one literal from a subtable, and the look-up of the next entry.
const _: () = assert!(2 * LITLEN_BITS + 15 + LITLEN_BITS <= REFILLED);
// Two entries of literals, a length, and the look-up of its distance.
const _: () = assert!(2 * LITLEN_BITS + LENGTH_BITS_MAX + DISTANCE_BITS <= REFILLED);
// A distance from a subtable, and the look-up of the next entry.
const _: () = assert!(15 + DISTANCE_EXTRA_MAX + LITLEN_BITS <= REFILLED);

/// Decodes symbols of the current block; whether its end was reached.
///
/// Otherwise it stopped for lack of room in `input` or `output`, or before a symbol that the plain
/// decoder must look at.
///
/// # Errors
///
/// An invalid distance; the bits before its code word are used, those of it are not.
pub(super) fn decode<U: Unit>(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow<U>,
) -> Result<bool, GzipError> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("bmi2") {
        // SAFETY: the processor has BMI2.
        return unsafe { decode_bmi2(tables, bits, input, output) };
    }
    decode_body(tables, bits, input, output)
}

/// The same loop, compiled with shifts that take any register and leave the flags alone.
///
/// # Safety
///
/// The processor has BMI2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi2")]
unsafe fn decode_bmi2<U: Unit>(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow<U>,
) -> Result<bool, GzipError> {
    // The loop must not lie across a 4 KiB page: it then costs 4 to 7 % (measured on Zen 5). This aligns
    // the function's section, and so the function, to 2 KiB, of which it takes three quarters.
    // Miri reads no assembler.
    // SAFETY: a directive to the assembler, which writes at most one byte of padding, a NOP.
    #[cfg(not(miri))]
    unsafe {
        std::arch::asm!(".p2align 11, , 1", options(nomem, nostack, preserves_flags));
    }
    decode_body(tables, bits, input, output)
}

/// The bit buffer and read position of a round. Only the low 8 bits of `count` mean anything, so that
/// a whole entry can be subtracted where only its low byte is wanted.
#[derive(Clone, Copy)]
struct Reader {
    value: u64,
    count: u32,
    next: *const u8,
}

impl Reader {
    /// Holds at least 56 bits afterwards.
    ///
    /// # Safety
    ///
    /// 8 bytes can be read at `next`.
    #[inline(always)]
    unsafe fn refill(&mut self) {
        // SAFETY: by this function's contract.
        let word = u64::from_le(unsafe { ptr::read_unaligned(self.next.cast::<u64>()) });
        self.value |= word << (self.count & 63);
        // SAFETY: at most 7 of the 8 readable bytes.
        self.next = unsafe { self.next.add((7 ^ (self.count >> 3 & 7)) as usize) };
        self.count |= 56;
    }

    /// Drops the bits an entry consumes.
    #[inline(always)]
    const fn consume(&mut self, entry: u32) {
        self.value >>= entry & 63;
        self.count = self.count.wrapping_sub(entry);
    }
}

/// Base and extra bits of an entry; `bits` start with its code word. Bits 12 to 15 of an entry that has
/// a value are zero, so that the length of the code word needs no mask of its own.
#[inline(always)]
const fn value(entry: u32, bits: u64) -> usize {
    let with_extra = bits & !(!0 << (consumed(entry) & 63));
    ((entry >> 16) as usize).wrapping_add((with_extra >> (entry >> 8 & 63)) as usize)
}

#[inline(always)]
fn decode_body<U: Unit>(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow<U>,
) -> Result<bool, GzipError> {
    let (buffer, start, floor) = output.raw_parts();
    let whole = *input;
    let Some(input_limit) = whole.len().checked_sub(INPUT_MARGIN) else { return Ok(false) };
    let Some(output_limit) = buffer.len().checked_sub(OUTPUT_MARGIN) else { return Ok(false) };
    if start > output_limit {
        return Ok(false);
    }

    let (value_held, count_held) = bits.parts();
    let mut reader = Reader { value: value_held, count: count_held, next: whole.as_ptr() };
    let next_limit = whole.as_ptr().wrapping_add(input_limit);
    let base = buffer.as_mut_ptr();
    let mut out = base.wrapping_add(start);
    let out_limit = base.wrapping_add(output_limit);
    let floor = base.wrapping_add(floor) as usize;
    let mut block_ended = false;
    let mut failure = None;

    // SAFETY: `whole` has at least INPUT_MARGIN bytes.
    unsafe { reader.refill() };
    let mut entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
    // SAFETY (of the raw accesses in this loop): at the head of a round `reader.next` is at most
    // `input_limit` bytes into `whole`, so INPUT_MARGIN bytes can be read: enough for two refills. `out`
    // is at most `output_limit` bytes into `buffer`, so OUTPUT_MARGIN bytes can be written: enough for
    // three pairs of literals, or for two, the longest match and its copy's overrun. A match is copied from
    // `out - distance`, which is at least `floor` because that is checked first.
    while reader.next <= next_limit && out <= out_limit {
        // Here: at least 56 bits are held, and `entry` is the main-table entry of the next symbol. Its
        // bits are dropped before it is looked at; `before` keeps them for a length's extra bits.
        let mut before = reader;
        reader.consume(entry);
        if entry & LITERALS != 0 {
            let first = entry;
            entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
            before = reader;
            reader.consume(entry);
            // SAFETY: see the head of the loop.
            out = unsafe { write_literals(out, first) };
            if entry & LITERALS != 0 {
                let second = entry;
                entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
                before = reader;
                reader.consume(entry);
                // SAFETY: see the head of the loop.
                out = unsafe { write_literals(out, second) };
                if entry & LITERALS != 0 {
                    let third = entry;
                    entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
                    // SAFETY: see the head of the loop; the round's only refill, and its third pair at most.
                    out = unsafe {
                        reader.refill();
                        write_literals(out, third)
                    };
                    continue;
                }
            }
        }
        if entry & EXCEPTIONAL != 0 {
            if entry & SUBTABLE != 0 {
                entry = tables.litlen_subtable(entry, before.value);
                reader = before;
                reader.consume(entry);
            }
            if entry & LITERALS != 0 {
                let literal = entry;
                entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
                // SAFETY: see the head of the loop; the round's only refill, and at most two pairs before.
                out = unsafe {
                    reader.refill();
                    write_literals(out, literal)
                };
                continue;
            }
            if entry & EXCEPTIONAL != 0 {
                block_ended = entry & END_OF_BLOCK != 0;
                if !block_ended {
                    reader = before;
                }
                break;
            }
        }
        let len = value(entry, before.value);

        let mut distance_entry = tables.distance[low_bits(reader.value, DISTANCE_BITS)];
        if distance_entry & EXCEPTIONAL != 0 {
            // SAFETY: see the head of the loop; the round's first refill.
            unsafe { reader.refill() };
            if distance_entry & SUBTABLE != 0 {
                distance_entry = tables.distance_subtable(distance_entry, reader.value);
            }
            if distance_entry & EXCEPTIONAL != 0 {
                failure = Some(GzipError::InvalidSymbol(CodeName::Distance));
                break;
            }
        } else if (reader.count as u8) < DISTANCE_NEEDS {
            // Mostly after two entries of literals only, so the branch costs less than refilling always.
            // SAFETY: see the head of the loop; the round's first refill.
            unsafe { reader.refill() };
        }
        let distance = value(distance_entry, reader.value);
        let available = (out as usize).wrapping_sub(floor) / size_of::<U>();
        if distance > available {
            failure = Some(too_far(distance, available));
            break;
        }
        reader.consume(distance_entry);

        // The next symbol's entry is on its way while the match is copied.
        entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
        // SAFETY: see the head of the loop; the round's second refill, its match after two pairs at most,
        // and `distance` bytes that lie before `out` (checked above).
        out = unsafe {
            reader.refill();
            copy_match(out, distance, len);
            out.add(len)
        };
    }

    let count = reader.count & 0xff;
    let used = (reader.next as usize).wrapping_sub(whole.as_ptr() as usize);
    // The refill may have counted up to 63 bits; whatever is above the count came from bytes not yet
    // passed over and must not stay.
    let value = reader.value & !(!0_u64 << (count & 63));
    *bits = BitBuffer::from_parts(value, count & 63);
    *input = &whole[used..];
    let end = (out as usize).wrapping_sub(base as usize) / size_of::<U>();
    output.advance_to(end);
    failure.map_or(Ok(block_ended), Err)
}

/// Writes the one or two literals of an entry; the position behind them.
///
/// # Safety
///
/// Two units can be written at `to`.
#[inline(always)]
unsafe fn write_literals<U: Unit>(to: *mut U, entry: u32) -> *mut U {
    // SAFETY: by this function's contract.
    unsafe {
        ptr::write_unaligned(to.cast::<[U; 2]>(), U::literals((entry >> 16) as u16));
        to.add(tables::literal_count(entry) as usize)
    }
}

#[cold]
fn too_far(distance: usize, available: usize) -> GzipError {
    let available = available.min(WINDOW_LEN) as u32;
    GzipError::DistanceTooFar { distance: distance as u32, available }
}

/// Copies `len` (3 to 258) symbols from `distance` before `to`; writes up to `COPY_OVERRUN` more.
///
/// # Safety
///
/// `distance` is not 0, that many symbols can be read before `to`, and `len + COPY_OVERRUN` written at
/// it.
#[inline(always)]
unsafe fn copy_match<U: Unit>(to: *mut U, distance: usize, len: usize) {
    // SAFETY: by this function's contract; each step below writes less than COPY_OVERRUN bytes beyond
    // `len` symbols, and reads only symbols that were written before. Symbols have no padding, so that
    // they may be copied as words.
    unsafe {
        let source = to.sub(distance).cast_const();
        let (from, to) = (source.cast::<u8>(), to.cast::<u8>());
        let (distance, len) =
            (distance.wrapping_mul(size_of::<U>()), len.wrapping_mul(size_of::<U>()));
        if distance >= 8 {
            // Most matches are short: five words without asking.
            copy_word::<8>(from, to);
            copy_word::<8>(from.add(8), to.add(8));
            copy_word::<8>(from.add(16), to.add(16));
            copy_word::<8>(from.add(24), to.add(24));
            copy_word::<8>(from.add(32), to.add(32));
            let mut done = 40;
            while done < len {
                copy_word::<8>(from.add(done), to.add(done));
                copy_word::<8>(from.add(done.wrapping_add(8)), to.add(done.wrapping_add(8)));
                copy_word::<8>(from.add(done.wrapping_add(16)), to.add(done.wrapping_add(16)));
                copy_word::<8>(from.add(done.wrapping_add(24)), to.add(done.wrapping_add(24)));
                copy_word::<8>(from.add(done.wrapping_add(32)), to.add(done.wrapping_add(32)));
                done = done.wrapping_add(40);
            }
        } else if distance == size_of::<U>() {
            // A run of one symbol. `write_bytes` would be a call.
            let word = source.read().word();
            let mut done = 0;
            while done < len {
                ptr::write_unaligned(to.add(done).cast::<u64>(), word);
                ptr::write_unaligned(to.add(done.wrapping_add(8)).cast::<u64>(), word);
                done = done.wrapping_add(16);
            }
        } else {
            // The word written at `done` holds `distance` good bytes; the next starts behind them.
            let mut done = 0;
            while done < len {
                copy_word::<8>(from.add(done), to.add(done));
                done = done.wrapping_add(distance);
            }
        }
    }
}

/// Copies `N` bytes as one word, so that source and target may overlap.
///
/// # Safety
///
/// `N` bytes can be read at `from` and written at `to`.
#[inline(always)]
unsafe fn copy_word<const N: usize>(from: *const u8, to: *mut u8) {
    // SAFETY: by this function's contract.
    unsafe {
        ptr::write_unaligned(to.cast::<[u8; N]>(), ptr::read_unaligned(from.cast::<[u8; N]>()));
    }
}
