//! The layers as files of a FUSE file system, from which the kernel's EROFS reads the data of an
//! incomplete image.
//!
//! The file system has one directory. It contains the uncompressed bytes of each layer, in a file named
//! after its number and padded with zeros, and the metadata of the image, in the file `image`. Before
//! the data of a file is returned, the file's headers are compared with the index, as in [`Fs`].

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEntry, ReplyOpen, Request, SessionACL,
};

use crate::engine::io_error;
use crate::fs::{Checked, Fs, MAX_READ, Step, respond};
use crate::fuse::{Ended, FOREVER, MAX_BACKGROUND, Mounted, NOTHING, READ_AHEAD, serve};

/// Files are padded to a multiple of this, since the kernel reads whole pages.
const PADDING: u64 = 4096;
const ROOT: u64 = 1;
const METADATA: u64 = 2;
/// Inode number of the lowest layer.
const FIRST_LAYER: u64 = 3;
const METADATA_NAME: &str = "image";

/// Mounts the layers of an image; returns once they can be used.
///
/// `metadata`: a file, which is opened now.
///
/// # Errors
/// FUSE is not available, the directory cannot be mounted on, or the file cannot be read.
pub fn mount_layers(
    fs: &Arc<Fs>,
    directory: &Path,
    metadata: &Path,
    source: String,
) -> io::Result<Mounted> {
    let metadata = File::open(metadata)?;
    let metadata_len = metadata.metadata()?.len();
    let layers = Arc::new(Layers::new(Arc::clone(fs)));
    let ended = Arc::new(Ended::default());
    fs.engine().expect_readers();
    let mut config = Config::default();
    config.acl = SessionACL::Owner;
    config.n_threads = Some(2);
    config.clone_fd = true;
    config.mount_options = vec![
        MountOption::RO,
        MountOption::FSName(source),
        MountOption::Subtype("tocsin".into()),
        MountOption::NoAtime,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
    ];
    let front = Front { layers, metadata, metadata_len, ended: Arc::clone(&ended) };
    serve(front, ended, directory, &config)
}

/// The bytes of layers.
struct Layers {
    fs: Arc<Fs>,
    sizes: Vec<u64>,
    /// For each layer, the offsets at which files of the image begin, ascending, and their inodes.
    files: Vec<Vec<(u64, u64)>>,
}

impl Layers {
    fn new(fs: Arc<Fs>) -> Self {
        let sizes = fs.engine().layer_sizes();
        let mut files = vec![Vec::new(); sizes.len()];
        for number in 1..=fs.inodes().len() as u64 {
            let Some(place) = fs.inodes().get(number).and_then(|inode| inode.data) else {
                continue;
            };
            if let Some(files) = files.get_mut(place.layer as usize) {
                files.push((place.offset, number));
            }
        }
        files.iter_mut().for_each(|files| files.sort_unstable());
        Self { fs, sizes, files }
    }

    /// Length of a layer's file.
    fn len(&self, layer: usize) -> Option<u64> {
        self.sizes.get(layer).map(|size| size.next_multiple_of(PADDING))
    }

    /// Fills the buffer with a part of a layer's file, if all data is available.
    fn step(&self, layer: usize, range: &Range<u64>, buffer: &mut Vec<u8>) -> io::Result<Step> {
        let engine = self.fs.engine();
        let mut missing = self.check(layer, range)?;
        buffer.clear();
        buffer.resize(length(range)?, 0);
        let data = range.start..range.end.min(engine.layer_size(layer));
        if !data.is_empty() {
            let target = buffer.get_mut(..length(&data)?).ok_or_else(io_error)?;
            if !engine.read(layer, data.start, target)? {
                missing.extend(engine.missing(layer, &data));
            }
        }
        Ok(if missing.is_empty() { Step::Done } else { Step::Missing(missing) })
    }

    /// Compares the headers of all files in a part of a layer with the index; returns the spans that
    /// are missing for that.
    fn check(&self, layer: usize, range: &Range<u64>) -> io::Result<Vec<(usize, Range<u32>)>> {
        let mut missing = Vec::new();
        for (at, inode) in self.files_in(layer, range) {
            let found = self.fs.inodes().get(inode).ok_or_else(io_error)?;
            let place = found.data.ok_or_else(io_error)?;
            let end = at.saturating_add(found.size).min(range.end);
            let wanted = range.start.saturating_sub(at)..end.saturating_sub(at);
            match self.fs.headers(inode, place, &wanted)? {
                Checked::Plain => {}
                Checked::Missing(spans) => missing.extend(spans),
                // EROFS treats the data of each file as one piece.
                Checked::Sparse | Checked::Lies => return Err(io_error()),
            }
        }
        Ok(missing)
    }

