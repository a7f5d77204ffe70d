//! The fast decoder: literals and matches of one block, while there is enough input and room for
//! output.
//!
//! This is the only file of the core in which `unsafe` is allowed, so calls of other code compiled for
//! newer CPUs are here too. What makes it fast:
//!
//! * a 64-bit bit buffer, refilled without a branch with one unaligned 8-byte load: the whole
//!   word is ORed in above the bits held, and the read position advances by the bytes that fit.
//!   Bits above the count are then not zero but equal to the next input bits, so ORing the next
//!   word over them changes nothing;
//! * one lookup per symbol, or one for two literals with short code words, and up to three
//!   lookups of literals between refills. Both bytes of an entry are always stored, whether it has
//!   one literal or two, and only the advance differs: a branch would be mispredicted too often;
//! * a dependency chain of one shift, one mask and one load per symbol, which is what limits the
//!   speed: each entry is looked up with bits that are already held, and the refill that follows is
//!   needed only by the lookup after that;
//! * loading the next symbol's entry before copying a match, so that the two overlap;
//! * copying matches in words that may overrun the end of the match, into slack. The loop makes
//!   no calls, so all of its state stays in registers.
//!
//! What makes it safe: both margins are checked once per iteration, at the head of the loop, and
//! every load and store stays within them. At a bit pattern that is not a literal, a length or an
//! end of block, the loop stops without consuming it; the plain decoder then reads it again and
//! reports the error.

#![allow(
    unsafe_code,
    reason = "unchecked loads and stores inside margins checked once per iteration"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "shift counts and payloads are small by layout"
)]

use std::ptr;

use crate::checkpoint::WINDOW_LEN;
use crate::error::{CodeName, GzipError};
use crate::inflate::bits::BitBuffer;
use crate::inflate::huffman::{BlockTables, DISTANCE_BITS, LITLEN_BITS, low_bits};
use crate::inflate::record::Match;
use crate::inflate::tables::{
    self, END_OF_BLOCK, EXCEPTIONAL, LITERALS, MAX_MATCH, SUBTABLE, consumed,
};
use crate::inflate::unit::Unit;
use crate::inflate::window::{COPY_OVERRUN, OutputWindow, SLACK_LEN};

/// Input required at the head of an iteration, which refills at most twice; each refill loads 8
/// bytes and advances by at most 7.
const INPUT_MARGIN: usize = 2 * 8;
/// Room for output required at the head of an iteration: three pairs of literals, a match, and the
/// overrun of its copy.
const OUTPUT_MARGIN: usize = 6 + MAX_MATCH + COPY_OVERRUN;

const _: () = assert!(OUTPUT_MARGIN <= SLACK_LEN + 6);

/// Maximum bits of a length: code word and extra bits (RFC 1951 §3.2.5).
const LENGTH_BITS_MAX: u32 = 15 + 5;
/// Extra bits of the largest distances.
const DISTANCE_EXTRA_MAX: u32 = 13;
/// Bits held after a refill.
const REFILLED: u32 = 56;
/// Bits that a distance from the main table and the lookup after it may need.
const DISTANCE_NEEDS: u8 = (DISTANCE_BITS + DISTANCE_EXTRA_MAX + LITLEN_BITS) as u8;

// Three entries of literals, and the lookup of the next entry.
const _: () = assert!(3 * LITLEN_BITS + LITLEN_BITS <= REFILLED);
// Two entries of literals, one literal from a subtable, and the lookup of the next entry.
const _: () = assert!(2 * LITLEN_BITS + 15 + LITLEN_BITS <= REFILLED);
// Two entries of literals, a length, and the lookup of its distance.
const _: () = assert!(2 * LITLEN_BITS + LENGTH_BITS_MAX + DISTANCE_BITS <= REFILLED);
// A distance from a subtable, and the lookup of the next entry.
const _: () = assert!(15 + DISTANCE_EXTRA_MAX + LITLEN_BITS <= REFILLED);

/// Number of matches that one call may record.
const MAX_RECORDED: usize = 4 << 10;

