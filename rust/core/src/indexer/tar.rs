//! Indexing an uncompressed layer. One thread is enough, since only the digests take time.

use super::{IndexOptions, TAR_SPAN_LEN, WalkResult, check_room};
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::seek::{LayerCompression, LayerWriter, SeekLayer};
use crate::tar::TocScanner;
use crate::ztoc::{TarZinfo, Zinfo};

/// The state of indexing a plain tar.
#[derive(Debug)]
pub(super) struct TarWalk {
    layer_hasher: Hasher,
    scanner: TocScanner,
    span_size: u64,
    /// Bytes missing from the current span.
    span_left: u64,
    span_hasher: Hasher,
    span_digests: Vec<Digest>,
    seek: Option<SeekSpans>,
}

/// The spans of a seek table.
#[derive(Debug)]
struct SeekSpans {
    span_size: u64,
    left: u64,
    hasher: Hasher,
    writer: LayerWriter,
}

impl SeekSpans {
    fn new(span_size: u64) -> Self {
        let writer = LayerWriter::new(span_size);
        Self { span_size, left: span_size, hasher: Hasher::new(), writer }
    }

    fn push(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
            let (span, after) = rest.split_at(len);
            self.hasher.update(span);
            self.left -= len as u64;
            if self.left == 0 {
                self.writer.push_digest(self.hasher.finish_reset());
                self.left = self.span_size;
            }
            rest = after;
        }
    }

    fn finish(mut self, size: u64) -> Result<SeekLayer> {
        if self.left < self.span_size {
            self.writer.push_digest(self.hasher.finish_reset());
        }
        self.writer.finish(LayerCompression::Tar, size, size)
    }
}

impl TarWalk {
    pub(super) fn new(options: &IndexOptions) -> Self {
        Self {
            layer_hasher: Hasher::new(),
            scanner: TocScanner::new(options.purpose),
            span_size: options.span_size,
            span_left: options.span_size,
            span_hasher: Hasher::new(),
            span_digests: Vec::new(),
            seek: options.seek_span_size.map(SeekSpans::new),
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<()> {
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
        if let Some(seek) = &mut self.seek {
            seek.push(chunk);
        }
        Ok(())
    }

    pub(super) fn finish(mut self, size: u64) -> Result<WalkResult> {
        if self.span_left < self.span_size {
            self.span_digests.push(self.span_hasher.finish_reset());
        }
        Ok(WalkResult {
            digest: self.layer_hasher.finish_reset(),
            toc: self.scanner.finish()?,
            zinfo: Zinfo::Tar(TarZinfo { span_size: self.span_size, size }),
            span_digests: self.span_digests,
            diff_id: None,
            uncompressed_size: size,
            dropped_checkpoint_count: 0,
            seek: match self.seek {
                Some(seek) => Some(seek.finish(size)?),
                None => None,
            },
        })
    }
}
