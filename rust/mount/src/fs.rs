//! The image as a file system, independent of FUSE. Reads finish when their data has arrived.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tocsin_core::inodes::{DataPlace, Inodes};

use crate::engine::{Engine, Origin, io_error};
use crate::erofs::Extent;
use crate::headers::{self, Data};
use crate::log::{Log, Read};

/// Maximum size of one read in bytes.
pub(crate) const MAX_READ: u64 = 1 << 20;
/// Maximum number of times that a read waits again because its spans were dropped from memory.
const MAX_TRIES: u32 = 16;

/// The headers of a file have not been compared with the index.
const UNKNOWN: u8 = 0;
/// They are not where the index says, so they are searched for: they may follow a sparse file.
const ELSEWHERE: u8 = 4;
/// They match; the data is where the index says.
const PLAIN: u8 = 1;
/// They match; the file is sparse.
const SPARSE: u8 = 2;
/// They do not match: the index lies about the file.
const LIES: u8 = 3;

thread_local! {
    /// The bytes of the read that this thread is answering.
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

/// What the headers of a file say.
pub(crate) enum Checked {
    /// The data is where the index says.
    Plain,
    /// The file is sparse.
    Sparse,
    /// They are not what the index says.
    Lies,
    /// They are not here; these spans are missing.
    Missing(Vec<(usize, Range<u32>)>),
}

/// What a read needs.
pub(crate) enum Step {
    /// All bytes are in the buffer.
    Done,
    /// These spans are missing.
    Missing(Vec<(usize, Range<u32>)>),
}

impl Fs {
    /// `has_log`: whether opens and reads are recorded.
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

    /// The data.
    #[must_use]
    pub const fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Whether opens and reads are recorded.
    #[must_use]
    pub const fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Records that a file was opened.
    pub fn note_open(&self, inode: u64) {
        if let Some(log) = &self.log {
            log.note(Read { at: self.engine.now(), inode, start: 0, end: 0 });
        }
    }

    /// The opens and reads since the last call.
    #[must_use]
    pub fn drain_log(&self) -> Vec<Read> {
        self.log.as_ref().map_or_else(Vec::new, Log::drain)
    }

    /// Reads a part of a file, up to its end. `reply` is called at once if the data is available,
    /// otherwise when it has arrived; with an error if it is not that of the image or does not arrive
    /// in time.
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
        let (fs, engine) = (Arc::clone(self), Arc::clone(&self.engine));
        let of_file = place.offset..place.offset.saturating_add(found.size);
        respond(
            &self.engine,
            move |buffer| fs.step(inode, place, &(start..end), buffer),
            move || engine.note_use(place.layer as usize, &of_file),
            reply,
        );
    }

    /// Fills the buffer, if all data is available.
    fn step(
        &self,
        inode: u64,
        place: DataPlace,
        range: &Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Step> {
        let layer = place.layer as usize;
        let headers = match self.headers(inode, place, range)? {
            Checked::Missing(spans) => return Ok(Step::Missing(spans)),
            known => known,
        };
        buffer.clear();
        match headers {
            Checked::Plain => {
                buffer.resize(len(range)?, 0);
                let at = place.offset.checked_add(range.start).ok_or_else(io_error)?;
                if self.engine.read(layer, at, buffer)? {
                    return Ok(Step::Done);
                }
                let until = place.offset.saturating_add(range.end);
                Ok(Step::Missing(self.engine.missing(layer, &(at..until))))
            }
            Checked::Sparse => self.step_sparse(inode, layer, range, buffer),
            Checked::Lies | Checked::Missing(_) => Err(io_error()),
        }
    }

    /// Compares the headers of a file with the index, once. `range`: the part of its data that is
    /// wanted too, and fetched with the headers if they are missing.
    pub(crate) fn headers(
        &self,
        inode: u64,
        place: DataPlace,
        range: &Range<u64>,
    ) -> io::Result<Checked> {
        let layer = place.layer as usize;
        let state = usize::try_from(inode).ok().and_then(|at| self.checked.get(at.wrapping_sub(1)));
        let state = state.ok_or_else(io_error)?;
        while matches!(state.load(Ordering::Acquire), UNKNOWN | ELSEWHERE) {
            let is_elsewhere = state.load(Ordering::Acquire) == ELSEWHERE;
            let window =
                if is_elsewhere { place.wide_header_window() } else { place.header_window() };
            let mut before = vec![0; len(&window)?];
            let origin = self.engine.read_from(layer, window.start, &mut before)?;
            if origin == Origin::Missing {
                // The data follows, so both are requested together.
                let until = place.offset.saturating_add(range.end);
                let until = if range.start < 1 << 20 { until } else { place.offset };
                let until = until.min(self.engine.layer_size(layer));
                return Ok(Checked::Missing(self.missing(layer, &window, until, range)));
            }
            let claims = self.inodes.claims(inode);
            let found = headers::check(&before, window.start, place.offset, &claims);
            if origin == Origin::Pack {
                // Only the layer itself is evidence that the index lies, and the pack may turn out to
                // be wrong, so the result is not remembered.
                return Ok(match found {
                    Some(Data::Plain) => Checked::Plain,
                    Some(Data::Sparse(extents)) => {
                        self.keep_sparse(inode, extents);
                        Checked::Sparse
                    }
                    None => Checked::Missing(vec![(layer, self.engine.spans_in(layer, &window))]),
                });
            }
            state.store(
                match found {
                    None if !is_elsewhere && len(&window)? < len(&place.wide_header_window())? => {
                        ELSEWHERE
                    }
                    None => LIES,
                    Some(Data::Plain) => PLAIN,
                    Some(Data::Sparse(extents)) => {
                        self.keep_sparse(inode, extents);
                        SPARSE
                    }
                },
                Ordering::Release,
            );
        }
        Ok(match state.load(Ordering::Acquire) {
            PLAIN => Checked::Plain,
            SPARSE => Checked::Sparse,
            _ => Checked::Lies,
        })
    }

    /// What the headers in `window` wait for, and the data up to `until`. `range`: the wanted part of the
    /// file, which may be in the pack although what is before it is not.
    fn missing(
        &self,
        layer: usize,
        window: &Range<u64>,
        until: u64,
        range: &Range<u64>,
    ) -> Vec<(usize, Range<u32>)> {
        if !self.engine.is_packed(layer, window) {
            return self.engine.missing(layer, &(window.start..until));
        }
        let data = window.end.saturating_add(range.start).min(until)..until;
        [self.engine.missing(layer, window), self.engine.missing(layer, &data)].concat()
    }

    fn keep_sparse(&self, inode: u64, extents: Vec<Extent>) {
        let mut sparse = self.sparse.lock().unwrap_or_else(PoisonError::into_inner);
        sparse.insert(inode, extents.into());
    }

    /// Compares the headers of all files with the index; returns whether all of them are here and
    /// match. Then [`Self::sparse_files`] has all sparse files.
    ///
    /// # Errors
    /// The disk failed.
    pub fn check_all(&self) -> io::Result<bool> {
        for inode in 1..=self.inodes.len() as u64 {
            let Some(place) = self.inodes.get(inode).and_then(|found| found.data) else { continue };
            if matches!(self.headers(inode, place, &(0..0))?, Checked::Missing(_) | Checked::Lies) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The data of the files that are known to be sparse.
    #[must_use]
    pub fn sparse_files(&self) -> HashMap<u64, Vec<Extent>> {
        let sparse = self.sparse.lock().unwrap_or_else(PoisonError::into_inner);
        sparse.iter().map(|(inode, all)| (*inode, all.to_vec())).collect()
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
            let at = extent.offset + (start - extent.start);
            let to = usize_of(start - range.start)?..usize_of(end - range.start)?;
            let Some(target) = buffer.get_mut(to) else { return Err(io_error()) };
            if !self.engine.read(layer, at, target)? {
                missing.extend(self.engine.missing(layer, &(at..at + (end - start))));
            }
        }
        Ok(if missing.is_empty() { Step::Done } else { Step::Missing(missing) })
    }

    /// Queues parts of files to fetch in advance, in this order. Unknown paths, and what is after the
    /// end of a file, are ignored. Returns the compressed size of what is missing.
    #[must_use]
    pub fn prefetch(&self, reads: &[(Vec<u8>, u64, u64)]) -> u64 {
        let mut spans = Vec::new();
        for (path, start, end) in reads {
            let Some(inode) = self.inodes.find(path) else { continue };
            let Some(file) = self.inodes.get(inode) else { continue };
            let Some(place) = file.data.filter(|_| *start < file.size) else { continue };
            let layer = place.layer as usize;
            let size = self.engine.layer_size(layer);
            let header = place.header_window().start;
            let from = if *start == 0 { header } else { place.offset.saturating_add(*start) };
            let until = place.offset.saturating_add((*end).min(file.size)).min(size);
            let before = header..place.offset.min(size);
            for range in [before, from..until].into_iter().skip(usize::from(*start == 0)) {
                if !self.engine.is_packed(layer, &range) {
                    spans.push((layer, self.engine.spans_in(layer, &range)));
                }
            }
        }
        self.engine.list(spans)
    }
}

/// Replies with what `step` puts into a buffer: at once if it is here, else when it has arrived; with
/// an error if it does not arrive in time. `on_missing` is called if something is missing.
pub(crate) fn respond<S>(
    engine: &Arc<Engine>,
    step: S,
    on_missing: impl FnOnce(),
    reply: impl FnOnce(io::Result<&[u8]>) + Send + 'static,
) where
    S: Fn(&mut Vec<u8>) -> io::Result<Step> + Send + 'static,
{
    let outcome = BUFFER.with_borrow_mut(|buffer| match step(buffer) {
        Ok(Step::Done) => {
            engine.count_read(true);
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
        engine.count_read(false);
        on_missing();
        respond_later(engine, step, Box::new(reply), &missing, MAX_TRIES);
    }
}

fn respond_later<S>(
    engine: &Arc<Engine>,
    step: S,
    reply: Reply,
    missing: &[(usize, Range<u32>)],
    tries: u32,
) where
    S: Fn(&mut Vec<u8>) -> io::Result<Step> + Send + 'static,
{
    let again = Arc::clone(engine);
    let callback = move |outcome: io::Result<()>| {
        if let Err(error) = outcome {
            return reply(Err(error));
        }
        let mut buffer = Vec::new();
        match step(&mut buffer) {
            Ok(Step::Done) => reply(Ok(&buffer)),
            Ok(Step::Missing(missing)) if tries > 0 => {
                respond_later(&again, step, reply, &missing, tries - 1);
            }
            Ok(Step::Missing(_)) => reply(Err(io_error())),
            Err(error) => reply(Err(error)),
        }
    };
    engine.when_here(missing, Box::new(callback));
}

fn len(range: &Range<u64>) -> io::Result<usize> {
    usize_of(range.end.saturating_sub(range.start))
}

fn usize_of(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io_error())
}
