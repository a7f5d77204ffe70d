//! Making a zTOC: push a layer's compressed bytes as they arrive, get everything known about it.
//!
//! One pass, and nothing kept but checkpoints and the TOC: the layer's digest, span digests, inflation,
//! the tar scan and the diff id all happen on bytes that are still in the cache. The result is the
//! same for pieces of any size.

use crate::checkpoint::{Checkpoint, CheckpointRule, WINDOW_LEN};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, ZtocError};
use crate::gzip::{self, Event, GzipDecoder};
use crate::inflate::Speed;
use crate::parallel::{self, Boundaries, Compressed, Consumers, Output, Pipeline, Settings};
use crate::span::{CompressedOffset, DEFAULT_SPAN_SIZE, UncompressedOffset};
use crate::tar::{Hazard, Toc, TocScanner};
use crate::ztoc::{self, GzipZinfo, TarZinfo, VERSION, Zinfo, Ztoc};

/// The reference's identifier, which is part of the bytes of every zTOC it makes.
pub const BUILD_TOOL_IDENTIFIER: &str = "AWS SOCI CLI v0.2";

/// Compressed bytes that go through all steps together, so that they are read from memory once.
const CHUNK_LEN: usize = 64 << 10;
/// The least a span of a plain tar takes in a zTOC: its digest as text, and where that is.
const TAR_SPAN_LEN: u64 = 71 + 4 + 4;
/// First bytes of a Zstandard frame (RFC 8878 §3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerFormat {
    /// A gzip-compressed tar.
    Gzip,
    /// A tar as it is.
    Tar,
}

impl LayerFormat {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Tar => "an uncompressed tar",
        }
    }
}

/// What is wanted of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexOptions {
    /// What the layer's media type says; by its first bytes when `None`.
    pub format: Option<LayerFormat>,
    /// Least uncompressed bytes between checkpoints; for a plain tar, exactly the bytes of a span.
    pub span_size: u64,
    /// Written into the zTOC; no reader looks at it.
    pub build_tool_identifier: String,
    /// Whether to hash the uncompressed bytes too.
    pub diff_id: bool,
    /// Whether to keep, as the reference does, checkpoints that make its own reader refuse the layer:
    /// all but the last of several before the first output.
    pub reference_identical: bool,
    /// Threads to use for this one layer, the caller's own among them: 0 and 1 are the same, and a plain tar
    /// needs no more.
    pub threads: usize,
    /// Compressed bytes that threads share out work by; no result depends on it.
    pub unit_len: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            format: None,
            span_size: DEFAULT_SPAN_SIZE,
            build_tool_identifier: BUILD_TOOL_IDENTIFIER.to_owned(),
            diff_id: false,
            reference_identical: false,
            threads: 1,
            unit_len: parallel::UNIT_LEN,
        }
    }
}

/// Everything one pass tells about a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedLayer {
    /// Its zTOC.
    pub ztoc: Ztoc,
    /// How it was stored.
    pub format: LayerFormat,
    /// The digest of its bytes as stored.
    pub digest: Digest,
    /// Its bytes as stored.
    pub size: u64,
    /// The digest of its uncompressed bytes, if asked for or the same.
    pub diff_id: Option<Digest>,
    /// Uncompressed bytes, to the end of the stream.
    pub uncompressed_size: u64,
    /// Whether it must be mounted with extended attributes.
    pub needs_xattrs: bool,
    /// Entries whose zTOC the reference builds but its reader refuses.
    pub hazards: Vec<Hazard>,
    /// Checkpoints left out because that reader would refuse the layer with them.
    pub dropped_checkpoint_count: u64,
}

/// Indexes one layer.
#[derive(Debug)]
pub struct LayerIndexer {
    options: IndexOptions,
    /// The first bytes, until they are enough to tell the format.
    head: Vec<u8>,
    size: u64,
    walk: Option<Walk>,
    failed: bool,
}

