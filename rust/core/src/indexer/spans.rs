//! Selecting checkpoints, and computing the digests of the spans between them.

use super::cache::{self, PREFETCH_LEN};
use super::seek::SeekInput;
use super::{IndexOptions, WalkResult, check_room};
use crate::checkpoint::{Checkpoint, CheckpointRule, WINDOW_LEN};
use crate::digest::{Digest, Hasher};
use crate::error::Result;
use crate::parallel::{BlobConsumer, CheckpointPolicy, SpanConsumer};
use crate::span::{CompressedOffset, UncompressedOffset};
use crate::tar::Toc;
use crate::ztoc::{GzipZinfo, Zinfo};

/// Selects the candidates that become checkpoints, and limits their number to what fits in a zTOC.
#[derive(Debug)]
pub(super) struct CheckpointSelector {
    rule: CheckpointRule,
    count: usize,
}

impl CheckpointSelector {
    pub(super) const fn new(span_size: u64) -> Self {
        Self { rule: CheckpointRule::new(span_size), count: 0 }
    }
}

impl CheckpointPolicy for CheckpointSelector {
    fn take(&mut self, at: UncompressedOffset) -> Result<bool> {
        if !self.rule.take(at) {
            return Ok(false);
        }
        check_room(self.count, WINDOW_LEN as u64)?;
        self.count += 1;
        Ok(true)
    }
}

/// How much of a chunk each digest has covered. The two differ because consecutive spans may share
/// a byte, and the bytes before the first span belong to no span.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hashed {
    layer: usize,
    span: usize,
}

/// Checkpoints, and the digests of the spans between them. Its methods can update the layer's
/// digest at the same time.
#[derive(Debug)]
pub(super) struct Spans {
    drop_early_checkpoints: bool,
    dropped_checkpoint_count: u64,
    checkpoints: Vec<Checkpoint>,
    span_hasher: Hasher,
    span_digests: Vec<Digest>,
    pub(super) seek: Option<SeekInput>,
}

impl Spans {
    pub(super) fn new(options: &IndexOptions, seek: Option<SeekInput>) -> Self {
        Self {
            drop_early_checkpoints: !options.reference_identical,
            dropped_checkpoint_count: 0,
            checkpoints: Vec::new(),
            span_hasher: Hasher::new(),
            span_digests: Vec::new(),
            seek,
        }
    }

    /// Updates the digests up to `end` of a chunk that another core has written.
    fn hash_cold(
        &mut self,
        mut layer: Option<&mut LayerDigest>,
        chunk: &[u8],
        hashed: &mut Hashed,
        end: usize,
    ) {
        while end - hashed.layer > PREFETCH_LEN {
            let step = hashed.layer + PREFETCH_LEN;
            cache::prefetch(&chunk[step..(step + PREFETCH_LEN).min(end)]);
            self.hash(layer.as_deref_mut(), chunk, hashed, step);
        }
        self.hash(layer, chunk, hashed, end);
    }

    /// Updates the digests up to `end` of `chunk`, including the layer's if it is given.
    pub(super) fn hash(
        &mut self,
        layer: Option<&mut LayerDigest>,
        chunk: &[u8],
        hashed: &mut Hashed,
        end: usize,
    ) {
        let layer_bytes = &chunk[hashed.layer..end];
        let span_bytes = &chunk[hashed.span..end];
        match layer.map(|layer| &mut layer.0) {
            Some(hasher) if self.checkpoints.is_empty() => hasher.update(layer_bytes),
            Some(hasher) => {
                hasher.update_with(layer_bytes, &mut self.span_hasher, span_bytes);
            }
            None if self.checkpoints.is_empty() => {}
            None => self.span_hasher.update(span_bytes),
        }
        *hashed = Hashed { layer: end, span: end };
    }

    /// Ends a span and starts the next one at `checkpoint`, whose first byte is in `chunk`.
    pub(super) fn start_span(
        &mut self,
        layer: Option<&mut LayerDigest>,
        checkpoint: Checkpoint,
        chunk_start: u64,
        chunk: &[u8],
        hashed: &mut Hashed,
    ) {
        let end = index_in(chunk, chunk_start, checkpoint.compressed);
        let start = index_in(chunk, chunk_start, checkpoint.first_byte());
        self.hash(layer, chunk, hashed, end);
        if !self.checkpoints.is_empty() {
            let digest = self.span_hasher.finish_reset();
            if self.drop_early_checkpoints && checkpoint.uncompressed.0 == 0 {
                // soci-snapshotter rejects spans without output. It expects a gzip header before
                // the first span, and accepts anything between the two.
                self.checkpoints.pop();
                self.dropped_checkpoint_count += 1;
            } else {
                self.span_digests.push(digest);
            }
        }
        self.checkpoints.push(checkpoint);
        hashed.span = start;
    }

    pub(super) fn finish(mut self, layer: LayerDigest, span_size: u64) -> WalkResult {
        self.span_digests.push(self.span_hasher.finish_reset());
        WalkResult {
            digest: layer.finish(),
            toc: Toc::default(),
            zinfo: Zinfo::Gzip(GzipZinfo::new(span_size, self.checkpoints)),
            span_digests: self.span_digests,
            diff_id: None,
            uncompressed_size: 0,
            dropped_checkpoint_count: self.dropped_checkpoint_count,
            seek: None,
        }
    }

    /// Processes a chunk that another core has written.
    fn push_cold(
        &mut self,
        mut layer: Option<&mut LayerDigest>,
        start: u64,
        bytes: &[u8],
        checkpoints: Vec<Checkpoint>,
    ) {
        let mut hashed = Hashed::default();
        for checkpoint in checkpoints {
            let end = index_in(bytes, start, checkpoint.compressed);
            self.hash_cold(layer.as_deref_mut(), bytes, &mut hashed, end);
            self.start_span(layer.as_deref_mut(), checkpoint, start, bytes, &mut hashed);
        }
        self.hash_cold(layer, bytes, &mut hashed, bytes.len());
        if let Some(seek) = &mut self.seek {
            seek.push(bytes);
        }
    }
}

impl SpanConsumer<LayerDigest> for Spans {
    fn push(&mut self, start: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>) {
        self.push_cold(None, start, bytes, checkpoints);
    }

    fn push_with(
        &mut self,
        layer: &mut LayerDigest,
        start: u64,
        bytes: &[u8],
        checkpoints: Vec<Checkpoint>,
    ) {
        self.push_cold(Some(layer), start, bytes, checkpoints);
    }
}

/// The digest of the layer as stored.
#[derive(Debug, Default)]
pub(super) struct LayerDigest(Hasher);

impl LayerDigest {
    fn finish(mut self) -> Digest {
        self.0.finish_reset()
    }
}

impl BlobConsumer for LayerDigest {
    fn push(&mut self, bytes: &[u8]) {
        for step in bytes.chunks(PREFETCH_LEN) {
            cache::prefetch(step);
            self.0.update(step);
        }
    }
}

/// The index of `at` in a chunk of the layer.
fn index_in(chunk: &[u8], chunk_start: u64, at: CompressedOffset) -> usize {
    usize::try_from(at.0.saturating_sub(chunk_start)).unwrap_or(0).min(chunk.len())
}
