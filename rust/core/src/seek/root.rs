//! The root of a seek table, which describes every other part and holds its digest.

use std::ops::Range;

use super::chunk::DIGEST_LEN;
use super::positions::{LayerCompression, LayerSizes, Positions};
use super::wire::{Compressor, Reader, len32, put_varint};
use super::{CHECKPOINTS_PER_CHUNK, SeekLayer, SeekSpans, in_part};
use crate::digest::Digest;
use crate::error::{Error, Result, SeekError, SeekPart};

const MAGIC: [u8; 8] = *b"TOCSINS1";
/// Compression level. The root is small and fetched by every reader.
const LEVEL: i32 = 19;
/// Maximum number of layers; containerd and Docker stop at a few hundred.
pub const MAX_LAYERS: usize = 4096;
/// Maximum number of entries in a chunk of the file list.
pub const ENTRIES_PER_CHUNK: usize = 1024;
/// Maximum number of entries in the file list.
pub(super) const MAX_ENTRIES: u64 = 1 << 28;
/// Maximum length of the root's content: enough for the first keys of a million chunks.
const MAX_CONTENT_LEN: u64 = 64 << 20;
/// Maximum length of the decompressed position map.
const MAX_POSITIONS_LEN: u64 = 256 << 20;
/// Maximum length of a position in the map: two varints.
const MAX_POSITION_LEN: u64 = 2 * 10;
/// Maximum length of a decompressed chunk of the file list. A chunk ends at 256 KiB, but its last entry
/// may have extended attributes of 1 MiB, and a hard link to it may add as much again.
pub(super) const MAX_LIST_CHUNK_LEN: u64 = 4 << 20;

/// The root of a seek table.
#[derive(Debug)]
pub struct Root {
    span_size: u64,
    layers: Vec<RootLayer>,
    positions: Part,
    list: Vec<ListPart>,
    /// First keys of the chunks of the file list, one after the other.
    keys: Vec<u8>,
}

/// A layer of the image.
#[derive(Debug, Clone)]
pub struct RootLayer {
    /// The digest of the layer as stored.
    pub digest: Digest,
    sizes: LayerSizes,
    /// Where the head ends in the seek blob, then where each chunk ends.
    ends: Vec<u64>,
    chunk_digests: Vec<Digest>,
}

/// A compressed part in the file list blob.
#[derive(Debug, Clone)]
struct Part {
    range: Range<u64>,
    len: u64,
    digest: Digest,
}

/// A chunk of the file list.
#[derive(Debug, Clone)]
struct ListPart {
    part: Part,
    /// The numbers of its entries.
    entries: Range<u32>,
    /// Its first key, in `Root::keys`.
    key: Range<usize>,
}

/// A chunk of the file list as it was written.
#[derive(Debug)]
pub(super) struct WrittenChunk {
    pub(super) stored: Vec<u8>,
    pub(super) len: u64,
    pub(super) entries: u32,
    pub(super) first_key: Vec<u8>,
}

/// Writes the root and the file list blob.
///
/// # Errors
/// `Error::Seek` if a count or size exceeds what the format allows, or if layers have different span
/// sizes.
pub(super) fn write(
    layers: &[(Digest, &SeekLayer)],
    list: &[WrittenChunk],
) -> Result<(Vec<u8>, Vec<u8>)> {
    let in_root = in_part(SeekPart::Root);
    let span_size =
        layers.first().map_or(super::DEFAULT_SEEK_SPAN_SIZE, |(_, seek)| seek.span_size());
    if let Some((_, other)) = layers.iter().find(|(_, seek)| seek.span_size() != span_size) {
        let (what, value) = ("span size of a layer", other.span_size());
        return Err(in_root(SeekError::Value { what, value }));
    }
    write_parts(span_size, layers, list).map_err(in_root)
}