impl LayerIndexer {
    /// Starts before the first byte.
    ///
    /// # Errors
    ///
    /// A plain tar cannot have spans of 0 bytes, and no layer spans above 2^63 bytes.
    pub fn new(options: IndexOptions) -> Result<Self> {
        let is_tar = options.format == Some(LayerFormat::Tar);
        check_span_size(options.span_size, is_tar)?;
        Ok(Self { options, head: Vec::new(), size: 0, walk: None, failed: false })
    }

    /// Takes the next bytes of the layer as stored.
    ///
    /// # Errors
    ///
    /// [`Error::Gzip`], [`Error::Tar`], [`Error::LayerFormat`] or [`Error::Unsupported`]: the layer
    /// cannot be indexed, and nothing more can be pushed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            return Err(Error::AlreadyFinished);
        }
        let outcome = self.push_bytes(bytes);
        self.failed = outcome.is_err();
        outcome
    }

    /// Ends the layer.
    ///
    /// # Errors
    ///
    /// As [`Self::push`]; also when the layer ends too early.
    pub fn finish(mut self) -> Result<IndexedLayer> {
        if self.failed {
            return Err(Error::AlreadyFinished);
        }
        if self.walk.is_none() {
            self.start()?;
        }
        let Some(walk) = self.walk else { return Err(Error::AlreadyFinished) };
        let (format, walked) = match walk {
            Walk::Gzip(walk) => (LayerFormat::Gzip, walk.finish(self.options.span_size)?),
            Walk::Parallel(walk) => (LayerFormat::Gzip, walk.finish(self.options.span_size)?),
            Walk::Tar(walk) => (LayerFormat::Tar, walk.finish(self.size)?),
        };
        let digest = walked.digest;
        let diff_id = if format == LayerFormat::Tar { Some(digest) } else { walked.diff_id };
        let needs_xattrs = walked.toc.needs_xattrs();
        let ztoc = Ztoc {
            version: VERSION.to_owned(),
            build_tool_identifier: self.options.build_tool_identifier,
            compressed_archive_size: self.size,
            uncompressed_archive_size: walked.toc.uncompressed_archive_size,
            toc: walked.toc.entries,
            zinfo: walked.zinfo,
            span_digests: walked.span_digests,
        };
        Ok(IndexedLayer {
            ztoc,
            format,
            digest,
            size: self.size,
            diff_id,
            uncompressed_size: walked.uncompressed_size,
            needs_xattrs,
            hazards: walked.toc.reader_hazards,
            dropped_checkpoint_count: walked.dropped_checkpoint_count,
        })
    }

    fn push_bytes(&mut self, mut bytes: &[u8]) -> Result<()> {
        if self.walk.is_none() {
            let missing = ZSTD_MAGIC.len() - self.head.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.head.extend_from_slice(head);
            if self.head.len() < ZSTD_MAGIC.len() {
                return Ok(());
            }
            self.start()?;
            bytes = rest;
        }
        bytes.chunks(CHUNK_LEN).try_for_each(|chunk| self.push_chunk(chunk))
    }

    /// Decides on the format and gives the first bytes to it.
    fn start(&mut self) -> Result<()> {
        let head = std::mem::take(&mut self.head);
        let format = choose_format(self.options.format, &head)?;
        check_span_size(self.options.span_size, format == LayerFormat::Tar)?;
        self.walk = Some(match format {
            LayerFormat::Gzip if self.options.threads > 1 => {
                Walk::Parallel(Box::new(ParallelWalk::new(&self.options)))
            }
            LayerFormat::Gzip => Walk::Gzip(Box::new(GzipWalk::new(&self.options))),
            LayerFormat::Tar => Walk::Tar(Box::new(TarWalk::new(self.options.span_size))),
        });
        self.push_chunk(&head)
    }

    fn push_chunk(&mut self, chunk: &[u8]) -> Result<()> {
        self.size = self.size.saturating_add(chunk.len() as u64);
        match &mut self.walk {
            Some(Walk::Gzip(walk)) => walk.push(chunk),
            Some(Walk::Parallel(walk)) => walk.0.push(chunk),
            Some(Walk::Tar(walk)) => walk.push(chunk),
            None => Ok(()),
        }
    }
}

