//! The file list of an image, which answers from the chunks that have been added.
//!
//! Nothing is fetched here. If an answer needs chunks that are missing, it names them, and the caller
//! adds them and asks again.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::list_chunk::{self, ListChunk, ListEntry, Owner};
use super::root::MAX_KEY_LEN;
use super::{Root, in_part};
use crate::error::{Error, Result, SeekError, SeekPart};
use crate::tar::EntryType;
use crate::tree::{MAX_LINKS, compare_names, has_more_parts, next_part};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// These chunks are needed first.
    Chunks(Vec<u32>),
    /// A component of the path does not exist.
    Missing,
    /// This is not a directory, but the path continues after it.
    NotDirectory(Vec<u8>),
    /// More than [`MAX_LINKS`] symbolic links, possibly in a loop.
    Loop,
}

/// Usual memory of a decoded chunk in bytes, per stored byte and per entry. Real chunks take about 200
/// bytes per entry.
const KEPT_PER_BYTE: usize = 16;
const KEPT_PER_ENTRY: usize = 512;
/// Bytes by which all decoded chunks of an image together may exceed the usual memory, since some have
/// deep directories. Beyond that, the list is slow to read, but does not exhaust memory.
const MAX_EXCESS: usize = 64 << 20;

/// An answer, or why there is none.
pub type Answer<T> = std::result::Result<T, Stop>;

/// An entry and its owner.
#[derive(Debug, Clone)]
pub struct Listed {
    chunk: Arc<ListChunk>,
    index: usize,
    /// The number of the entry.
    pub number: u32,
}

impl Listed {
    /// The entry.
    #[must_use]
    pub fn entry(&self) -> &ListEntry {
        // Never missing: `index` has been checked.
        self.chunk.entry(self.index).unwrap_or(&list_chunk::EMPTY)
    }

    /// The owner of the entry.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.chunk.owner(self.entry()).cloned().unwrap_or_default()
    }

    /// The last component of the path.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.chunk.name(self.index)
    }

    /// The path, without a leading slash.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let (directory, name) = self.chunk.key(self.index).unwrap_or_default();
        joined(directory, name)
    }

    /// The number of the first name of this file.
    #[must_use]
    pub fn first_name(&self) -> u32 {
        let before = self.entry().extra.as_ref().and_then(|extra| extra.names_before);
        self.number - before.unwrap_or(0).min(self.number)
    }
}

/// The file list of an image. Several threads may use it at once.
#[derive(Debug)]
pub struct FileList {
    root: Arc<Root>,
    chunks: Box<[OnceLock<Kept>]>,
    /// For files with several names: from the number of the first name to that of one in an added
    /// chunk.
    names: Mutex<HashMap<u32, u32>>,
    /// What is left of [`MAX_EXCESS`].
    spare: AtomicUsize,
}

/// A chunk that has been checked.
#[derive(Debug)]
enum Kept {
    Decoded(Arc<ListChunk>),
    /// Keeping it decoded would exceed [`MAX_EXCESS`], so it is decoded each time.
    Stored(Box<[u8]>),
}

impl FileList {
    /// The file list of a root, without any chunk.
    #[must_use]
    pub fn new(root: Arc<Root>) -> Self {
        let chunks = (0..root.list_chunk_count()).map(|_| OnceLock::new()).collect();
        Self { root, chunks, names: Mutex::default(), spare: AtomicUsize::new(MAX_EXCESS) }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Whether a chunk has been added.
    #[must_use]
    pub fn has_chunk(&self, chunk: u32) -> bool {
        self.chunks.get(chunk as usize).is_some_and(|chunk| chunk.get().is_some())
    }

    /// Verifies, decodes and adds a chunk. Adding it again changes nothing.
    ///
    /// # Errors
    /// `Error::Verification` if the digest differs; `Error::Seek` if its content is invalid.
    pub fn add_chunk(&self, number: u32, stored: &[u8]) -> Result<()> {
        if self.has_chunk(number) {
            return Ok(());
        }
        let chunk = self.decode(number, stored)?;
        let entries = self.root.chunk_entries(number);
        self.note_names(&chunk, entries.start);
        let usual = KEPT_PER_BYTE * stored.len() + KEPT_PER_ENTRY * entries.len();
        let excess = chunk.memory().saturating_sub(usual);
        let take = |spare: usize| spare.checked_sub(excess);
        let kept = match self.spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Kept::Decoded(Arc::new(chunk)),
            Err(_) => Kept::Stored(stored.into()),
        };
        if let Some(place) = self.chunks.get(number as usize) {
            let _ = place.set(kept);
        }
        Ok(())
    }

