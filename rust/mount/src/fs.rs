//! The image as a file system, without FUSE: what is where, and reads that may take a while.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tocsin_core::inodes::{DataPlace, Inodes};

use crate::engine::{Engine, io_error};
use crate::headers::{self, Data, Extent};
use crate::log::{Log, Read};

/// Largest read that is answered at once.
const MAX_READ: u64 = 1 << 20;
/// A read that found its spans gone from memory again and again gives up.
const MAX_TRIES: u32 = 16;

/// The headers of a file have not been compared with the index.
const UNKNOWN: u8 = 0;
/// They are not where the index says, so they are looked for: they may come after a sparse file.
const ELSEWHERE: u8 = 4;
/// They match; the data is where the index says.
const PLAIN: u8 = 1;
/// They match; the file is sparse.
const SPARSE: u8 = 2;
/// They do not match: the index lies about the file.
const LIES: u8 = 3;

thread_local! {
    /// Bytes of the read that a thread is answering.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Receives the bytes of a read.
type Reply = Box<dyn FnOnce(io::Result<&[u8]>) + Send>;

/// The image as a file system.
#[derive(Debug)]
pub struct Fs {
    inodes: Inodes,
    engine: Arc<Engine>,
    checked: Box<[AtomicU8]>,
    sparse: Mutex<HashMap<u64, Arc<[Extent]>>>,
    log: Option<Log>,
}

/// What a read needs.
enum Step {
    /// All bytes are in the buffer.
    Done,
    /// These spans are missing.
    Missing(Vec<(usize, Range<u32>)>),
}

impl Fs {
    /// `has_log`: whether what is opened and read is noted.
    #[must_use]
    pub fn new(inodes: Inodes, engine: Arc<Engine>, has_log: bool) -> Self {
        let checked = (0..inodes.len()).map(|_| AtomicU8::new(UNKNOWN)).collect();
        let log = has_log.then(Log::default);
        Self { inodes, engine, checked, sparse: Mutex::default(), log }
    }

    /// The files.
    #[must_use]
    pub const fn inodes(&self) -> &Inodes {
        &self.inodes
    }

    /// What is here.
    #[must_use]
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Whether opening files is noted.
    #[must_use]
    pub const fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Notes that a file was opened.
    pub fn note_open(&self, inode: u64) {
        if let Some(log) = &self.log {
            log.note(Read { at: self.engine.now(), inode, start: 0, end: 0 });
        }
    }

    /// What was opened and read since the last call.
    #[must_use]
    pub fn drain_log(&self) -> Vec<Read> {
        self.log.as_ref().map_or_else(Vec::new, Log::drain)
    }

    /// Reads a part of a file, up to its end. Replies at once if the bytes are here, else when they
    /// have arrived; with an error if they are not those of the image, or do not arrive in time.
    pub fn read(
        self: &Arc<Self>,
        inode: u64,
        start: u64,
        len: u64,
        reply: impl FnOnce(io::Result<&[u8]>) + Send + 'static,
    ) {
        let Some(found) = self.inodes.get(inode) else {
            return reply(Err(io_error()));
        };
        let end = start.saturating_add(len.min(MAX_READ)).min(found.size);
        let Some(place) = found.data.filter(|_| start < end) else {
            return reply(Ok(&[]));
        };
        if let Some(log) = &self.log {
            log.note(Read { at: self.engine.now(), inode, start, end });
        }
        let outcome =
            BUFFER.with_borrow_mut(|buffer| match self.step(inode, place, &(start..end), buffer) {
                Ok(Step::Done) => {
                    self.engine.count_read(true);
                    reply(Ok(buffer));
                    None
                }
                Ok(Step::Missing(missing)) => Some((missing, reply)),
                Err(error) => {
                    reply(Err(error));
                    None
                }
            });
        if let Some((missing, reply)) = outcome {
            self.engine.count_read(false);
            self.engine.note_use(
                place.layer as usize,
                &(place.offset..place.offset.saturating_add(found.size)),
            );
            self.read_later(inode, place, start..end, Box::new(reply), &missing, MAX_TRIES);
        }
    }

    fn read_later(
        self: &Arc<Self>,
        inode: u64,
        place: DataPlace,
        range: Range<u64>,
        reply: Reply,
        missing: &[(usize, Range<u32>)],
        tries: u32,
    ) {
        let engine = Arc::clone(&self.engine);
        let this = Arc::clone(self);
        let callback = move |outcome: io::Result<()>| {
            if let Err(error) = outcome {
                return reply(Err(error));
            }
            let mut buffer = Vec::new();
            match this.step(inode, place, &range, &mut buffer) {
                Ok(Step::Done) => reply(Ok(&buffer)),
                Ok(Step::Missing(missing)) if tries > 0 => {
                    this.read_later(inode, place, range, reply, &missing, tries - 1);
                }
                Ok(Step::Missing(_)) => reply(Err(io_error())),
                Err(error) => reply(Err(error)),
            }
        };
        engine.when_here(missing, Box::new(callback));
    }

    /// Fills the buffer, if everything is here.
    fn step(
        &self,
        inode: u64,
        place: DataPlace,
        range: &Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Step> {
        let layer = place.layer as usize;
        let state = usize::try_from(inode).ok().and_then(|at| self.checked.get(at.wrapping_sub(1)));
        let state = state.ok_or_else(io_error)?;
        while matches!(state.load(Ordering::Acquire), UNKNOWN | ELSEWHERE) {
            let is_elsewhere = state.load(Ordering::Acquire) == ELSEWHERE;
            let window = if is_elsewhere { wide_window(place) } else { header_window(place) };
            let mut before = vec![0; len(&window)?];
            if !self.engine.read(layer, window.start, &mut before)? {
                // The data comes right behind, so both are asked for at once.
                let until = place.offset.saturating_add(range.end);
                let until = if range.start < 1 << 20 { until } else { place.offset };
                let until = until.min(self.engine.layer_size(layer));
                let spans = self.engine.spans_in(layer, &(window.start..until));
                return Ok(Step::Missing(vec![(layer, spans)]));
            }
            let claims = self.inodes.claims(inode);
            let found = headers::check(&before, window.start, place.offset, &claims);
            state.store(
                match found {
                    None if !is_elsewhere && len(&window)? < len(&wide_window(place))? => ELSEWHERE,
                    None => LIES,
                    Some(Data::Plain) => PLAIN,
                    Some(Data::Sparse(extents)) => {
                        let mut sparse = self.sparse.lock().unwrap_or_else(PoisonError::into_inner);
                        sparse.insert(inode, extents.into());
                        SPARSE
                    }
                },
                Ordering::Release,
            );
        }
        match state.load(Ordering::Acquire) {
            PLAIN => {
                buffer.resize(len(range)?, 0);
                let at = place.offset.checked_add(range.start).ok_or_else(io_error)?;
                if self.engine.read(layer, at, buffer)? {
                    return Ok(Step::Done);
                }
                let until = place.offset.saturating_add(range.end);
                Ok(Step::Missing(vec![(layer, self.engine.spans_in(layer, &(at..until)))]))
            }
            SPARSE => self.step_sparse(inode, layer, range, buffer),
            _ => Err(io_error()),
        }
    }

    fn step_sparse(
        &self,
        inode: u64,
        layer: usize,
        range: &Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Step> {
        let extents =
            self.sparse.lock().unwrap_or_else(PoisonError::into_inner).get(&inode).cloned();
        let extents = extents.ok_or_else(io_error)?;
        // Holes are zeros.
        buffer.clear();
        buffer.resize(len(range)?, 0);
        let mut missing = Vec::new();
        let first = extents.partition_point(|extent| extent.start + extent.len <= range.start);
        for extent in extents.iter().skip(first).take_while(|extent| extent.start < range.end) {
            let start = extent.start.max(range.start);
            let end = (extent.start + extent.len).min(range.end);
            let at = extent.at + (start - extent.start);
            let to = usize_of(start - range.start)?..usize_of(end - range.start)?;
            let Some(target) = buffer.get_mut(to) else { return Err(io_error()) };
            if !self.engine.read(layer, at, target)? {
                missing.push((layer, self.engine.spans_in(layer, &(at..at + (end - start)))));
            }
        }
        Ok(if missing.is_empty() { Step::Done } else { Step::Missing(missing) })
    }

    /// Parts of files to fetch soon, in this order; unknown paths are left out. Returns the compressed
    /// bytes that are not here.
    #[must_use]
    pub fn prefetch(&self, reads: &[(Vec<u8>, u64, u64)]) -> u64 {
        let mut spans = Vec::new();
        for (path, start, end) in reads {
            let Some(inode) = self.inodes.find(path) else { continue };
            let Some(place) = self.inodes.get(inode).and_then(|inode| inode.data) else { continue };
            let layer = place.layer as usize;
            let size = self.engine.layer_size(layer);
            let header = header_window(place).start;
            let from = if *start == 0 { header } else { place.offset.saturating_add(*start) };
            let until = place.offset.saturating_add(*end).min(size);
            if *start > 0 {
                spans.push((layer, self.engine.spans_in(layer, &(header..place.offset.min(size)))));
            }
            spans.push((layer, self.engine.spans_in(layer, &(from..until))));
        }
        self.engine.list(spans)
    }
}

/// The bytes before a file's data that hold its headers.
fn header_window(place: DataPlace) -> Range<u64> {
    let is_likely =
        place.header_start < place.offset && place.offset - place.header_start <= headers::MAX_LEN;
    if is_likely {
        return place.header_start..place.offset;
    }
    wide_window(place)
}

fn wide_window(place: DataPlace) -> Range<u64> {
    place.offset.saturating_sub(headers::LOOK_BACK)..place.offset
}

fn len(range: &Range<u64>) -> io::Result<usize> {
    usize_of(range.end.saturating_sub(range.start))
}

fn usize_of(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io_error())
}