fn write_parts(
    span_size: u64,
    layers: &[(Digest, &SeekLayer)],
    list: &[WrittenChunk],
) -> std::result::Result<(Vec<u8>, Vec<u8>), SeekError> {
    let mut map = Vec::new();
    layers.iter().for_each(|(_, seek)| seek.positions().write(&mut map));
    let mut blob = Compressor::new(LEVEL)?.compress(&map)?;
    let mut digests = vec![Digest::of(&blob)];

    let mut content = Vec::new();
    for number in [span_size, ENTRIES_PER_CHUNK as u64, CHECKPOINTS_PER_CHUNK as u64] {
        put_varint(&mut content, number);
    }
    put_varint(&mut content, layers.len() as u64);
    for (digest, seek) in layers {
        let positions = seek.positions();
        content.extend_from_slice(digest.as_bytes());
        for number in [
            positions.compression().code(),
            positions.compressed_size(),
            positions.uncompressed_size(),
            positions.span_count(),
            seek.head_len() as u64,
        ] {
            put_varint(&mut content, number);
        }
        let ranges = (0..seek.chunk_count()).filter_map(|chunk| seek.chunk_range(chunk));
        ranges.for_each(|range| put_varint(&mut content, range.len() as u64));
    }
    put_varint(&mut content, blob.len() as u64);
    put_varint(&mut content, map.len() as u64);
    put_varint(&mut content, list.len() as u64);
    let mut last_key: &[u8] = &[];
    for chunk in list {
        let shared = shared_len(last_key, &chunk.first_key);
        put_varint(&mut content, u64::from(chunk.entries));
        put_varint(&mut content, shared as u64);
        put_varint(&mut content, (chunk.first_key.len() - shared) as u64);
        content.extend_from_slice(&chunk.first_key[shared..]);
        put_varint(&mut content, chunk.stored.len() as u64);
        put_varint(&mut content, chunk.len);
        digests.push(Digest::of(&chunk.stored));
        blob.extend_from_slice(&chunk.stored);
        last_key = &chunk.first_key;
    }
    digests.extend(layers.iter().flat_map(|(_, seek)| seek.chunk_digests()));
    len32(content.len())?;

    let mut root = MAGIC.to_vec();
    Compressor::new(LEVEL)?.put_frame(&mut root, &content)?;
    digests.iter().for_each(|digest| root.extend_from_slice(digest.as_bytes()));
    Ok((root, blob))
}