    /// Verifies, decodes and checks a chunk.
    fn decode(&self, number: u32, stored: &[u8]) -> Result<ListChunk> {
        let content = self.root.open_list_chunk(number, stored)?;
        let entries = self.root.chunk_entries(number);
        let in_chunk = in_part(SeekPart::TocChunk(number));
        // An image without layers still has a root directory.
        let layers = self.root.layers().len().max(1);
        let chunk =
            list_chunk::read(&content, entries.start, entries.len(), layers).map_err(&in_chunk)?;
        self.check_keys(number, &chunk).map_err(&in_chunk)?;
        Ok(chunk)
    }

    /// Checks that the first key is the one in the root, and that the last key is less than the first
    /// key of the next chunk.
    fn check_keys(&self, number: u32, chunk: &ListChunk) -> std::result::Result<(), SeekError> {
        let key = |index: usize| {
            chunk.key(index).map(|(directory, name)| list_chunk::key(directory, name))
        };
        let is_first = key(0).as_deref() == self.root.first_key(number);
        let last = chunk.entries().len().checked_sub(1).and_then(key);
        let next = self.root.first_key(number.saturating_add(1));
        let is_before = next.is_none_or(|next| last.as_deref().is_some_and(|last| last < next));
        if is_first && is_before { Ok(()) } else { Err(SeekError::Order("keys of chunks")) }
    }