fn check_span_size(span_size: u64, is_tar: bool) -> Result<()> {
    match i64::try_from(span_size) {
        Ok(value @ 0) if is_tar => {
            Err(Error::Ztoc { kind: ZtocError::Value { what: "span size", value }, at: 0 })
        }
        Ok(_) => Ok(()),
        Err(_) => {
            let kind = ZtocError::Value { what: "span size", value: i64::MAX };
            Err(Error::Ztoc { kind, at: 0 })
        }
    }
}

/// Whether a zTOC has room for another span of `span_len` bytes; a hostile layer, or a tiny span size,
/// makes one every few bytes, and there is no use in collecting what cannot be written.
fn check_room(span_count: usize, span_len: u64) -> Result<()> {
    if span_count as u64 >= ztoc::MAX_LEN / span_len {
        return Err(Error::Ztoc { kind: ZtocError::TooLarge { limit: ztoc::MAX_LEN }, at: 0 });
    }
    Ok(())
}

fn choose_format(expected: Option<LayerFormat>, head: &[u8]) -> Result<LayerFormat> {
    let is_gzip = head.starts_with(&gzip::MAGIC);
    let is_zstd = head.starts_with(&ZSTD_MAGIC);
    match expected {
        None if is_zstd => Err(Error::Unsupported { what: "a zstd layer" }),
        None if is_gzip => Ok(LayerFormat::Gzip),
        None => Ok(LayerFormat::Tar),
        Some(format) if is_zstd => {
            Err(Error::LayerFormat { expected: format.as_str(), found: "zstd" })
        }
        Some(LayerFormat::Tar) if is_gzip => Err(Error::LayerFormat {
            expected: LayerFormat::Tar.as_str(),
            found: LayerFormat::Gzip.as_str(),
        }),
        Some(format) => Ok(format),
    }
}

#[derive(Debug)]
enum Walk {
    Gzip(Box<GzipWalk>),
    Parallel(Box<ParallelWalk>),
    Tar(Box<TarWalk>),
}

/// What a walk over the whole layer found.
#[derive(Debug)]
struct Walked {
    digest: Digest,
    toc: Toc,
    zinfo: Zinfo,
    span_digests: Vec<Digest>,
    diff_id: Option<Digest>,
    uncompressed_size: u64,
    dropped_checkpoint_count: u64,
}

/// A gzip layer on its way, on one thread.
#[derive(Debug)]
struct GzipWalk {
    decoder: GzipDecoder,
    places: Places,
    spans: Spans,
    output: TarOutput,
    /// Compressed bytes before the current chunk.
    chunk_start: u64,
}

impl GzipWalk {
    fn new(options: &IndexOptions) -> Self {
        Self {
            decoder: GzipDecoder::new(Speed::Fast),
            places: Places::new(options.span_size),
            spans: Spans::new(options),
            output: TarOutput::new(options.diff_id),
            chunk_start: 0,
        }
    }

    /// Takes the next bytes, for all digests too: the layer's and the span's are made together.
    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let outcome = self.push_chunk(chunk);
        if outcome.is_err() {
            // Of two things that are wrong, the first in the stream is told.
            let output = &mut self.output;
            self.decoder.take_output(|bytes| output.push(bytes))?;
        }
        outcome
    }

    fn push_chunk(&mut self, chunk: &[u8]) -> Result<()> {
        let mut input = chunk;
        let mut hashed = Hashed::default();
        loop {
            let event = self.decoder.step(&mut input)?;
            match event {
                Event::NeedInput => break,
                Event::Candidate => self.candidate(chunk, &mut hashed)?,
                Event::Output | Event::MemberEnd => {
                    let output = &mut self.output;
                    self.decoder.take_output(|bytes| output.push(bytes))?;
                }
            }
        }
        self.spans.hash(chunk, &mut hashed, chunk.len());
        self.chunk_start += chunk.len() as u64;
        Ok(())
    }

    fn candidate(&mut self, chunk: &[u8], hashed: &mut Hashed) -> Result<()> {
        let inflater = self.decoder.inflater();
        let uncompressed = UncompressedOffset(self.output.len + inflater.pending_len() as u64);
        if !self.places.take(uncompressed)? {
            return Ok(());
        }
        let checkpoint = Checkpoint::at(self.decoder.position(), uncompressed, inflater.window());
        // The decoder reports a block's end as soon as it has its last bit, so the byte that holds
        // it is in this chunk.
        self.spans.start_span(checkpoint, self.chunk_start, chunk, hashed);
        Ok(())
    }

    fn finish(mut self, span_size: u64) -> Result<Walked> {
        if let Err(error) = self.decoder.finish() {
            let output = &mut self.output;
            self.decoder.take_output(|bytes| output.push(bytes))?;
            return Err(error);
        }
        walked(self.spans, self.output, span_size)
    }
}