/// The length of the common prefix.
pub(super) fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Root {
    /// Reads a root. The caller must have verified its digest.
    ///
    /// # Errors
    /// `Error::Seek` if it is invalid.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let in_root = in_part(SeekPart::Root);
        let mut reader = Reader::new(bytes);
        if *reader.array::<8>("the magic number").map_err(&in_root)? != MAGIC {
            return Err(in_root(SeekError::Magic));
        }
        let content = reader.frame(MAX_CONTENT_LEN, "the content of the root").map_err(&in_root)?;
        // Each chunk has a digest after the content, so a small root cannot claim many of them.
        let digests = reader.remaining() / DIGEST_LEN;
        let mut root = Self::read_content(&content, digests).map_err(&in_root)?;
        root.read_digests(&mut reader).map_err(&in_root)?;
        Ok(root)
    }

    fn read_content(content: &[u8], digests: usize) -> std::result::Result<Self, SeekError> {
        let mut reader = Reader::new(content);
        let span_size = reader.varint("the span size")?;
        for (what, expected) in [
            ("number of entries in a chunk", ENTRIES_PER_CHUNK as u64),
            ("number of checkpoints in a chunk", CHECKPOINTS_PER_CHUNK as u64),
        ] {
            let value = reader.varint(what)?;
            if value != expected {
                return Err(SeekError::Value { what, value });
            }
        }
        let count = reader.varint_to(MAX_LAYERS as u64, "number of layers")?;
        let mut left = digests;
        let layers = (0..count).map(|_| read_layer(&mut reader, span_size, &mut left));
        let layers = layers.collect::<std::result::Result<Vec<_>, _>>()?;
        let spans: u64 = layers.iter().map(RootLayer::span_count).sum();
        let stored_len = reader.varint("the stored length of the position map")?;
        let limit = MAX_POSITIONS_LEN.min(spans * MAX_POSITION_LEN);
        let len = reader.varint_to(limit, "length of the position map")?;
        let positions = Part { range: 0..stored_len, len, digest: Digest::of(&[]) };

        let what = "number of chunks in the file list";
        let count = reader.varint_to(left as u64, what)?;
        let (mut list, mut keys) = (Vec::new(), Vec::new());
        let (mut end, mut entries) = (stored_len, 0_u64);
        let mut last = 0..0;
        for _ in 0..count {
            let what = "number of entries in a chunk";
            let in_chunk = reader.varint_to(ENTRIES_PER_CHUNK as u64, what)?;
            let key = read_key(&mut reader, &mut keys, last)?;
            let stored = reader.varint("the stored length of a chunk")?;
            let len = reader.varint_to(MAX_LIST_CHUNK_LEN, "length of a chunk")?;
            let what = "size of the file list blob";
            let (value, limit) = (stored, u64::MAX - end);
            let next = end.checked_add(stored).ok_or(SeekError::TooLarge { what, value, limit })?;
            let next_entries = entries + in_chunk;
            if in_chunk == 0 {
                return Err(SeekError::Value { what: "number of entries in a chunk", value: 0 });
            }
            if next_entries > MAX_ENTRIES {
                let (what, value) = ("number of entries", next_entries);
                return Err(SeekError::TooLarge { what, value, limit: MAX_ENTRIES });
            }
            list.push(ListPart {
                part: Part { range: end..next, len, digest: Digest::of(&[]) },
                entries: to_u32(entries)..to_u32(next_entries),
                key: key.clone(),
            });
            (end, entries, last) = (next, next_entries, key);
        }
        reader.finish()?;
        Ok(Self { span_size, layers, positions, list, keys })
    }

    fn read_digests(&mut self, reader: &mut Reader<'_>) -> std::result::Result<(), SeekError> {
        let what = "the digests";
        self.positions.digest = reader.digest(what)?;
        for chunk in &mut self.list {
            chunk.part.digest = reader.digest(what)?;
        }
        for layer in &mut self.layers {
            for _ in 0..layer.ends.len().saturating_sub(1) {
                layer.chunk_digests.push(reader.digest(what)?);
            }
        }
        reader.finish()
    }

    /// The distance between checkpoints in uncompressed bytes.
    #[must_use]
    pub const fn span_size(&self) -> u64 {
        self.span_size
    }

    /// The layers, lowest first.
    #[must_use]
    pub fn layers(&self) -> &[RootLayer] {
        &self.layers
    }

    /// The number of entries in the file list.
    #[must_use]
    pub fn entry_count(&self) -> u32 {
        self.list.last().map_or(0, |chunk| chunk.entries.end)
    }

    /// The number of chunks of the file list.
    #[must_use]
    pub fn list_chunk_count(&self) -> u32 {
        to_u32(self.list.len() as u64)
    }

    /// Where the position map is in the file list blob.
    #[must_use]
    pub fn positions_range(&self) -> Range<u64> {
        self.positions.range.clone()
    }

    /// Where a chunk of the file list is in the file list blob.
    #[must_use]
    pub fn list_chunk_range(&self, chunk: u32) -> Option<Range<u64>> {
        Some(self.list.get(chunk as usize)?.part.range.clone())
    }

    /// The size of the file list blob.
    #[must_use]
    pub fn list_blob_size(&self) -> u64 {
        self.list.last().map_or(self.positions.range.end, |chunk| chunk.part.range.end)
    }

    /// The numbers of the entries in a chunk; empty if it does not exist.
    #[must_use]
    pub fn chunk_entries(&self, chunk: u32) -> Range<u32> {
        self.list.get(chunk as usize).map_or(0..0, |chunk| chunk.entries.clone())
    }

    /// The chunk that holds an entry.
    pub(super) fn chunk_of_entry(&self, entry: u32) -> Option<u32> {
        if entry >= self.entry_count() {
            return None;
        }
        let after = self.list.partition_point(|chunk| chunk.entries.start <= entry);
        after.checked_sub(1).map(|chunk| to_u32(chunk as u64))
    }

    /// The chunk that holds a key, if any does: the last one whose first key is not greater.
    pub(super) fn chunk_of_key(&self, key: &[u8]) -> Option<u32> {
        let after = self.list.partition_point(|chunk| &self.keys[chunk.key.clone()] <= key);
        after.checked_sub(1).map(|chunk| to_u32(chunk as u64))
    }

    /// The first key of a chunk.
    pub(super) fn first_key(&self, chunk: u32) -> Option<&[u8]> {
        self.list.get(chunk as usize).map(|chunk| &self.keys[chunk.key.clone()])
    }

    /// Verifies the digest of a chunk of the file list and decompresses it.
    pub(super) fn open_list_chunk(&self, chunk: u32, stored: &[u8]) -> Result<Vec<u8>> {
        let name = SeekPart::TocChunk(chunk);
        match self.list.get(chunk as usize) {
            Some(part) => open(&part.part, stored, name, MAX_LIST_CHUNK_LEN),
            None => Err(no_such_chunk(chunk, name)),
        }
    }

    /// Verifies and reads the position map; returns the spans of each layer.
    ///
    /// # Errors
    /// `Error::Verification` if the digest differs; `Error::Seek` if its content is invalid.
    pub fn spans(&self, stored: &[u8]) -> Result<Vec<SeekSpans>> {
        let part = SeekPart::Positions;
        let map = open(&self.positions, stored, part, MAX_POSITIONS_LEN)?;
        let mut reader = Reader::new(&map);
        let mut all = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let positions = Positions::read(layer.sizes, &mut reader, part)?;
            all.push(SeekSpans::new(positions, layer.chunk_digests.clone()));
        }
        reader.finish().map_err(in_part(part))?;
        Ok(all)
    }
}