    fn note_names(&self, chunk: &ListChunk, first: u32) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, entry) in (first..).zip(chunk.entries()) {
            if let Some(before) = entry.extra.as_ref().and_then(|extra| extra.names_before) {
                names.entry(number - before.min(number)).or_insert(number);
            }
        }
    }

    fn chunk(&self, number: u32) -> Option<Arc<ListChunk>> {
        match self.chunks.get(number as usize)?.get()? {
            Kept::Decoded(chunk) => Some(Arc::clone(chunk)),
            // Decoding does not fail: it succeeded when the chunk was added.
            Kept::Stored(stored) => self.decode(number, stored).ok().map(Arc::new),
        }
    }

    /// All chunks that have not been added.
    #[must_use]
    pub fn missing_chunks(&self) -> Vec<u32> {
        (0..self.root.list_chunk_count()).filter(|chunk| !self.has_chunk(*chunk)).collect()
    }

    /// The entry with a number. If its chunk is missing, any other name of the same file that has been
    /// added.
    ///
    /// # Errors
    /// [`Stop::Missing`] if there is no such entry; [`Stop::Chunks`] if a chunk is missing.
    pub fn entry(&self, number: u32) -> Answer<Listed> {
        match self.named(number) {
            Err(Stop::Chunks(chunks)) => {
                let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                let known = names.get(&number).copied();
                known.map_or(Err(Stop::Chunks(chunks)), |known| self.named(known))
            }
            answer => answer,
        }
    }

    /// The error for an entry that is not a regular file, although another name of it says so.
    #[must_use]
    pub fn not_a_file(&self, listed: &Listed) -> Error {
        let chunk = self.root.chunk_of_entry(listed.number).unwrap_or(u32::MAX);
        let (what, value) = ("entry of a file with several names", listed.number.into());
        in_part(SeekPart::TocChunk(chunk))(SeekError::Value { what, value })
    }

    /// The entry with exactly this number, whatever other names its file has.
    ///
    /// # Errors
    /// Same as [`Self::entry`].
    pub fn named(&self, number: u32) -> Answer<Listed> {
        let chunk = self.root.chunk_of_entry(number).ok_or(Stop::Missing)?;
        let found = self.chunk(chunk).ok_or_else(|| Stop::Chunks(vec![chunk]))?;
        let index = (number - self.root.chunk_entries(chunk).start) as usize;
        Ok(Listed { chunk: found, index, number })
    }

    /// The entry with a key; `None` if there is none.
    fn lookup(&self, directory: &[u8], name: &[u8]) -> std::result::Result<Option<Listed>, u32> {
        if directory.len() + name.len() + 1 > MAX_KEY_LEN {
            return Ok(None);
        }
        let key = list_chunk::key(directory, name);
        let Some(number) = self.root.chunk_of_key(&key) else { return Ok(None) };
        let chunk = self.chunk(number).ok_or(number)?;
        let first = self.root.chunk_entries(number).start;
        Ok(chunk.find(directory, name).map(|index| Listed {
            chunk,
            index,
            number: first + u32::try_from(index).unwrap_or(0),
        }))
    }

    /// Resolves a path from the root. `.`, `..` and symbolic links are resolved inside the image, as
    /// under `chroot`.
    ///
    /// `follow`: whether to follow a symbolic link at the end of the path too. Before a trailing
    /// slash, a link is always followed.
    ///
    /// # Errors
    /// See [`Stop`].
    pub fn resolve(&self, path: &[u8], follow: bool) -> Answer<Listed> {
        let found = self.walk_links(path, follow || path.ends_with(b"/"))?;
        if path.ends_with(b"/") && found.entry().kind != EntryType::Directory {
            return Err(Stop::NotDirectory(found.path()));
        }
        Ok(found)
    }

    fn walk_links(&self, path: &[u8], follow: bool) -> Answer<Listed> {
        // What is left to resolve: the path, and on top of it the targets of links. The path at
        // `at` consists of real directories, except for its last component.
        let mut frames = vec![(path.to_vec(), 0)];
        let mut at = At { path: Vec::new(), listed: None };
        let mut followed = 0;
        // Whether to try the rest of a path in one lookup. If that fails, each component is looked up.
        let mut may_jump = true;
        loop {
            let Some((text, position)) = frames.last_mut() else { return self.listed(at) };
            let Some(part) = next_part(text, *position) else {
                frames.pop();
                may_jump = true;
                continue;
            };
            let start = part.start;
            let name = text[part.clone()].to_vec();
            *position = part.end;
            if name == b"." {
                continue;
            }
            if !at.is_directory() {
                return Err(Stop::NotDirectory(at.path));
            }
            if name == b".." {
                at = At { path: parent(&at.path).to_vec(), listed: None };
                continue;
            }
            // If the rest exists as written, no directory in it is a link.
            let rest = if may_jump { plain_rest(text, start, &at.path) } else { None };
            may_jump = false;
            let found = match rest.as_deref().map(|full| self.lookup_path(full)) {
                Some(Ok(Some(found))) => {
                    *position = text.len();
                    Some(found)
                }
                Some(Err(chunk)) => {
                    let whole = whole_rest(&frames, start, &at.path);
                    return Err(self.needs(chunk, &at.path, &name, &whole));
                }
                Some(Ok(None)) | None => match self.lookup(&at.path, &name) {
                    Ok(found) => found,
                    Err(chunk) => return Err(self.needs_each(chunk, &at.path, &text[start..])),
                },
            };
            let found = found.ok_or(Stop::Missing)?;
            let is_last = frames.len() == 1 && {
                let (text, position) = &frames[0];
                !has_more_parts(text, *position)
            };
            if found.entry().kind != EntryType::SymLink || is_last && !follow {
                at = At { path: found.path(), listed: Some(found) };
                continue;
            }
            let target = found.entry().target.clone();
            if target.is_empty() {
                return Err(Stop::Missing);
            }
            followed += 1;
            if followed > MAX_LINKS {
                return Err(Stop::Loop);
            }
            let directory =
                if target.starts_with(b"/") { Vec::new() } else { parent(&found.path()).to_vec() };
            at = At { path: directory, listed: None };
            // Finished frames are dropped, so that a long chain of links does not pile them up.
            while frames.last().is_some_and(|(text, position)| next_part(text, *position).is_none())
            {
                frames.pop();
            }
            frames.push((target, 0));
            may_jump = true;
        }
    }

    fn listed(&self, at: At) -> Answer<Listed> {
        match at.listed {
            Some(listed) => Ok(listed),
            None => match self.lookup_path(&at.path) {
                Ok(found) => found.ok_or(Stop::Missing),
                Err(chunk) => Err(Stop::Chunks(vec![chunk])),
            },
        }
    }

    fn lookup_path(&self, path: &[u8]) -> std::result::Result<Option<Listed>, u32> {
        let (directory, name) = split(path);
        self.lookup(directory, name)
    }

    /// Asks for the chunk of a path, and for two more that may be needed next: that of its first
    /// component, which may be a link to a directory, and that of the whole path that remains after
    /// the links so far.
    fn needs(&self, chunk: u32, directory: &[u8], first: &[u8], whole: &[u8]) -> Stop {
        let others = [self.lookup(directory, first).err(), self.lookup_path(whole).err()];
        let chunks: BTreeSet<_> = others.into_iter().flatten().chain([chunk]).collect();
        Stop::Chunks(chunks.into_iter().collect())
    }

    /// Asks for the chunks of all components of a path, since it does not exist as written.
    fn needs_each(&self, chunk: u32, directory: &[u8], rest: &[u8]) -> Stop {
        let mut chunks = BTreeSet::from([chunk]);
        let mut at = directory.to_vec();
        let mut from = 0;
        while let Some(part) = next_part(rest, from).filter(|_| at.len() < MAX_KEY_LEN) {
            from = part.end;
            let name = &rest[part];
            if name == b".." {
                break;
            }
            if name != b"." {
                chunks.extend(self.lookup(&at, name).err());
                push_part(&mut at, name);
            }
        }
        Stop::Chunks(chunks.into_iter().collect())
    }

    /// The entries of a directory, sorted by name.
    ///
    /// # Errors
    /// [`Stop::Chunks`].
    pub fn children(&self, directory: &[u8]) -> Answer<Vec<Listed>> {
        let mut found = self.children_by_bytes(directory)?;
        found.sort_unstable_by(|a, b| compare_names(a.name(), b.name()));
        Ok(found)
    }

    /// The entries of a directory, sorted by the bytes of their names.
    ///
    /// # Errors
    /// [`Stop::Chunks`].
    pub fn children_by_bytes(&self, directory: &[u8]) -> Answer<Vec<Listed>> {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for number in self.chunks_of_directory(directory) {
            let Some(chunk) = self.chunk(number) else {
                missing.push(number);
                continue;
            };
            let first = self.root.chunk_entries(number).start;
            for index in chunk.in_directory(directory) {
                if chunk.name(index).is_empty() {
                    continue;
                }
                let number = first + u32::try_from(index).unwrap_or(0);
                found.push(Listed { chunk: Arc::clone(&chunk), index, number });
            }
        }
        if !missing.is_empty() {
            return Err(Stop::Chunks(missing));
        }
        Ok(found)
    }

    /// The chunks that may hold entries of a directory.
    fn chunks_of_directory(&self, directory: &[u8]) -> Range<u32> {
        let first = self.root.chunk_of_key(&list_chunk::key(directory, &[])).unwrap_or(0);
        // Greater than every key of the directory, and not greater than any key of a later one.
        let after = [directory, &[1]].concat();
        match self.root.chunk_of_key(&after) {
            Some(last) => first..last + 1,
            None => 0..0,
        }
    }

    /// The entry at a path that has already been resolved. Links are not followed.
    ///
    /// # Errors
    /// [`Stop::Chunks`].
    pub fn locate(&self, path: &[u8]) -> Answer<Option<Listed>> {
        let mut clean = Vec::new();
        let mut from = 0;
        while let Some(part) = next_part(path, from) {
            from = part.end;
            push_part(&mut clean, &path[part]);
        }
        self.lookup_path(&clean).map_err(|chunk| Stop::Chunks(vec![chunk]))
    }
}

