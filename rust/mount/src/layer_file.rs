//! The inflated spans of one layer on disk: a sparse file with each span at its offset in the
//! uncompressed layer, and a file with the SHA-256 of each span.
//!
//! Any number of mounts may share them. The digest of a span is written after the span, and a span
//! without a digest counts as missing. Each mount compares a span with its digest before it first uses
//! the span, so spans that a crash or a full disk damaged are fetched again. Users who can write to the
//! directory are trusted. The caller holds a lock, so that the files are not removed meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

/// The name of the file with the layer.
pub(crate) const DATA: &str = "data";
const SPANS: &str = "spans";
const MAGIC: &[u8; 16] = b"tocsin spans 1\n\0";
const HEADER_LEN: usize = 32;
const DIGEST_LEN: usize = 32;

/// The spans of a layer on disk.
#[derive(Debug)]
pub(crate) struct LayerFile {
    data: File,
    spans: File,
    /// The length that `data` has unless it is truncated.
    len: u64,
}

impl LayerFile {
    /// Opens or creates the files in an existing directory. Also returns which spans have a digest.
    pub(crate) fn open(
        directory: &Path,
        span_count: u32,
        uncompressed_size: u64,
    ) -> io::Result<(Self, Vec<bool>)> {
        let too_large = || io::Error::other("the layer is too large for a file");
        let padded = uncompressed_size.checked_next_multiple_of(4096).ok_or_else(too_large)?;
        let mut data = open(&directory.join(DATA))?;
        let mut spans = open(&directory.join(SPANS))?;
        let (data_len, spans_len) = (data.metadata()?.len(), spans.metadata()?.len());
        // Another mount may just have created the files.
        let is_new = data_len == 0 && spans_len <= HEADER_LEN as u64;
        if !is_new && data_len != padded {
            // The layer was truncated. If it were made longer again, other mounts that have it open
            // would read zeros, so new files take its place.
            for name in [DATA, SPANS] {
                remove(&directory.join(name))?;
            }
            data = open(&directory.join(DATA))?;
            spans = open(&directory.join(SPANS))?;
        }
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&u64::from(span_count).to_le_bytes());
        header.extend_from_slice(&uncompressed_size.to_le_bytes());
        let mut found = vec![0; HEADER_LEN];
        let is_ours = spans.read_exact_at(&mut found, 0).is_ok() && found == header;
        if !is_ours {
            spans.set_len(0)?;
            spans.write_all_at(&header, 0)?;
        }
        // The whole length at once: EROFS opens the file only once, and holes use no space.
        data.set_len(padded)?;
        let mut digests = vec![0; span_count as usize * DIGEST_LEN];
        let len = read_up_to(&spans, &mut digests, HEADER_LEN as u64)?;
        let known = digests.chunks_exact(DIGEST_LEN).enumerate();
        let known =
            known.map(|(at, digest)| (at + 1) * DIGEST_LEN <= len && digest != [0; DIGEST_LEN]);
        Ok((Self { data, spans, len: padded }, known.collect()))
    }

    /// Reads a part of the layer, whose spans must be on disk.
    ///
    /// # Errors
    /// The file was truncated, even if a write has made it longer again and the part is zeros now.
    pub(crate) fn read(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.data.read_exact_at(into, at)?;
        self.check_len()
    }

    fn check_len(&self) -> io::Result<()> {
        if self.data.metadata()?.len() < self.len {
            return Err(io::Error::other("a file in the cache was truncated"));
        }
        Ok(())
    }

    /// Whether a span is on disk and matches its digest. `place`: its range in the layer.
    pub(crate) fn check(&self, span: u32, place: &Range<u64>) -> bool {
        let mut digest = [0; DIGEST_LEN];
        let at = HEADER_LEN as u64 + u64::from(span) * DIGEST_LEN as u64;
        if self.spans.read_exact_at(&mut digest, at).is_err() || digest == [0; DIGEST_LEN] {
            return false;
        }
        let Ok(len) = usize::try_from(place.end.saturating_sub(place.start)) else { return false };
        let mut bytes = vec![0; len];
        self.read(&mut bytes, place.start).is_ok() && Sha256::digest(&bytes).as_slice() == digest
    }

    /// Writes a span.
    ///
    /// # Errors
    /// The disk failed, or the file was truncated: a write would make it longer again, with zeros in
    /// place of other spans.
    pub(crate) fn write(&self, span: u32, bytes: &[u8], start: u64) -> io::Result<()> {
        self.check_len()?;
        self.data.write_all_at(bytes, start)?;
        let at = HEADER_LEN as u64 + u64::from(span) * DIGEST_LEN as u64;
        self.spans.write_all_at(Sha256::digest(bytes).as_slice(), at)
    }

    /// Waits until the disk has all spans that were written.
    pub(crate) fn write_out(&self) -> io::Result<()> {
        self.data.sync_data()?;
        self.spans.sync_data()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is not a regular file", path.display())));
    }
    Ok(file)
}

fn read_up_to(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], at + done as u64) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{DATA, LayerFile};

    const SIZE: u64 = 10_240;

    #[test]
    fn file_when_truncated_then_neither_read_nor_written_until_it_is_new() {
        let directory = std::env::temp_dir().join(format!("tocsin-layer-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (file, known) = LayerFile::open(&directory, 2, SIZE).unwrap();
        assert_eq!(known, [false, false]);
        file.write(0, &[7; 5120], 0).unwrap();
        let whole = fs::OpenOptions::new().write(true).open(directory.join(DATA)).unwrap();
        whole.set_len(0).unwrap();
        assert!(file.write(1, &[8; 5120], 5120).is_err());
        // As another process that has not noticed it would do.
        whole.set_len(SIZE).unwrap();
        let mut bytes = vec![1; 512];
        assert!(file.read(&mut bytes, 0).is_err());
        assert!(!file.check(0, &(0..5120)));

        let (file, known) = LayerFile::open(&directory, 2, SIZE).unwrap();
        assert_eq!(known, [false, false]);
        file.write(1, &[8; 5120], 5120).unwrap();
        file.read(&mut bytes, 5120).unwrap();
        assert_eq!(bytes, [8; 512]);
        fs::remove_dir_all(&directory).unwrap();
    }
}
