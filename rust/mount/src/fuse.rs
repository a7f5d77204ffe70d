//! The FUSE front: passes requests of the kernel to [`Fs`].
//!
//! An image never changes, so the kernel may cache names, metadata and data for as long as it likes.
//! Unless reads are recorded, it does not send a request when a file is opened.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr,
    Request, Session, SessionACL,
};
use tocsin_core::inodes::Inode;
use tocsin_core::tar::EntryType;

use crate::fs::Fs;

/// How long the kernel may cache names and metadata.
pub(crate) const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const BLOCK_LEN: u32 = 512;
const MAX_NAME_LEN: u32 = 255;
/// Maximum number of bytes that the kernel reads ahead.
pub(crate) const READ_AHEAD: u32 = 1 << 20;
pub(crate) const MAX_BACKGROUND: u16 = 128;

/// Options of a mount.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Whether other users may use the mount.
    pub allow_other: bool,
    /// Whether set-user-ID and set-group-ID bits have an effect.
    pub allow_suid: bool,
    /// Whether device files work.
    pub allow_dev: bool,
    /// The source that `mount` lists.
    pub source: String,
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mounted {
    session: Option<BackgroundSession>,
    ended: Arc<Ended>,
}

/// Whether a file system has been unmounted.
#[derive(Debug, Default)]
pub struct Ended(Mutex<bool>, Condvar);

impl Ended {
    /// Notes that it has been unmounted.
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    /// Waits until the file system has been unmounted; returns whether it has.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.1.wait_timeout_while(ended, timeout, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Mounted {
    /// Whether the file system has been unmounted, for threads that wait for it.
    #[must_use]
    pub fn ended(&self) -> Arc<Ended> {
        Arc::clone(&self.ended)
    }

    /// Unmounts the file system. Files that are open stay readable as long as the process lives.
    ///
    /// # Errors
    /// It cannot be unmounted.
    pub fn unmount(&mut self) -> io::Result<()> {
        if self.ended.wait(Duration::ZERO) {
            // Another program has unmounted it, and may have mounted something else since.
            if let Some(session) = self.session.take() {
                std::mem::forget(session);
            }
            return Ok(());
        }
        self.session.take().map_or(Ok(()), BackgroundSession::umount_and_join)
    }
}

/// Mounts a file system that this process serves.
pub(crate) fn serve(
    front: impl Filesystem,
    ended: Arc<Ended>,
    directory: &Path,
    config: &Config,
) -> io::Result<Mounted> {
    let session = Session::new(front, directory, config)?;
    Ok(Mounted { session: Some(session.spawn()?), ended })
}

