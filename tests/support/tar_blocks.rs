//! Writes tar archives field by field, and formats the result of a scan as text.

use std::fmt::Write as _;

use tocsin_core::Result;
use tocsin_core::tar::{FileMetadata, Purpose, Toc, TocScanner};

/// The fields of a header block, with their names in POSIX, star and GNU tar.
pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const NAME: Range<usize> = 0..100;
    pub(crate) const MODE: Range<usize> = 100..108;
    pub(crate) const UID: Range<usize> = 108..116;
    pub(crate) const GID: Range<usize> = 116..124;
    pub(crate) const SIZE: Range<usize> = 124..136;
    pub(crate) const MTIME: Range<usize> = 136..148;
    pub(crate) const CHKSUM: Range<usize> = 148..156;
    pub(crate) const TYPEFLAG: Range<usize> = 156..157;
    pub(crate) const LINKNAME: Range<usize> = 157..257;
    pub(crate) const MAGIC_VERSION: Range<usize> = 257..265;
    pub(crate) const UNAME: Range<usize> = 265..297;
    pub(crate) const GNAME: Range<usize> = 297..329;
    pub(crate) const DEVMAJOR: Range<usize> = 329..337;
    pub(crate) const DEVMINOR: Range<usize> = 337..345;
    pub(crate) const PREFIX: Range<usize> = 345..500;
    pub(crate) const STAR_PREFIX: Range<usize> = 345..476;
    pub(crate) const STAR_ATIME: Range<usize> = 476..488;
    pub(crate) const STAR_CTIME: Range<usize> = 488..500;
    pub(crate) const STAR_TRAILER: Range<usize> = 508..512;
    pub(crate) const GNU_ATIME: Range<usize> = 345..357;
    pub(crate) const GNU_CTIME: Range<usize> = 357..369;

    /// Every numeric field that every format has.
    pub(crate) const NUMBERS: [Range<usize>; 5] = [MODE, UID, GID, SIZE, MTIME];
}

/// A builder for header blocks.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) block: [u8; 512],
}

impl Header {
    /// Seventh Edition Unix: no magic, and NULs after the link name.
    pub(crate) fn v7(name: &[u8], flag: u8) -> Self {
        Self { block: [0; 512] }
            .put(field::NAME, name)
            .put(field::TYPEFLAG, &[flag])
            .octal(field::MODE, 0o644)
            .octal(field::UID, 1000)
            .octal(field::GID, 1001)
            .octal(field::SIZE, 0)
            .octal(field::MTIME, 1_700_000_000)
    }

    pub(crate) fn ustar(name: &[u8], flag: u8) -> Self {
        Self::v7(name, flag).put(field::MAGIC_VERSION, b"ustar\x0000").owners()
    }

    pub(crate) fn gnu(name: &[u8], flag: u8) -> Self {
        Self::v7(name, flag).put(field::MAGIC_VERSION, b"ustar  \0").owners()
    }

    pub(crate) fn star(name: &[u8], flag: u8) -> Self {
        Self::ustar(name, flag)
            .put(field::STAR_TRAILER, b"tar\0")
            .octal(field::STAR_ATIME, 1_700_000_001)
            .octal(field::STAR_CTIME, 1_700_000_002)
    }

    fn owners(self) -> Self {
        self.put(field::UNAME, b"user")
            .put(field::GNAME, b"group")
            .octal(field::DEVMAJOR, 0)
            .octal(field::DEVMINOR, 0)
    }

    /// Sets a field to the bytes, padded with NULs. Bytes that do not fit are dropped.
    pub(crate) fn put(mut self, field: std::ops::Range<usize>, bytes: &[u8]) -> Self {
        let field = &mut self.block[field];
        field.fill(0);
        let len = bytes.len().min(field.len());
        field[..len].copy_from_slice(&bytes[..len]);
        self
    }

    /// Sets a numeric field the usual way: octal digits and a NUL.
    pub(crate) fn octal(self, field: std::ops::Range<usize>, number: u64) -> Self {
        let width = field.len() - 1;
        self.put(field, format!("{number:0width$o}").as_bytes())
    }

    /// Sets a numeric field in base-256.
    pub(crate) fn base_256(self, field: std::ops::Range<usize>, number: i64) -> Self {
        let fill = if number < 0 { 0xff } else { 0 };
        let mut bytes = vec![fill; field.len().saturating_sub(8)];
        let low = number.to_be_bytes();
        bytes.extend_from_slice(&low[8 - field.len().min(8)..]);
        bytes[0] |= 0x80;
        self.put(field, &bytes)
    }

