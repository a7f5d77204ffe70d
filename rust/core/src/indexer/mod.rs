//! Building a zTOC: push a layer's compressed bytes as they arrive and get everything that one pass
//! can find out about the layer.
//!
//! There is one pass, and it keeps only checkpoints and the TOC: the layer's digest, span digests,
//! inflation, the tar scan and the diff ID all happen while the bytes are still in the cache. The
//! result does not depend on the size of the pieces or the number of threads.

mod cache;
mod gzip;
mod output;
mod seek;
mod spans;
mod tar;

use crate::digest::Digest;
use crate::error::{Error, Result, ZtocError};
use crate::gzip::MAGIC;
use crate::parallel;
use crate::seek::{self as seek_table, SeekLayer};
use crate::span::DEFAULT_SPAN_SIZE;
use crate::tar::{Hazard, Purpose, Toc};
use crate::ztoc::{self, VERSION, Zinfo, Ztoc};
use gzip::{GzipWalk, ParallelWalk};
use tar::TarWalk;

/// The reference's identifier, which is part of every zTOC that it writes.
pub const BUILD_TOOL_IDENTIFIER: &str = "AWS SOCI CLI v0.2";

/// Compressed bytes that go through all steps together, so that they are loaded from memory once.
const CHUNK_LEN: usize = 64 << 10;
/// Units that one thread handles before other threads are started: most layers are small.
const SINGLE_THREAD_UNITS: u64 = 2;
/// Smallest size of a plain tar's span in a zTOC: its digest as text, that string's length and a
/// reference to it.
const TAR_SPAN_LEN: u64 = 71 + 4 + 4;
/// First bytes of a Zstandard frame (RFC 8878 §3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerFormat {
    /// A gzip-compressed tar.
    Gzip,
    /// An uncompressed tar.
    Tar,
}

impl LayerFormat {
    /// The format's name in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Tar => "an uncompressed tar",
        }
    }
}

/// Options for indexing a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexOptions {
    /// The format according to the layer's media type; `None` detects it from the first bytes.
    pub format: Option<LayerFormat>,
    /// Minimum uncompressed bytes between checkpoints; for a plain tar, the exact size of a span.
    pub span_size: u64,
    /// Written into the zTOC; no reader uses it.
    pub build_tool_identifier: String,
    /// Why the tar is read. A zTOC made for any purpose but `Index` must not leave this process.
    pub purpose: Purpose,
    /// Whether to compute the digest of the uncompressed bytes too.
    pub diff_id: bool,
    /// Whether to keep checkpoints with which the reference's own reader rejects the layer, as the
    /// reference does. These are all but the last of several checkpoints before the first output.
    pub reference_identical: bool,
    /// Number of threads for this layer, including the caller's; 0 means 1. A plain tar always uses
    /// one.
    pub threads: usize,
    /// Compressed bytes in a unit of work for the threads; the result does not depend on it.
    pub unit_len: usize,
    /// Uncompressed bytes between the checkpoints of a seek table; `None` makes no seek table.
    pub seek_span_size: Option<u64>,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            format: None,
            span_size: DEFAULT_SPAN_SIZE,
            build_tool_identifier: BUILD_TOOL_IDENTIFIER.to_owned(),
            purpose: Purpose::Index,
            diff_id: false,
            reference_identical: false,
            threads: 1,
            unit_len: parallel::UNIT_LEN,
            seek_span_size: None,
        }
    }
}

/// Everything that one pass finds out about a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedLayer {
    /// Its zTOC.
    pub ztoc: Ztoc,
    /// How the layer is stored.
    pub format: LayerFormat,
    /// The digest of the layer as stored.
    pub digest: Digest,
    /// The size of the layer as stored, in bytes.
    pub size: u64,
    /// The digest of the uncompressed bytes; `None` for a gzip layer unless it was requested.
    pub diff_id: Option<Digest>,
    /// The number of uncompressed bytes, to the end of the stream.
    pub uncompressed_size: u64,
    /// Whether the layer must be mounted with extended attributes.
    pub needs_xattrs: bool,
    /// Entries that the reference indexes but its reader rejects.
    pub hazards: Vec<Hazard>,
    /// Number of checkpoints left out because that reader would reject the layer with them.
    pub dropped_checkpoint_count: u64,
    /// Its part of a seek table, if one was requested.
    pub seek: Option<SeekLayer>,
}

/// Indexes one layer.
#[derive(Debug)]
pub struct LayerIndexer {
    options: IndexOptions,
    /// The first bytes, until there are enough to detect the format.
    head: Vec<u8>,
    size: u64,
    walk: Option<Walk>,
    failed: bool,
}

