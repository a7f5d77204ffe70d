//! zstd (RFC 8878): decodes a layer in pieces of any size, in bounded memory.
//!
//! SOCI has no checkpoints for zstd, so a zstd layer is always read from its start. `ruzstd`
//! decodes the blocks; this module goes from frame to frame, makes the checks that `ruzstd` leaves
//! out, and bounds the memory.

use std::io::Read;

use ruzstd::decoding::errors::{FrameDecoderError, FrameHeaderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::error::{Error, Result, ZstdError};
use crate::span::CompressedOffset;

/// Largest window accepted, in bytes: that of `zstd --long`, which is also the default limit of
/// `zstd -d`.
pub const MAX_WINDOW_LEN: u64 = 128 << 20;

/// §3.1.1.2: Last_Block, Block_Type and Block_Size.
const BLOCK_HEADER_LEN: usize = 3;
/// §3.1.1.2.3: maximum size of a block, compressed or not.
const MAX_BLOCK_LEN: usize = 128 << 10;
/// §3.1.1.2.2: a block of one byte repeated Block_Size times.
const RLE_BLOCK: u32 = 1;
/// §3.1.1: the low half of an XXH64.
const CHECKSUM_LEN: usize = 4;
/// §3.1.2: magic number and Frame_Size.
const SKIPPABLE_HEADER_LEN: usize = 8;

/// Offset of Frame_Header_Descriptor (§3.1.1.1.1), the byte after the magic number.
const DESCRIPTOR_AT: usize = 4;
const CONTENT_SIZE_FLAG: u8 = 0b1100_0000;
const SINGLE_SEGMENT_FLAG: u8 = 1 << 5;
const RESERVED_BIT: u8 = 1 << 3;
const CHECKSUM_FLAG: u8 = 1 << 2;

/// A decoder for whole zstd layers: call `feed`, then `read` until it returns nothing, and repeat;
/// at the end, call `finish`.
///
/// It holds the input that is not decoded yet, a window, and the output of one block. The window of
/// a single-segment frame is the whole frame.
pub struct ZstdDecoder {
    frames: FrameDecoder,
    state: State,
    input: Vec<u8>,
    /// Bytes of `input` that have been decoded.
    used: usize,
    /// Bytes of the layer before `input`.
    before: u64,
    seen_frame: bool,
}

#[derive(Debug)]
enum State {
    BetweenFrames,
    Skippable { remaining: u64 },
    Frame(Frame),
    Failed(Error),
}

/// The header fields of a frame that its output is checked against.
#[derive(Debug, Clone, Copy)]
struct Frame {
    content_size: Option<u64>,
    has_checksum: bool,
    /// Bytes of output returned so far.
    output: u64,
    /// Whether all blocks are decoded.
    ended: bool,
}

impl Default for ZstdDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for ZstdDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZstdDecoder").field("state", &self.state).finish_non_exhaustive()
    }
}

impl ZstdDecoder {
    /// Starts at the first byte of a layer.
    #[must_use]
    pub fn new() -> Self {
        let mut frames = FrameDecoder::new();
        frames.set_max_window_size(MAX_WINDOW_LEN);
        Self {
            frames,
            state: State::BetweenFrames,
            input: Vec::new(),
            used: 0,
            before: 0,
            seen_frame: false,
        }
    }

    /// Takes the layer's next bytes, which [`Self::read`] decodes.
    pub fn feed(&mut self, data: &[u8]) {
        self.before += self.used as u64;
        self.input.drain(..std::mem::take(&mut self.used));
        self.input.extend_from_slice(data);
    }