    pub(crate) fn size(self, size: u64) -> Self {
        self.octal(field::SIZE, size)
    }

    /// The block with its checksum: the sum of all bytes, with spaces in the checksum field.
    pub(crate) fn sealed(self) -> [u8; 512] {
        let mut header = self.put(field::CHKSUM, b"        ");
        let sum: u64 = header.block.iter().map(|byte| u64::from(*byte)).sum();
        header = header.put(field::CHKSUM, format!("{sum:06o}\0 ").as_bytes());
        header.block
    }
}

/// A builder for archives.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn header(mut self, header: Header) -> Self {
        self.0.extend_from_slice(&header.sealed());
        self
    }

    /// Data, padded to whole blocks.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A header with its size set, and data.
    pub(crate) fn file(self, header: Header, data: &[u8]) -> Self {
        self.header(header.size(data.len() as u64)).data(data)
    }

    /// A PAX `x` header with these records.
    pub(crate) fn pax<K: AsRef<[u8]>, V: AsRef<[u8]>>(self, records: &[(K, V)]) -> Self {
        let payload: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.pax_payload(&payload)
    }

    pub(crate) fn pax_payload(self, payload: &[u8]) -> Self {
        self.file(Header::ustar(b"PaxHeaders/x", b'x'), payload)
    }

    /// A GNU `L` or `K` pseudo entry.
    pub(crate) fn gnu_long(self, flag: u8, name: &[u8]) -> Self {
        self.file(Header::gnu(b"././@LongLink", flag), name)
    }

    pub(crate) fn zero_block(self) -> Self {
        self.raw(&[0; 512])
    }

    /// The two zero blocks at the end.
    pub(crate) fn end(self) -> Vec<u8> {
        self.zero_block().zero_block().0
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Data without zeros and without equal neighbouring bytes.
pub(crate) fn filling(len: usize) -> Vec<u8> {
    (b'!'..=b'~').cycle().take(len).collect()
}

/// One PAX record, starting with its length.
pub(crate) fn record(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let body = [b" ", key.as_ref(), b"=", value.as_ref(), b"\n"].concat();
    let mut len = body.len() + 1;
    while len != body.len() + len.to_string().len() {
        len = body.len() + len.to_string().len();
    }
    [len.to_string().as_bytes(), &body].concat()
}

/// Scans an archive for some purpose.
pub(crate) fn scan_for(archive: &[u8], purpose: Purpose) -> Result<Toc> {
    let mut scanner = TocScanner::new(purpose);
    scanner.push(archive)?;
    scanner.finish()
}

/// Scans an archive in one piece.
pub(crate) fn scan(archive: &[u8]) -> Result<Toc> {
    scan_pieces([archive])
}

/// Scans an archive in pieces.
pub(crate) fn scan_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Toc> {
    let mut scanner = TocScanner::default();
    for piece in pieces {
        scanner.push(piece)?;
    }
    scanner.finish()
}

/// The result of a scan in the format of `tests/support/gotar`.
pub(crate) fn describe(scan: &Result<Toc>) -> String {
    describe_with(scan, |_| String::new())
}

/// As `describe`, with the text from `more` at the end of each entry's line.
pub(crate) fn describe_with(
    scan: &Result<Toc>,
    mut more: impl FnMut(&FileMetadata) -> String,
) -> String {
    let Ok(toc) = scan else {
        return "error\n".to_owned();
    };
    let mut text = String::new();
    for entry in &toc.entries {
        let records: Vec<String> = entry
            .xattrs
            .iter()
            .map(|(key, value)| format!("{}={}", hex(key), hex(value)))
            .collect();
        let _ = writeln!(
            text,
            "{} name={} offset={} size={} link={} mode={} uid={} gid={} uname={} gname={} time={} \
             dev={},{} pax={}{}",
            entry.entry_type.as_str(),
            hex(&entry.name),
            entry.uncompressed_offset,
            entry.uncompressed_size,
            hex(&entry.linkname),
            entry.mode,
            entry.uid,
            entry.gid,
            hex(&entry.uname),
            hex(&entry.gname),
            String::from_utf8_lossy(&entry.mod_time),
            entry.devmajor,
            entry.devminor,
            records.join(","),
            more(entry),
        );
    }
    let _ = writeln!(text, "end {}", toc.uncompressed_archive_size);
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