/// Decodes symbols of the current block and returns whether its end was reached.
///
/// Otherwise it stopped because `input` or `output` is too short, or before a symbol that the plain
/// decoder must handle, or because it has written at least `max_len` units.
///
/// # Errors
///
/// An invalid distance. The bits before its code word have been consumed, its own bits have not.
pub(super) fn decode<U: Unit>(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow<U>,
    max_len: u64,
) -> Result<bool, GzipError> {
    let matches = &mut Vec::new();
    let limits =
        Limits { input: usize::MAX, output: usize::try_from(max_len).unwrap_or(usize::MAX) };
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("bmi2") {
        // SAFETY: the CPU supports BMI2.
        return unsafe { decode_bmi2(tables, bits, input, output, limits) };
    }
    decode_body::<U, false>(tables, bits, input, output, limits, matches)
}

/// Like [`decode`], but appends each match to `matches`, and may stop once it has used `max_input`
/// bytes.
pub(super) fn decode_recording<U: Unit>(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow<U>,
    max_input: usize,
    matches: &mut Vec<Match>,
) -> Result<bool, GzipError> {
    let limits = Limits { input: max_input, output: usize::MAX };
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("bmi2") {
        // SAFETY: the CPU supports BMI2.
        return unsafe { decode_recording_bmi2(tables, bits, input, output, limits, matches) };
    }
    decode_body::<U, true>(tables, bits, input, output, limits, matches)
}

/// Work on bits, for [`with_bit_instructions`]. `run` and what it calls must be inlined to be compiled
/// with these instructions.
pub(crate) trait BitWork {
    /// The result.
    type Output;

    /// Does the work.
    fn run(self) -> Self::Output;
}

/// Runs `work` with the CPU's instructions for counting and shifting bits, if it has them. Without
/// them, counting the bits of a word takes a dozen instructions.
pub(crate) fn with_bit_instructions<W: BitWork>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("popcnt")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
    {
        // SAFETY: the CPU supports these instructions.
        return unsafe { run_with_bit_instructions(work) };
    }
    work.run()
}

/// # Safety
///
/// The CPU must support POPCNT, BMI1 and BMI2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt,bmi1,bmi2")]
unsafe fn run_with_bit_instructions<W: BitWork>(work: W) -> W::Output {
    work.run()
}

/// The number of bytes of input, and of units of output, after which the loop stops.
#[derive(Clone, Copy)]
struct Limits {
    input: usize,
    output: usize,
}

/// The same loop, compiled with BMI2 shifts, which take any register and do not change the flags.
///
/// # Safety
///
/// The CPU must support BMI2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi2")]
unsafe fn decode_bmi2<U: Unit>(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow<U>,
    limits: Limits,
) -> Result<bool, GzipError> {
    // A loop that crosses a 4 KiB page boundary is 4 to 7 % slower (measured on Zen 5). This aligns
    // the function's section, and so the function, to 2 KiB; the function takes three quarters of
    // that. Miri does not support inline assembly.
    // SAFETY: an assembler directive, which emits at most one byte of padding, a NOP.
    #[cfg(not(miri))]
    unsafe {
        std::arch::asm!(".p2align 11, , 1", options(nomem, nostack, preserves_flags));
    }
    decode_body::<U, false>(tables, bits, input, output, limits, &mut Vec::new())
}

/// The same loop, but recording matches.
///
/// # Safety
///
/// The CPU must support BMI2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi2")]
unsafe fn decode_recording_bmi2<U: Unit>(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow<U>,
    limits: Limits,
    matches: &mut Vec<Match>,
) -> Result<bool, GzipError> {
    // See `decode_bmi2`.
    // SAFETY: an assembler directive, which emits at most one byte of padding, a NOP.
    #[cfg(not(miri))]
    unsafe {
        std::arch::asm!(".p2align 11, , 1", options(nomem, nostack, preserves_flags));
    }
    decode_body::<U, true>(tables, bits, input, output, limits, matches)
}

