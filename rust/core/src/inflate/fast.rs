//! The fast decoder: literals and matches of one block while input and output leave room.
//!
//! The one file of the core where `unsafe` is allowed. What makes it fast:
//!
//! * a 64-bit bit buffer refilled without a branch by one unaligned 8-byte load: the whole word is
//!   OR-ed in above the bits held, and the read position moves by the bytes that fitted. Bits above
//!   the count are then not zero but equal to the input bits that come next, so that OR-ing the next
//!   word over them changes nothing;
//! * one look-up a symbol; up to three literals between refills;
//! * the next symbol's entry is loaded before a match is copied, so that the two overlap;
//! * matches are copied in words that may run over the match's end, into slack.
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
    END_OF_BLOCK, EXCEPTIONAL, LITERAL, MAX_MATCH, SUBTABLE, code_len, consumed, payload,
};
use crate::inflate::window::{COPY_OVERRUN, OutputWindow, SLACK_LEN};

/// Input that must be left when a round's margins are checked: two refills follow before the next
/// check, each of which loads 8 bytes and moves on by at most 7.
const INPUT_MARGIN: usize = 2 * 8;
/// Output that must be left at the head of a round: three literals, a match, and a copy's overrun.
const OUTPUT_MARGIN: usize = 3 + MAX_MATCH + COPY_OVERRUN;

const _: () = assert!(OUTPUT_MARGIN <= SLACK_LEN + 3);