/// Mounts an image; returns once it can be used.
///
/// # Errors
/// FUSE is not available, or the directory cannot be mounted on.
pub fn mount(fs: &Arc<Fs>, directory: &Path, options: &MountOptions) -> io::Result<Mounted> {
    let ended = Arc::new(Ended::default());
    let mut config = Config::default();
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(2);
    config.clone_fd = true;
    config.mount_options = vec![
        MountOption::RO,
        MountOption::FSName(options.source.clone()),
        MountOption::Subtype("tocsin".into()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
        if options.allow_suid { MountOption::Suid } else { MountOption::NoSuid },
        if options.allow_dev { MountOption::Dev } else { MountOption::NoDev },
    ];
    let front = Front::new(Arc::clone(fs), Arc::clone(&ended));
    fs.engine().expect_readers();
    serve(front, ended, directory, &config)
}

struct Front {
    fs: Arc<Fs>,
    has_xattrs: bool,
    ended: Arc<Ended>,
}

impl Front {
    fn new(fs: Arc<Fs>, ended: Arc<Ended>) -> Self {
        let inodes = fs.inodes();
        let has_xattrs = (1..=inodes.len() as u64).any(|inode| !inodes.xattrs(inode).is_empty());
        Self { fs, has_xattrs, ended }
    }

    fn attributes(&self, number: u64) -> Option<FileAttr> {
        self.fs.inodes().get(number).map(|inode| attributes(number, inode))
    }

    /// The entry at a position of a directory: the directory, its parent, then its children.
    fn listed(&self, directory: u64, at: u64) -> Option<(u64, &OsStr)> {
        let inodes = self.fs.inodes();
        match at {
            0 => Some((directory, OsStr::new("."))),
            1 => Some((inodes.parent(directory), OsStr::new(".."))),
            _ => {
                let child = inodes.children(directory).get(usize::try_from(at - 2).ok()?)?;
                Some((child.inode.into(), OsStr::from_bytes(inodes.name(child))))
            }
        }
    }
}

impl Filesystem for Front {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            // Without a capability, an older kernel sends more requests.
            let _ = config.add_capabilities(flag);
        }
        if let Err(most) = config.set_max_readahead(READ_AHEAD) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        // An overlay may be mounted on top.
        let _ = config.set_max_stack_depth(1);
        Ok(())
    }

    fn destroy(&mut self) {
        self.ended.note();
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let child = self.fs.inodes().child(parent.into(), name.as_bytes());
        match child.and_then(|child| self.attributes(child)) {
            Some(found) => reply.entry(&FOREVER, &found, Generation(0)),
            None if name.len() > MAX_NAME_LEN as usize => reply.error(Errno::ENAMETOOLONG),
            // The kernel remembers that the file does not exist.
            None => reply.entry(&FOREVER, &NOTHING, Generation(0)),
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

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        reply.data(self.fs.inodes().target(inode.into()));
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.fs.has_log() {
            self.fs.note_open(inode.into());
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        } else {
            reply.error(Errno::ENOSYS);
        }
    }

    fn opendir(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
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
        self.fs.read(inode.into(), offset, size.into(), move |outcome| match outcome {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(error.into()),
        });
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        for at in offset.. {
            let Some((child, name)) = self.listed(inode.into(), at) else { break };
            let Some(found) = self.fs.inodes().get(child) else { break };
            if reply.add(INodeNo(child), at + 1, file_type(found.kind), name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        for at in offset.. {
            let Some((child, name)) = self.listed(inode.into(), at) else { break };
            let Some(found) = self.attributes(child) else { break };
            if reply.add(INodeNo(child), at + 1, name, &FOREVER, &found, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        if !self.has_xattrs {
            // The kernel does not ask again.
            return reply.error(Errno::ENOSYS);
        }
        let xattrs = self.fs.inodes().xattrs(inode.into());
        match xattrs.iter().find(|(key, _)| **key == *name.as_bytes()) {
            Some((_, value)) => sized(value, size, reply),
            None => reply.error(Errno::ENODATA),
        }
    }

    fn listxattr(&self, _request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let mut names = Vec::new();
        for (key, _) in self.fs.inodes().xattrs(inode.into()) {
            names.extend_from_slice(key);
            names.push(0);
        }
        sized(&names, size, reply);
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let inodes = self.fs.inodes();
        let numbers = 1..=inodes.len() as u64;
        let sizes = numbers.filter_map(|number| inodes.get(number)).map(|inode| inode.size);
        let blocks = sizes.map(|size| size.div_ceil(BLOCK_LEN.into())).sum();
        reply.statfs(blocks, 0, 0, inodes.len() as u64, 0, BLOCK_LEN, MAX_NAME_LEN, BLOCK_LEN);
    }
}

fn sized(value: &[u8], size: u32, reply: ReplyXattr) {
    match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

const fn file_type(kind: EntryType) -> FileType {
    match kind {
        EntryType::Regular | EntryType::HardLink => FileType::RegularFile,
        EntryType::SymLink => FileType::Symlink,
        EntryType::CharDevice => FileType::CharDevice,
        EntryType::BlockDevice => FileType::BlockDevice,
        EntryType::Directory => FileType::Directory,
        EntryType::Fifo => FileType::NamedPipe,
    }
}

/// A reply that the kernel remembers as "no file of that name": the inode number is 0.
pub(crate) const NOTHING: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 4096,
    flags: 0,
};

fn attributes(number: u64, inode: &Inode) -> FileAttr {
    let time = time(inode.mtime);
    FileAttr {
        ino: INodeNo(number),
        size: inode.size,
        blocks: inode.size.div_ceil(BLOCK_LEN.into()),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(inode.kind),
        perm: inode.mode,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        rdev: device_number(inode.device),
        ..NOTHING
    }
}

fn time((seconds, nanoseconds): (i64, u32)) -> SystemTime {
    let fraction = Duration::from_nanos(nanoseconds.into());
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at =
        if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    at.and_then(|at| at.checked_add(fraction)).unwrap_or(UNIX_EPOCH)
}

/// A device number in the kernel's encoding.
/// Source: torvalds/linux, include/linux/kdev_t.h.
const fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