    /// The start and inode of each file with data in a part of a layer.
    fn files_in(&self, layer: usize, range: &Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        let files = self.files.get(layer).map_or(&[][..], |files| files);
        let first = files.partition_point(|(at, _)| *at <= range.start).saturating_sub(1);
        let (start, end) = (range.start, range.end);
        let inodes = self.fs.inodes();
        let has_data = move |inode, at: u64| {
            inodes.get(inode).is_some_and(|found| at.saturating_add(found.size) > start)
        };
        let files = files.iter().skip(first).copied();
        files.take_while(move |(at, _)| *at < end).filter(move |(at, inode)| has_data(*inode, *at))
    }

    fn read(
        self: &Arc<Self>,
        layer: usize,
        start: u64,
        len: u64,
        reply: impl FnOnce(io::Result<&[u8]>) + Send + 'static,
    ) {
        let Some(all) = self.len(layer) else { return reply(Err(io_error())) };
        let range = start..start.saturating_add(len.min(MAX_READ)).min(all);
        if range.is_empty() {
            return reply(Ok(&[]));
        }
        let (layers, wanted) = (Arc::clone(self), range.clone());
        let engine = self.fs.engine();
        respond(
            engine,
            move |buffer| layers.step(layer, &wanted, buffer),
            || {
                for (at, inode) in self.files_in(layer, &range) {
                    let size = self.fs.inodes().get(inode).map_or(0, |found| found.size);
                    engine.note_use(layer, &(at..at.saturating_add(size)));
                }
            },
            reply,
        );
    }
}

struct Front {
    layers: Arc<Layers>,
    metadata: File,
    metadata_len: u64,
    ended: Arc<Ended>,
}

impl Front {
    fn attributes(&self, inode: u64) -> Option<FileAttr> {
        let len = match inode {
            ROOT => 0,
            METADATA => self.metadata_len,
            _ => self.layers.len(layer_of(inode)?)?,
        };
        Some(attributes(inode, len))
    }

    fn read_metadata(&self, start: u64, len: u32) -> io::Result<Vec<u8>> {
        let end = start.saturating_add(len.into()).min(self.metadata_len);
        let mut bytes = vec![0; length(&(start..end))?];
        self.metadata.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }
}

impl Filesystem for Front {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without the capability, an older kernel reads less at a time.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO);
        if let Err(most) = config.set_max_readahead(READ_AHEAD) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn destroy(&mut self) {
        self.ended.note();
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inode = if name == METADATA_NAME {
            Some(METADATA)
        } else {
            let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
            number.map(|number| FIRST_LAYER + u64::from(number))
        };
        match inode.and_then(|inode| self.attributes(inode)) {
            Some(found) => reply.entry(&FOREVER, &found, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.attributes(inode.into()) {
            Some(found) => reply.attr(&FOREVER, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let is_metadata = inode == INodeNo(METADATA);
        // EROFS caches the data of files and knows where they end. Read-ahead in a layer would fetch the
        // next file.
        let flags =
            if is_metadata { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::FOPEN_DIRECT_IO };
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let inode = inode.into();
        if inode == METADATA {
            return match self.read_metadata(offset, size) {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(error.into()),
            };
        }
        let Some(layer) = layer_of(inode) else { return reply.error(Errno::EISDIR) };
        self.layers.read(layer, offset, size.into(), move |outcome| match outcome {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(error.into()),
        });
    }

    /// Lists nothing, since EROFS is mounted with the known names.
    fn readdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        reply: ReplyDirectory,
    ) {
        reply.ok();
    }
}

fn layer_of(inode: u64) -> Option<usize> {
    inode.checked_sub(FIRST_LAYER).and_then(|layer| usize::try_from(layer).ok())
}

const fn attributes(inode: u64, size: u64) -> FileAttr {
    let is_root = inode == ROOT;
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: size.div_ceil(512),
        kind: if is_root { FileType::Directory } else { FileType::RegularFile },
        perm: if is_root { 0o500 } else { 0o400 },
        nlink: 1,
        ..NOTHING
    }
}

fn length(range: &Range<u64>) -> io::Result<usize> {
    usize::try_from(range.end.saturating_sub(range.start)).map_err(|_| io_error())
}