/// How far a path has been resolved. An entry that is not known is a directory.
struct At {
    path: Vec<u8>,
    listed: Option<Listed>,
}

impl At {
    fn is_directory(&self) -> bool {
        let kind = self.listed.as_ref().map(|listed| listed.entry().kind);
        kind.is_none_or(|kind| kind == EntryType::Directory)
    }
}

/// A walk over everything below a directory, each directory before its contents.
#[derive(Debug)]
pub struct ListWalk {
    levels: Vec<(Vec<u8>, std::vec::IntoIter<Listed>)>,
    /// A directory whose contents come next.
    entering: Option<Vec<u8>>,
}

impl ListWalk {
    /// Starts a walk below a directory.
    #[must_use]
    pub const fn new(directory: Vec<u8>) -> Self {
        Self { levels: Vec::new(), entering: Some(directory) }
    }

    /// The next path and entry; `None` at the end.
    ///
    /// # Errors
    /// [`Stop::Chunks`]; the walk can then be continued.
    pub fn step(&mut self, list: &FileList) -> Answer<Option<(Vec<u8>, Listed)>> {
        if let Some(directory) = &self.entering {
            let children = list.children(directory)?;
            let directory = self.entering.take().unwrap_or_default();
            self.levels.push((directory, children.into_iter()));
        }
        while let Some((directory, children)) = self.levels.last_mut() {
            let Some(listed) = children.next() else {
                self.levels.pop();
                continue;
            };
            let path = joined(directory, listed.name());
            if listed.entry().kind == EntryType::Directory {
                self.entering = Some(path.clone());
            }
            return Ok(Some((path, listed)));
        }
        Ok(None)
    }
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn parent(path: &[u8]) -> &[u8] {
    split(path).0
}

fn push_part(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Joins a directory, the rest of the top frame from `start` on, and the rests of the frames below it,
/// up to a frame with a `.` or `..`.
fn whole_rest(frames: &[(Vec<u8>, usize)], start: usize, directory: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    for (index, (text, position)) in frames.iter().rev().enumerate() {
        let from = if index == 0 { start } else { *position };
        match plain_rest(text, from, &path) {
            Some(longer) => path = longer,
            None => break,
        }
    }
    path
}

/// Joins a directory and the rest of a path from `start` on, without repeated slashes. `None` if the
/// rest has a `.` or `..`.
fn plain_rest(path: &[u8], start: usize, directory: &[u8]) -> Option<Vec<u8>> {
    let mut rest = directory.to_vec();
    let mut from = start;
    while let Some(part) = next_part(path, from) {
        from = part.end;
        if matches!(&path[part.clone()], b"." | b"..") {
            return None;
        }
        push_part(&mut rest, &path[part]);
    }
    Some(rest)
}