impl RootLayer {
    /// How the layer is compressed.
    #[must_use]
    pub const fn compression(&self) -> LayerCompression {
        self.sizes.compression
    }

    /// Size of the layer as stored, in bytes.
    #[must_use]
    pub const fn compressed_size(&self) -> u64 {
        self.sizes.compressed_size
    }

    /// Size of the uncompressed layer up to the end of the stream, in bytes.
    #[must_use]
    pub const fn uncompressed_size(&self) -> u64 {
        self.sizes.uncompressed_size
    }

    /// The number of spans.
    #[must_use]
    pub const fn span_count(&self) -> u64 {
        self.sizes.span_count
    }

    /// Where a seek chunk is in the layer's seek blob.
    #[must_use]
    pub fn chunk_range(&self, chunk: u32) -> Option<Range<u64>> {
        let end = *self.ends.get(chunk as usize + 1)?;
        Some(*self.ends.get(chunk as usize)?..end)
    }

    /// The size of the layer's seek blob.
    #[must_use]
    pub fn blob_size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

fn read_layer(
    reader: &mut Reader<'_>,
    span_size: u64,
    digests: &mut usize,
) -> std::result::Result<RootLayer, SeekError> {
    let digest = reader.digest("the digest of a layer")?;
    let sizes = LayerSizes {
        span_size,
        compression: LayerCompression::from_code(reader.varint("the compression")?)?,
        compressed_size: reader.varint("the compressed size")?,
        uncompressed_size: reader.varint("the uncompressed size")?,
        span_count: reader.varint("the span count")?,
    };
    sizes.check()?;
    let mut end = reader.varint_to(u64::from(u32::MAX), "length of the head of a seek blob")?;
    let mut ends = vec![end];
    let what = "the length of a seek chunk";
    *digests =
        digests.checked_sub(sizes.chunk_count()).ok_or(SeekError::Truncated("the digests"))?;
    for _ in 0..sizes.chunk_count() {
        end += reader.varint_to(u64::from(u32::MAX), what)?;
        ends.push(end);
    }
    Ok(RootLayer { digest, sizes, ends, chunk_digests: Vec::new() })
}

/// Reads a front-coded key, appends it to `keys` and returns its range. Keys must ascend.
fn read_key(
    reader: &mut Reader<'_>,
    keys: &mut Vec<u8>,
    last: Range<usize>,
) -> std::result::Result<Range<usize>, SeekError> {
    let shared = reader.varint_to(last.len() as u64, "shared length of a key")?;
    let shared = usize::try_from(shared).unwrap_or(0);
    let len = reader.varint_to(MAX_KEY_LEN as u64, "length of a key")?;
    let suffix = reader.bytes(usize::try_from(len).unwrap_or(usize::MAX), "a key")?;
    if shared + suffix.len() > MAX_KEY_LEN {
        let value = (shared + suffix.len()) as u64;
        return Err(SeekError::TooLarge {
            what: "length of a key",
            value,
            limit: MAX_KEY_LEN as u64,
        });
    }
    let start = keys.len();
    // Each key may repeat nearly all of the key before it.
    if start > MAX_KEYS_LEN {
        let (value, limit) = (start as u64, MAX_KEYS_LEN as u64);
        return Err(SeekError::TooLarge { what: "length of all keys", value, limit });
    }
    keys.extend_from_within(last.start..last.start + shared);
    keys.extend_from_slice(suffix);
    let key = start..keys.len();
    if !keys[key.clone()].contains(&0) || !last.is_empty() && keys[last] >= keys[key.clone()] {
        return Err(SeekError::Order("first keys of chunks"));
    }
    Ok(key)
}

/// Maximum length of a key (directory, NUL and name), from the longest path that Linux accepts.
pub(super) const MAX_KEY_LEN: usize = crate::tree::MAX_PATH_LEN + 1;

/// Maximum total length of the first keys.
const MAX_KEYS_LEN: usize = 64 << 20;

fn open(part: &Part, stored: &[u8], name: SeekPart, limit: u64) -> Result<Vec<u8>> {
    let actual = Digest::of(stored);
    if actual != part.digest {
        return Err(Error::Verification {
            what: format!("digest of the seek table's {name}"),
            expected: part.digest.to_string(),
            actual: actual.to_string(),
        });
    }
    super::wire::decompress(stored, part.len, limit, "content").map_err(in_part(name))
}

fn no_such_chunk(chunk: u32, name: SeekPart) -> Error {
    in_part(name)(SeekError::Value { what: "number of a chunk", value: chunk.into() })
}

/// Converts a number that has been checked to fit.
fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