/// What a walk over a whole gzip layer has found.
fn walked(spans: Spans, output: TarOutput, span_size: u64) -> Result<Walked> {
    let (diff_id, uncompressed_size) = (output.diff_id, output.len);
    Ok(Walked {
        // What is wrong with the tar comes before anything that could be wrong with its digests.
        toc: output.scanner.finish()?,
        diff_id: diff_id.map(|mut hasher| hasher.finish_reset()),
        uncompressed_size,
        ..spans.finish(span_size)
    })
}

/// A gzip layer on its way, on many threads.
#[derive(Debug)]
struct ParallelWalk(Pipeline<Places, Spans, TarOutput>);

impl ParallelWalk {
    fn new(options: &IndexOptions) -> Self {
        let settings = Settings { threads: options.threads, unit_len: options.unit_len };
        let consumers = Consumers {
            boundaries: Places::new(options.span_size),
            compressed: Spans::new(options),
            output: TarOutput::new(options.diff_id),
        };
        Self(Pipeline::new(settings, consumers))
    }

    fn finish(self, span_size: u64) -> Result<Walked> {
        let found = self.0.finish()?;
        walked(found.compressed, found.output, span_size)
    }
}

/// Which candidates become checkpoints.
#[derive(Debug)]
struct Places {
    rule: CheckpointRule,
    count: usize,
}

impl Places {
    const fn new(span_size: u64) -> Self {
        Self { rule: CheckpointRule::new(span_size), count: 0 }
    }
}

impl Boundaries for Places {
    fn take(&mut self, at: UncompressedOffset) -> Result<bool> {
        if !self.rule.take(at) {
            return Ok(false);
        }
        check_room(self.count, WINDOW_LEN as u64)?;
        self.count += 1;
        Ok(true)
    }
}

/// How far into a chunk each digest has come. Spans share a byte, and the bytes before the first one
/// are in none, so the two differ.
#[derive(Debug, Clone, Copy, Default)]
struct Hashed {
    layer: usize,
    span: usize,
}

/// Checkpoints, and the digests of the layer and of the spans between them.
#[derive(Debug)]
struct Spans {
    layer_hasher: Hasher,
    drop_early_checkpoints: bool,
    dropped_checkpoint_count: u64,
    checkpoints: Vec<Checkpoint>,
    span_hasher: Hasher,
    span_digests: Vec<Digest>,
}

impl Spans {
    fn new(options: &IndexOptions) -> Self {
        Self {
            layer_hasher: Hasher::new(),
            drop_early_checkpoints: !options.reference_identical,
            dropped_checkpoint_count: 0,
            checkpoints: Vec::new(),
            span_hasher: Hasher::new(),
            span_digests: Vec::new(),
        }
    }

    /// Brings the digests to `end` of `chunk`.
    fn hash(&mut self, chunk: &[u8], hashed: &mut Hashed, end: usize) {
        let layer_bytes = &chunk[hashed.layer..end];
        if self.checkpoints.is_empty() {
            self.layer_hasher.update(layer_bytes);
        } else {
            let span_bytes = &chunk[hashed.span..end];
            self.layer_hasher.update_with(layer_bytes, &mut self.span_hasher, span_bytes);
        }
        *hashed = Hashed { layer: end, span: end };
    }

