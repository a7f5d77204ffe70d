//! Inodes from the file list of a seek table.

use super::build::{Description, Names, build};
use super::{DataPlace, Inodes};
use crate::error::{Error, Result, SeekError, SeekPart};
use crate::seek::{Answer, FileList, Listed, Stop};
use crate::tar::EntryType;

/// Size of a tar block.
const BLOCK_LEN: u64 = 512;

impl Inodes {
    /// The inodes of a file list, all chunks of which have been added.
    ///
    /// # Errors
    /// `Error::Seek` if a chunk is missing (`MissingChunk`), or if there is more of something than
    /// fits in memory.
    pub fn from_list(list: &FileList) -> Result<Self> {
        match list.missing_chunks().first() {
            Some(chunk) => Err(missing(*chunk)),
            None => build(&ListNames(list)),
        }
    }
}

struct ListNames<'a>(&'a FileList);

const fn missing(chunk: u32) -> Error {
    Error::Seek { kind: SeekError::MissingChunk, part: SeekPart::TocChunk(chunk) }
}

fn answer<T>(answer: Answer<T>) -> Result<T> {
    answer.map_err(|stop| match stop {
        Stop::Chunks(chunks) => missing(chunks.first().copied().unwrap_or(0)),
        Stop::Missing | Stop::NotDirectory(_) | Stop::Loop => no_root(),
    })
}

const fn no_root() -> Error {
    let kind = SeekError::Value { what: "first entry, which must be the root directory", value: 0 };
    Error::Seek { kind, part: SeekPart::TocChunk(0) }
}

impl Names for ListNames<'_> {
    type Place = Listed;

    fn count(&self) -> usize {
        self.0.root().entry_count() as usize
    }

    fn root(&self) -> Result<Listed> {
        let root = answer(self.0.named(0))?;
        let is_root = root.path().is_empty() && root.entry().kind == EntryType::Directory;
        if is_root { Ok(root) } else { Err(no_root()) }
    }

    fn children(&self, _directory: &Listed, path: &[u8]) -> Result<Vec<Listed>> {
        answer(self.0.children_by_bytes(path))
    }

    fn name<'a>(&'a self, place: &'a Listed) -> &'a [u8] {
        place.name()
    }

    fn kind(&self, place: &Listed) -> EntryType {
        place.entry().kind
    }

    fn file(&self, place: &Listed) -> Option<u64> {
        let extra = place.entry().extra.as_ref()?;
        extra.names_before.map(|_| place.first_name().into())
    }

    fn describe(&self, place: &Listed, _path: &[u8]) -> Result<Description> {
        let entry = place.entry();
        let owner = place.owner();
        let extra = entry.extra.as_deref();
        let is_file = entry.kind == EntryType::Regular;
        let has_link_owner = extra.is_some_and(|extra| extra.has_link_owner);
        let header_len = u64::from(entry.header_blocks) * BLOCK_LEN;
        Ok(Description {
            kind: entry.kind,
            is_implied: entry.is_implied,
            mode: entry.mode,
            uid: owner.uid,
            gid: owner.gid,
            mtime: entry.mtime,
            size: entry.size,
            device: extra.map_or((0, 0), |extra| extra.device),
            data: is_file.then(|| DataPlace {
                layer: entry.layer,
                header_start: entry.offset.saturating_sub(header_len),
                offset: entry.offset,
            }),
            target: match entry.kind {
                EntryType::SymLink => entry.target.clone(),
                _ => Vec::new(),
            },
            xattrs: extra.map(|extra| extra.xattrs.clone()).unwrap_or_default(),
            tar_path: extra.and_then(|extra| extra.tar_name.clone()),
            header_owner: (!has_link_owner).then_some((entry.mode, owner.uid, owner.gid)),
        })
    }

    fn too_many(&self, what: &'static str, value: u64, limit: u64) -> Error {
        let kind = SeekError::TooLarge { what, value, limit };
        Error::Seek { kind, part: SeekPart::Root }
    }
}