impl LayerIndexer {
    /// Creates an indexer for one layer.
    ///
    /// # Errors
    /// [`Error::Ztoc`] if the span size is 2^63 or more, or 0 for a plain tar.
    pub fn new(options: IndexOptions) -> Result<Self> {
        let is_tar = options.format == Some(LayerFormat::Tar);
        check_span_size(options.span_size, is_tar)?;
        options.seek_span_size.map_or(Ok(()), seek_table::check_span_size)?;
        Ok(Self { options, head: Vec::new(), size: 0, walk: None, failed: false })
    }

    /// Takes the next bytes of the layer as stored.
    ///
    /// # Errors
    /// [`Error::Gzip`], [`Error::Tar`], [`Error::LayerFormat`] or [`Error::Unsupported`] if the
    /// layer cannot be indexed; nothing more can be pushed then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            return Err(Error::AlreadyFinished);
        }
        let outcome = self.push_bytes(bytes);
        self.failed = outcome.is_err();
        outcome
    }

    /// Ends the layer and returns the result.
    ///
    /// # Errors
    /// Same as [`Self::push`]; also fails if the layer is truncated.
    pub fn finish(mut self) -> Result<IndexedLayer> {
        if self.failed {
            return Err(Error::AlreadyFinished);
        }
        if self.walk.is_none() {
            self.start()?;
        }
        let Some(walk) = self.walk else { return Err(Error::AlreadyFinished) };
        let (format, result) = match walk {
            Walk::Gzip(walk) => (LayerFormat::Gzip, walk.finish(&self.options, self.size)?),
            Walk::Parallel(walk) => (LayerFormat::Gzip, walk.finish(&self.options, self.size)?),
            Walk::Tar(walk) => (LayerFormat::Tar, walk.finish(self.size)?),
        };
        let digest = result.digest;
        let diff_id = if format == LayerFormat::Tar { Some(digest) } else { result.diff_id };
        let needs_xattrs = result.toc.needs_xattrs();
        let ztoc = Ztoc {
            version: VERSION.to_owned(),
            build_tool_identifier: self.options.build_tool_identifier,
            compressed_archive_size: self.size,
            uncompressed_archive_size: result.toc.uncompressed_archive_size,
            toc: result.toc.entries.into(),
            zinfo: result.zinfo,
            span_digests: result.span_digests,
        };
        Ok(IndexedLayer {
            ztoc,
            format,
            digest,
            size: self.size,
            diff_id,
            uncompressed_size: result.uncompressed_size,
            needs_xattrs,
            hazards: result.toc.reader_hazards,
            dropped_checkpoint_count: result.dropped_checkpoint_count,
            seek: result.seek,
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

    /// Chooses the format and processes the first bytes.
    fn start(&mut self) -> Result<()> {
        let head = std::mem::take(&mut self.head);
        let format = choose_format(self.options.format, &head)?;
        check_span_size(self.options.span_size, format == LayerFormat::Tar)?;
        self.walk = Some(match format {
            LayerFormat::Gzip => Walk::Gzip(Box::new(GzipWalk::new(&self.options))),
            LayerFormat::Tar => Walk::Tar(Box::new(TarWalk::new(&self.options))),
        });
        self.push_chunk(&head)
    }

    fn push_chunk(&mut self, chunk: &[u8]) -> Result<()> {
        self.size = self.size.saturating_add(chunk.len() as u64);
        if self.options.threads > 1
            && self.size > SINGLE_THREAD_UNITS * self.options.unit_len as u64
        {
            self.walk = match self.walk.take() {
                Some(Walk::Gzip(walk)) => {
                    Some(Walk::Parallel(Box::new(walk.into_parallel(&self.options))))
                }
                walk => walk,
            };
        }
        match &mut self.walk {
            Some(Walk::Gzip(walk)) => walk.push(chunk),
            Some(Walk::Parallel(walk)) => walk.push(chunk),
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

/// Checks that a zTOC has room for another span of `span_len` bytes. A hostile layer, or a tiny
/// span size, makes a span every few bytes; collecting more than can be written would only waste
/// memory.
fn check_room(span_count: usize, span_len: u64) -> Result<()> {
    if span_count as u64 >= ztoc::MAX_LEN / span_len {
        return Err(Error::Ztoc { kind: ZtocError::TooLarge { limit: ztoc::MAX_LEN }, at: 0 });
    }
    Ok(())
}

fn choose_format(expected: Option<LayerFormat>, head: &[u8]) -> Result<LayerFormat> {
    let is_gzip = head.starts_with(&MAGIC);
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

/// The result of a walk over the whole layer.
#[derive(Debug)]
struct WalkResult {
    seek: Option<SeekLayer>,
    digest: Digest,
    toc: Toc,
    zinfo: Zinfo,
    span_digests: Vec<Digest>,
    diff_id: Option<Digest>,
    uncompressed_size: u64,
    dropped_checkpoint_count: u64,
}