/// The bit buffer and the read position. Only the low 8 bits of `count` are meaningful, so that a
/// whole entry can be subtracted without masking its low byte first.
#[derive(Clone, Copy)]
struct Reader {
    value: u64,
    count: u32,
    next: *const u8,
}

impl Reader {
    /// Refills the buffer to at least 56 bits.
    ///
    /// # Safety
    ///
    /// At least 8 bytes must be readable at `next`.
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

/// The base plus the extra bits of an entry; `bits` start with its code word. Bits 12 to 15 of an
/// entry with a value are zero, so the length of the code word needs no mask.
#[inline(always)]
const fn value(entry: u32, bits: u64) -> usize {
    let with_extra = bits & !(!0 << (consumed(entry) & 63));
    ((entry >> 16) as usize).wrapping_add((with_extra >> (entry >> 8 & 63)) as usize)
}

#[inline(always)]
fn decode_body<U: Unit, const RECORD: bool>(
    tables: &BlockTables,
    bits: &mut BitBuffer,
    input: &mut &[u8],
    output: &mut OutputWindow<U>,
    limits: Limits,
    matches: &mut Vec<Match>,
) -> Result<bool, GzipError> {
    let taken = output.taken();
    let (buffer, start, floor) = output.raw_parts();
    let whole = *input;
    let Some(input_limit) = whole.len().checked_sub(INPUT_MARGIN) else { return Ok(false) };
    let Some(output_limit) = buffer.len().checked_sub(OUTPUT_MARGIN) else { return Ok(false) };
    if start > output_limit {
        return Ok(false);
    }
    let input_limit = input_limit.min(limits.input);
    let output_limit = output_limit.min(start.saturating_add(limits.output));
    if RECORD {
        matches.reserve(MAX_RECORDED);
    }

    let (value_held, count_held) = bits.parts();
    let mut reader = Reader { value: value_held, count: count_held, next: whole.as_ptr() };
    let next_limit = whole.as_ptr().wrapping_add(input_limit);
    let base = buffer.as_mut_ptr();
    let mut out = base.wrapping_add(start);
    let out_limit = base.wrapping_add(output_limit);
    let floor = base.wrapping_add(floor) as usize;
    let taken = base.wrapping_add(taken) as usize;
    let first_match =
        if RECORD { matches.as_mut_ptr().wrapping_add(matches.len()) } else { ptr::null_mut() };
    let mut next_match = first_match;
    let match_limit = first_match.wrapping_add(MAX_RECORDED);
    let mut block_ended = false;
    let mut failure = None;

    // SAFETY: `whole` has at least INPUT_MARGIN bytes.
    unsafe { reader.refill() };
    let mut entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
    // SAFETY (of the raw accesses in this loop): at the head of an iteration `reader.next` is at
    // most `input_limit` bytes into `whole`, so INPUT_MARGIN bytes can be read, which is enough for
    // two refills. `out` is at most `output_limit` units into `buffer`, so OUTPUT_MARGIN units can
    // be written, which is enough for three pairs of literals, or for two pairs, the longest match
    // and the overrun of its copy. A match is copied from `out - distance`, which is at least
    // `floor` because that is checked first. Matches are recorded only below `match_limit`, up to
    // which `matches` has room.
    while reader.next <= next_limit && out <= out_limit && (!RECORD || next_match < match_limit) {
        // At this point at least 56 bits are held, and `entry` is the main-table entry of the next
        // symbol. Its bits are consumed before it is examined; `before` keeps them for the extra
        // bits of a length.
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
                    // SAFETY: see the head of the loop; this is the only refill of the iteration,
                    // and at most its third pair of literals.
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
                // SAFETY: see the head of the loop; this is the only refill of the iteration, and
                // at most two pairs come before this one.
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
            // SAFETY: see the head of the loop; this is the first refill of the iteration.
            unsafe { reader.refill() };
            if distance_entry & SUBTABLE != 0 {
                distance_entry = tables.distance_subtable(distance_entry, reader.value);
            }
            if distance_entry & EXCEPTIONAL != 0 {
                failure = Some(GzipError::InvalidSymbol(CodeName::Distance));
                break;
            }
        } else if (reader.count as u8) < DISTANCE_NEEDS {
            // Taken mostly after two entries of literals, so the branch costs less than always
            // refilling.
            // SAFETY: see the head of the loop; this is the first refill of the iteration.
            unsafe { reader.refill() };
        }
        let distance = value(distance_entry, reader.value);
        let available = (out as usize).wrapping_sub(floor) / size_of::<U>();
        if distance > available {
            failure = Some(too_far(distance, available));
            break;
        }
        reader.consume(distance_entry);
        if RECORD {
            let offset = (out as usize).wrapping_sub(taken) / size_of::<U>();
            // SAFETY: see the head of the loop; an iteration has at most one match.
            unsafe {
                next_match.write(Match::new(offset, distance, len));
                next_match = next_match.add(1);
            }
        }

        // The next symbol's entry loads while the match is copied.
        entry = tables.litlen[low_bits(reader.value, LITLEN_BITS)];
        // SAFETY: see the head of the loop; this is at most the second refill of the iteration, the
        // match follows at most two pairs, and `distance` units lie before `out` (checked above).
        out = unsafe {
            reader.refill();
            copy_match(out, distance, len);
            out.add(len)
        };
    }