/// Decodes symbols of the current block; whether its end was reached.
///
/// Otherwise it stopped for lack of room in `input` or `output`, or before a symbol that the plain
/// decoder must look at.
///
/// # Errors
///
/// An invalid distance; the bits before its code word are used, those of it are not.
pub(super) fn decode(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow,
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
unsafe fn decode_bmi2(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow,
) -> Result<bool, GzipError> {
    decode_body(tables, bits, input, output)
}

/// The bit buffer and read position of a round. Only the low 8 bits of `count` mean anything, so that
/// a whole entry can be subtracted where only its low byte is wanted.
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

/// Base and extra bits of an entry; `bits` start with its code word.
#[inline(always)]
const fn value(entry: u32, bits: u64) -> usize {
    let with_extra = bits & !(!0 << (consumed(entry) & 63));
    (payload(entry) as usize).wrapping_add((with_extra >> (code_len(entry) & 63)) as usize)
}

#[inline(always)]
fn decode_body(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow,
) -> Result<bool, GzipError> {
    let (buffer, start, floor) = output.raw_parts();
    let buffer_len = buffer.len();
    let base = buffer.as_mut_ptr();
    let whole = *input;
    let Some(input_limit) = whole.len().checked_sub(INPUT_MARGIN) else { return Ok(false) };
    let Some(output_limit) = buffer_len.checked_sub(OUTPUT_MARGIN) else { return Ok(false) };

    let (value_held, count_held) = bits.parts();
    let mut reader = Reader { value: value_held, count: count_held, next: whole.as_ptr() };
    let mut end = start;
    let mut block_ended = false;
    let mut failure = None;

    // SAFETY (of the raw accesses in this loop): when the margins are checked `reader.next` is at most
    // `input_limit` bytes into `whole`, so INPUT_MARGIN bytes can be read: enough for the two refills
    // until the next check. `end` is at most `output_limit`, so OUTPUT_MARGIN bytes can be written: enough for three
    // literals, the longest match and its copy's overrun. A match is copied from `end - distance`,
    // which is at least `floor` because that is checked first.
    let input_start = whole.as_ptr() as usize;
    let mut entry;
    if input_limit_reached(&reader, input_start, input_limit) || end > output_limit {
        return Ok(false);
    }
    // SAFETY: the margins were just checked.
    unsafe { reader.refill() };
    entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
    loop {
        // Here: at least 56 bits are held, and `entry` is the main-table entry of the next symbol.
        // Three literals from the main table take at most 3 x 11 bits.
        if entry & LITERAL != 0 {
            reader.consume(entry);
            let first = payload(entry) as u8;
            entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
            // SAFETY: see the head of the loop.
            unsafe { base.add(end).write(first) };
            end = end.wrapping_add(1);
            if entry & LITERAL != 0 {
                reader.consume(entry);
                let second = payload(entry) as u8;
                entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
                // SAFETY: see the head of the loop.
                unsafe { base.add(end).write(second) };
                end = end.wrapping_add(1);
                if entry & LITERAL != 0 {
                    reader.consume(entry);
                    // SAFETY: see the head of the loop.
                    unsafe { base.add(end).write(payload(entry) as u8) };
                    end = end.wrapping_add(1);
                    if input_limit_reached(&reader, input_start, input_limit) || end > output_limit
                    {
                        break;
                    }
                    // SAFETY: the margins were just checked.
                    unsafe { reader.refill() };
                    entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
                    continue;
                }
            }
        }
        // At least 56 - 22 = 34 bits are held: enough for a length (15 + 5).
        if entry & EXCEPTIONAL != 0 {
            if entry & SUBTABLE != 0 {
                entry = tables.litlen_subtable(entry, reader.value);
            }
            if entry & LITERAL != 0 {
                reader.consume(entry);
                // SAFETY: see the head of the loop; this is the third literal at most.
                unsafe { base.add(end).write(payload(entry) as u8) };
                end = end.wrapping_add(1);
                if input_limit_reached(&reader, input_start, input_limit) || end > output_limit {
                    break;
                }
                // SAFETY: the margins were just checked.
                unsafe { reader.refill() };
                entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
                continue;
            }
            if entry & EXCEPTIONAL != 0 {
                if entry & END_OF_BLOCK != 0 {
                    reader.consume(entry);
                    block_ended = true;
                }
                break;
            }
        }
        let len = value(entry, reader.value);
        reader.consume(entry);

        // A distance needs at most 15 + 13 bits, and the next entry 11: fewer than 56.
        // SAFETY: see the head of the loop; the second refill of the round.
        unsafe { reader.refill() };
        let mut distance_entry = tables.distance[low_bits(reader.value, DISTANCE_BITS)];
        if distance_entry & EXCEPTIONAL != 0 {
            if distance_entry & SUBTABLE != 0 {
                distance_entry = tables.distance_subtable(distance_entry, reader.value);
            }
            if distance_entry & EXCEPTIONAL != 0 {
                failure = Some(GzipError::InvalidSymbol(CodeName::Distance));
                break;
            }
        }
        let distance = value(distance_entry, reader.value);
        let available = end.wrapping_sub(floor);
        if distance > available {
            failure = Some(too_far(distance, available));
            break;
        }
        reader.consume(distance_entry);

        // The next symbol's entry is on its way while the match is copied.
        let more = !input_limit_reached(&reader, input_start, input_limit)
            && end.wrapping_add(len) <= output_limit;
        if more {
            // SAFETY: `next` was just checked against its margin.
            unsafe { reader.refill() };
        }
        entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
        // SAFETY: `end` has room for the match and a copy's overrun (head of the loop), and
        // `distance` bytes lie before it (checked above).
        unsafe { copy_match(base.add(end), distance, len) };
        end = end.wrapping_add(len);
        if !more {
            break;
        }
    }

    let count = reader.count & 0xff;
    let used = (reader.next as usize).wrapping_sub(input_start);
    // The refill may have counted up to 63 bits; whatever is above the count came from bytes not yet
    // passed over and must not stay.
    let value = reader.value & !(!0_u64 << (count & 63));
    *bits = BitBuffer::from_parts(value, count & 63);
    *input = &whole[used..];
    output.advance_to(end);
    failure.map_or(Ok(block_ended), Err)
}

#[inline(always)]
fn input_limit_reached(reader: &Reader, input_start: usize, input_limit: usize) -> bool {
    (reader.next as usize).wrapping_sub(input_start) > input_limit
}

#[cold]
fn too_far(distance: usize, available: usize) -> GzipError {
    let available = available.min(WINDOW_LEN) as u32;
    GzipError::DistanceTooFar { distance: distance as u32, available }
}

/// Copies `len` (3 to 258) bytes from `distance` before `to`; writes up to `COPY_OVERRUN` more.
///
/// # Safety
///
/// `distance` is not 0, that many bytes can be read before `to`, and `len + COPY_OVERRUN` written at
/// it.
#[inline(always)]
unsafe fn copy_match(to: *mut u8, distance: usize, len: usize) {
    // SAFETY: by this function's contract; each step below writes less than COPY_OVERRUN bytes beyond
    // `len`, and reads only bytes that were written before.
    unsafe {
        let from = to.sub(distance).cast_const();
        if distance >= 16 {
            // Most matches are short: two words without asking.
            copy_word::<16>(from, to);
            copy_word::<16>(from.add(16), to.add(16));
            let mut done = 32;
            while done < len {
                copy_word::<16>(from.add(done), to.add(done));
                copy_word::<16>(from.add(done.wrapping_add(16)), to.add(done.wrapping_add(16)));
                done = done.wrapping_add(32);
            }
        } else if distance == 1 {
            ptr::write_bytes(to, from.read(), len);
        } else if distance >= 8 {
            let mut done = 0;
            while done < len {
                copy_word::<8>(from.add(done), to.add(done));
                done = done.wrapping_add(8);
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