    /// Returns the available output, at most `max_size` bytes; empty if more input is needed.
    ///
    /// # Errors
    ///
    /// [`Error::Zstd`] with the offset of the invalid frame or block; every later call returns the
    /// same error.
    pub fn read(&mut self, max_size: usize) -> Result<Vec<u8>> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        let mut output = Vec::new();
        while output.len() < max_size {
            match self.advance(&mut output, max_size) {
                Ok(true) => {}
                Ok(false) => break,
                Err(kind) => return Err(self.fail(kind)),
            }
        }
        Ok(output)
    }

    /// Checks that the layer may end here. Call it when `read` returns nothing.
    ///
    /// # Errors
    ///
    /// [`ZstdError::Truncated`] inside a frame or before the first one, or the error that `read`
    /// returned.
    pub fn finish(&self) -> Result<()> {
        let inside = match &self.state {
            State::Failed(error) => return Err(error.clone()),
            State::BetweenFrames if self.seen_frame && self.pending().is_empty() => return Ok(()),
            State::BetweenFrames => "a frame header",
            State::Skippable { .. } => "a skippable frame",
            State::Frame(_) => "a frame",
        };
        Err(Error::Zstd { kind: ZstdError::Truncated(inside), at: self.position() })
    }

    fn position(&self) -> CompressedOffset {
        CompressedOffset(self.before + self.used as u64)
    }

    fn pending(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    /// Records the error and frees all buffers.
    fn fail(&mut self, kind: ZstdError) -> Error {
        let error = Error::Zstd { kind, at: self.position() };
        let state = State::Failed(error.clone());
        *self = Self { state, before: self.position().0, ..Self::new() };
        error
    }

    /// Takes one step and returns whether there was enough input for it.
    fn advance(
        &mut self,
        output: &mut Vec<u8>,
        max_size: usize,
    ) -> std::result::Result<bool, ZstdError> {
        match self.state {
            State::BetweenFrames => self.start_frame(),
            State::Skippable { remaining: 0 } => {
                self.state = State::BetweenFrames;
                Ok(true)
            }
            State::Skippable { remaining } => {
                let len = self.pending().len();
                let skipped =
                    usize::try_from(remaining).map_or(len, |remaining| len.min(remaining));
                self.used += skipped;
                self.state = State::Skippable { remaining: remaining - skipped as u64 };
                Ok(skipped > 0)
            }
            State::Frame(frame) if self.frames.can_collect() > 0 => {
                let frame = self.hand_out(frame, output, max_size)?;
                self.state = State::Frame(frame);
                Ok(true)
            }
            State::Frame(frame) if frame.ended => {
                self.check(frame)?;
                self.state = State::BetweenFrames;
                Ok(true)
            }
            State::Frame(frame) => self.decode_block(frame),
            State::Failed(_) => Ok(false),
        }
    }

    /// Reads a frame's header.
    fn start_frame(&mut self) -> std::result::Result<bool, ZstdError> {
        use ReadFrameHeaderError as Header;

        let pending = self.input.get(self.used..).unwrap_or_default();
        let mut rest = pending;
        let outcome = self.frames.reset(&mut rest);
        let len = pending.len() - rest.len();
        let descriptor = pending.get(DESCRIPTOR_AT).copied().unwrap_or_default();
        match outcome {
            Ok(()) if descriptor & RESERVED_BIT != 0 => Err(ZstdError::ReservedBit(descriptor)),
            Ok(()) => {
                let has_size = descriptor & (CONTENT_SIZE_FLAG | SINGLE_SEGMENT_FLAG) != 0;
                self.state = State::Frame(Frame {
                    content_size: has_size.then(|| self.frames.content_size()),
                    has_checksum: descriptor & CHECKSUM_FLAG != 0,
                    output: 0,
                    ended: false,
                });
                self.used += len;
                self.seen_frame = true;
                Ok(true)
            }
            Err(FrameDecoderError::ReadFrameHeaderError(error)) => match error {
                Header::SkipFrame { length, .. } => {
                    self.used += SKIPPABLE_HEADER_LEN;
                    self.seen_frame = true;
                    self.state = State::Skippable { remaining: u64::from(length) };
                    Ok(true)
                }
                Header::BadMagicNumber(magic) => Err(ZstdError::Magic(magic)),
                // Reading from a slice fails only at its end, so more input is needed.
                Header::MagicNumberReadError(_)
                | Header::FrameDescriptorReadError(_)
                | Header::WindowDescriptorReadError(_)
                | Header::DictionaryIdReadError(_)
                | Header::FrameContentSizeReadError(_) => Ok(false),
                error => Err(ZstdError::Block(error.to_string())),
            },
            Err(
                FrameDecoderError::WindowSizeTooBig { requested: size, .. }
                | FrameDecoderError::FrameHeaderError(FrameHeaderError::WindowTooBig { got: size }),
            ) => Err(ZstdError::Window { size, limit: MAX_WINDOW_LEN }),
            Err(FrameDecoderError::DictNotProvided { dict_id }) => {
                Err(ZstdError::Dictionary(dict_id))
            }
            Err(error) => Err(ZstdError::Block(error.to_string())),
        }
    }

    /// Decodes the next block once it is complete. The last block includes the checksum.
    fn decode_block(&mut self, mut frame: Frame) -> std::result::Result<bool, ZstdError> {
        let pending = self.input.get(self.used..).unwrap_or_default();
        let Some([a, b, c]) = pending.first_chunk::<BLOCK_HEADER_LEN>() else { return Ok(false) };
        let header = u32::from_le_bytes([*a, *b, *c, 0]);
        let is_last = header & 1 != 0;
        let content_len = if header >> 1 & 3 == RLE_BLOCK { 1 } else { (header >> 3) as usize };
        let checksum_len = if is_last && frame.has_checksum { CHECKSUM_LEN } else { 0 };
        let len = BLOCK_HEADER_LEN + content_len + checksum_len;
        // A block that is too large is rejected by its header, without waiting for the rest.
        if content_len <= MAX_BLOCK_LEN && pending.len() < len {
            return Ok(false);
        }
        let one = BlockDecodingStrategy::UptoBlocks(1);
        let ended = self.frames.decode_blocks(pending, one);
        frame.ended = ended.map_err(|error| ZstdError::Block(error.to_string()))?;
        self.used += len;
        self.state = State::Frame(frame);
        Ok(true)
    }

    /// Moves output that no later block refers to into `output`, up to `max_size`.
    fn hand_out(
        &mut self,
        mut frame: Frame,
        output: &mut Vec<u8>,
        max_size: usize,
    ) -> std::result::Result<Frame, ZstdError> {
        let start = output.len();
        output.resize(start + self.frames.can_collect().min(max_size - start), 0);
        let filled = self.frames.read(&mut output[start..]);
        let filled = filled.map_err(|error| ZstdError::Block(error.to_string()))?;
        output.truncate(start + filled);
        frame.output += filled as u64;
        match frame.content_size {
            Some(stored) if frame.output > stored => {
                Err(ZstdError::ContentSize { actual: frame.output, stored })
            }
            _ => Ok(frame),
        }
    }

    /// Compares a frame's output, all of which has been returned, with its header and checksum.
    fn check(&self, frame: Frame) -> std::result::Result<(), ZstdError> {
        if let Some(stored) = frame.content_size
            && stored != frame.output
        {
            return Err(ZstdError::ContentSize { actual: frame.output, stored });
        }
        let checksums =
            (self.frames.get_calculated_checksum(), self.frames.get_checksum_from_data());
        match checksums {
            (Some(actual), Some(stored)) if actual != stored => {
                Err(ZstdError::Checksum { actual, stored })
            }
            _ => Ok(()),
        }
    }
}