    /// Ends a span and starts the next one at `checkpoint`, whose first byte is in `chunk`.
    fn start_span(
        &mut self,
        checkpoint: Checkpoint,
        chunk_start: u64,
        chunk: &[u8],
        hashed: &mut Hashed,
    ) {
        let place = |at: CompressedOffset| {
            usize::try_from(at.0.saturating_sub(chunk_start)).unwrap_or(0).min(chunk.len())
        };
        let (end, start) = (place(checkpoint.compressed), place(checkpoint.first_byte()));
        self.hash(chunk, hashed, end);
        if !self.checkpoints.is_empty() {
            let digest = self.span_hasher.finish_reset();
            if self.drop_early_checkpoints && checkpoint.uncompressed.0 == 0 {
                // Readers want each span to have output. They look for one gzip header before the
                // first span and do not mind what follows it there.
                self.checkpoints.pop();
                self.dropped_checkpoint_count += 1;
            } else {
                self.span_digests.push(digest);
            }
        }
        self.checkpoints.push(checkpoint);
        hashed.span = start;
    }

    fn finish(mut self, span_size: u64) -> Walked {
        self.span_digests.push(self.span_hasher.finish_reset());
        Walked {
            digest: self.layer_hasher.finish_reset(),
            toc: Toc::default(),
            zinfo: Zinfo::Gzip(GzipZinfo::new(span_size, self.checkpoints)),
            span_digests: self.span_digests,
            diff_id: None,
            uncompressed_size: 0,
            dropped_checkpoint_count: self.dropped_checkpoint_count,
        }
    }
}

impl Compressed for Spans {
    fn push(&mut self, start: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>) {
        let mut hashed = Hashed::default();
        for checkpoint in checkpoints {
            self.start_span(checkpoint, start, bytes, &mut hashed);
        }
        self.hash(bytes, &mut hashed, bytes.len());
    }
}

/// What uncompressed bytes go through.
#[derive(Debug)]
struct TarOutput {
    scanner: TocScanner,
    diff_id: Option<Hasher>,
    len: u64,
}

impl TarOutput {
    fn new(diff_id: bool) -> Self {
        Self { scanner: TocScanner::new(), diff_id: diff_id.then(Hasher::new), len: 0 }
    }
}

impl Output for TarOutput {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(hasher) = &mut self.diff_id {
            hasher.update(bytes);
        }
        self.len = self.len.saturating_add(bytes.len() as u64);
        self.scanner.push(bytes)
    }
}

/// A plain tar on its way.
#[derive(Debug)]
struct TarWalk {
    layer_hasher: Hasher,
    scanner: TocScanner,
    span_size: u64,
    /// Bytes that the current span still takes.
    span_left: u64,
    span_hasher: Hasher,
    span_digests: Vec<Digest>,
}

impl TarWalk {
    fn new(span_size: u64) -> Self {
        Self {
            layer_hasher: Hasher::new(),
            scanner: TocScanner::new(),
            span_size,
            span_left: span_size,
            span_hasher: Hasher::new(),
            span_digests: Vec::new(),
        }
    }

    fn push(&mut self, chunk: &[u8]) -> Result<()> {
        self.scanner.push(chunk)?;
        let mut rest = chunk;
        while !rest.is_empty() {
            let len = usize::try_from(self.span_left).unwrap_or(usize::MAX).min(rest.len());
            let (span, after) = rest.split_at(len);
            self.layer_hasher.update_with(span, &mut self.span_hasher, span);
            self.span_left -= len as u64;
            if self.span_left == 0 {
                check_room(self.span_digests.len(), TAR_SPAN_LEN)?;
                self.span_digests.push(self.span_hasher.finish_reset());
                self.span_left = self.span_size;
            }
            rest = after;
        }
        Ok(())
    }

    fn finish(mut self, size: u64) -> Result<Walked> {
        if self.span_left < self.span_size {
            self.span_digests.push(self.span_hasher.finish_reset());
        }
        Ok(Walked {
            digest: self.layer_hasher.finish_reset(),
            toc: self.scanner.finish()?,
            zinfo: Zinfo::Tar(TarZinfo { span_size: self.span_size, size }),
            span_digests: self.span_digests,
            diff_id: None,
            uncompressed_size: size,
            dropped_checkpoint_count: 0,
        })
    }
}