    if RECORD {
        let recorded =
            (next_match as usize).wrapping_sub(first_match as usize) / size_of::<Match>();
        // SAFETY: at most MAX_RECORDED more than before, for which there is room, and all were
        // written.
        unsafe { matches.set_len(matches.len() + recorded) };
    }
    let count = reader.count & 0xff;
    let used = (reader.next as usize).wrapping_sub(whole.as_ptr() as usize);
    // A refill leaves bits above the count, from bytes that the read position has not passed. They
    // must be cleared.
    let value = reader.value & !(!0_u64 << (count & 63));
    *bits = BitBuffer::from_parts(value, count & 63);
    *input = &whole[used..];
    let end = (out as usize).wrapping_sub(base as usize) / size_of::<U>();
    output.advance_to(end);
    failure.map_or(Ok(block_ended), Err)
}

/// Writes the one or two literals of an entry and returns the position after them.
///
/// # Safety
///
/// Two units must be writable at `to`.
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

/// Copies `len` units (3 to 258) from `distance` units before `to`; may write up to `COPY_OVERRUN`
/// bytes more.
///
/// # Safety
///
/// `distance` must not be 0, that many units must be readable before `to`, and `len + COPY_OVERRUN`
/// units must be writable at `to`.
#[inline(always)]
unsafe fn copy_match<U: Unit>(to: *mut U, distance: usize, len: usize) {
    // SAFETY: by this function's contract; each step below writes fewer than COPY_OVERRUN bytes
    // beyond `len` units, and reads only units that were written before. Units have no padding, so
    // they may be copied as words.
    unsafe {
        let source = to.sub(distance).cast_const();
        let (from, to) = (source.cast::<u8>(), to.cast::<u8>());
        let (distance, len) =
            (distance.wrapping_mul(size_of::<U>()), len.wrapping_mul(size_of::<U>()));
        if distance >= 8 {
            // Most matches are short: copy five words without a branch.
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
            // A run of one unit. `write_bytes` would be a call.
            let word = source.read().word();
            let mut done = 0;
            while done < len {
                ptr::write_unaligned(to.add(done).cast::<u64>(), word);
                ptr::write_unaligned(to.add(done.wrapping_add(8)).cast::<u64>(), word);
                done = done.wrapping_add(16);
            }
        } else {
            // The first `distance` bytes of the word written at `done` are valid; the next word
            // starts after them.
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
/// `N` bytes must be readable at `from` and writable at `to`.
#[inline(always)]
unsafe fn copy_word<const N: usize>(from: *const u8, to: *mut u8) {
    // SAFETY: by this function's contract.
    unsafe {
        ptr::write_unaligned(to.cast::<[u8; N]>(), ptr::read_unaligned(from.cast::<[u8; N]>()));
    }
}
