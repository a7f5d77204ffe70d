//! Features of a tar entry that change how it is read, for use alone and in pairs.

use super::tar_blocks::{Header, Tar, field, filling, record};

/// A builder for one entry: the pseudo entries before its header, the header, and the data.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The blocks before the PAX header that holds `records`.
    first: Tar,
    records: Vec<u8>,
    /// The blocks between that PAX header and the entry's own header.
    then: Tar,
    header: Header,
    /// Whether to keep the size field instead of setting it to the size of the data.
    keeps_size: bool,
    data: Vec<u8>,
}

/// The name of a feature, for messages, and a function that applies it to an entry.
pub(crate) type Feature = (&'static str, fn(&mut Entry));

impl Entry {
    fn record(&mut self, key: &str, value: &str) {
        self.records.extend(record(key, value));
    }

    fn put(&mut self, field: std::ops::Range<usize>, bytes: &[u8]) {
        self.header = self.header.clone().put(field, bytes);
    }

    fn flag(&mut self, flag: u8) {
        self.put(field::TYPEFLAG, &[flag]);
    }

    fn size_field(&mut self, bytes: &[u8]) {
        self.put(field::SIZE, bytes);
        self.keeps_size = true;
    }

    /// A sparse file of format 1.0: the records, and the map before the data.
    fn sparse(&mut self, size: &str, map: &[u64]) {
        self.record("GNU.sparse.major", "1");
        self.record("GNU.sparse.minor", "0");
        self.record("GNU.sparse.name", "sparse/1.0");
        self.record("GNU.sparse.realsize", size);
        self.map_before_data(map);
    }

    fn map_before_data(&mut self, map: &[u64]) {
        let mut lines = format!("{}\n", map.len() / 2).into_bytes();
        for number in map {
            lines.extend_from_slice(format!("{number}\n").as_bytes());
        }
        lines.resize(lines.len().next_multiple_of(512), 0);
        lines.append(&mut self.data);
        self.data = lines;
    }
}

/// Makes a header of a name and a type flag.
pub(crate) type Make = fn(&[u8], u8) -> Header;

/// The formats of a header.
pub(crate) const FORMATS: [(&str, Make); 4] =
    [("v7", Header::v7), ("ustar", Header::ustar), ("gnu", Header::gnu), ("star", Header::star)];

/// An archive with an entry that has these features, between two plain ones.
pub(crate) fn archive(make: Make, features: &[&Feature]) -> Vec<u8> {
    let mut entry = Entry {
        first: Tar::new(),
        records: Vec::new(),
        then: Tar::new(),
        header: make(b"name", b'0'),
        keeps_size: false,
        data: filling(700),
    };
    for (_, change) in features {
        change(&mut entry);
    }
    let mut tar = Tar::new().file(Header::ustar(b"before", b'0'), &filling(5)).raw(&entry.first.0);
    if !entry.records.is_empty() {
        tar = tar.pax_payload(&entry.records);
    }
    tar = tar.raw(&entry.then.0);
    let size = entry.data.len() as u64;
    tar = tar.header(if entry.keeps_size { entry.header } else { entry.header.size(size) });
    tar.data(&entry.data).file(Header::ustar(b"after", b'0'), &filling(513)).end()
}

pub(crate) const FEATURES: &[Feature] = &[
    // Types.
    ("old regular", |entry| entry.flag(0)),
    ("old directory", |entry| {
        entry.flag(0);
        entry.put(field::NAME, b"d/");
        entry.data.clear();
    }),
    ("hard link", |entry| {
        entry.flag(b'1');
        entry.put(field::LINKNAME, b"before");
        entry.data.clear();
    }),
    ("hard link with a size", |entry| {
        entry.flag(b'1');
        entry.put(field::LINKNAME, b"before");
        entry.data.clear();
        entry.size_field(b"00000000777\0");
    }),
    ("symbolic link", |entry| {
        entry.flag(b'2');
        entry.put(field::LINKNAME, b"target");
        entry.data.clear();
    }),
    ("device", |entry| {
        entry.flag(b'3');
        entry.data.clear();
        entry.header = entry.header.clone().octal(field::DEVMAJOR, 1).octal(field::DEVMINOR, 3);
    }),
    ("directory", |entry| {
        entry.flag(b'5');
        entry.data.clear();
    }),
    ("pipe", |entry| {
        entry.flag(b'6');
        entry.data.clear();
    }),
    ("contiguous", |entry| entry.flag(b'7')),
    ("unknown", |entry| entry.flag(b'V')),
    ("old sparse", |entry| entry.flag(b'S')),
    // Fields.
    ("prefix", |entry| entry.put(field::PREFIX, b"some/prefix")),
    ("prefix of star", |entry| entry.put(field::STAR_PREFIX, b"some/prefix")),
    ("prefix that fills the field", |entry| entry.put(field::PREFIX, &[b'p'; 155])),
    ("name that fills the field", |entry| entry.put(field::NAME, &[b'n'; 100])),
    ("name that is not UTF-8", |entry| entry.put(field::NAME, b"caf\xe9")),
    ("no name", |entry| entry.put(field::NAME, b"")),
    ("name with dots", |entry| entry.put(field::NAME, b"./../a//b/.")),
    ("atime and ctime of GNU", |entry| {
        entry.put(field::GNU_ATIME, b"13727410001\0");
        entry.put(field::GNU_CTIME, b"13727410002\0");
    }),
    ("atime of GNU that is invalid", |entry| entry.put(field::GNU_ATIME, b"1372x410001\0")),
    ("NULs before octal digits", |entry| {
        entry.put(field::MODE, b"\0\x000644\0");
        entry.put(field::UID, b"\x000017\0");
    }),
    ("blanks around octal digits", |entry| entry.put(field::MODE, b"  644 \0 ")),
    ("no mode", |entry| entry.put(field::MODE, b"")),
    ("mode with its type", |entry| entry.put(field::MODE, b"0100644\0")),
    ("owner in base 256", |entry| {
        entry.header = entry.header.clone().base_256(field::UID, 1 << 33).base_256(field::GID, -1);
    }),
    ("size in base 256", |entry| {
        let size = i64::try_from(entry.data.len()).unwrap_or_default();
        entry.header = entry.header.clone().base_256(field::SIZE, size);
        entry.keeps_size = true;
    }),
    ("size that fills the field", |entry| {
        let size = format!("{:012o}", entry.data.len());
        entry.size_field(size.as_bytes());
    }),
    ("mtime in base 256", |entry| {
        entry.header = entry.header.clone().base_256(field::MTIME, -5);
    }),
    ("mtime with a year out of range", |entry| {
        entry.header = entry.header.clone().base_256(field::MTIME, 1 << 40);
    }),
    ("no data", |entry| entry.data.clear()),
    ("one block of data", |entry| entry.data = filling(512)),
    // GNU long names.
    ("long name", |entry| entry.first = entry.first.clone().gnu_long(b'L', b"long/name\0")),
    ("long name without NUL", |entry| entry.then = entry.then.clone().gnu_long(b'L', b"long/no")),
    ("empty long name", |entry| entry.then = entry.then.clone().gnu_long(b'L', b"")),
    ("long name after records", |entry| {
        entry.record("path", "of/record");
        entry.then = entry.then.clone().gnu_long(b'L', b"after/records\0");
    }),
    ("long name before records", |entry| {
        entry.first = entry.first.clone().gnu_long(b'L', b"before/records\0");
        entry.record("path", "of/record");
    }),
    ("two long names", |entry| {
        entry.first = entry.first.clone().gnu_long(b'L', b"one\0").gnu_long(b'L', b"two\0more");
    }),
    ("long name canceled", |entry| {
        entry.first = entry.first.clone().gnu_long(b'L', b"one\0").gnu_long(b'L', b"\0");
    }),
    ("long link", |entry| entry.first = entry.first.clone().gnu_long(b'K', b"long/link\0")),
    // PAX records.
    ("no records", |entry| entry.first = entry.first.clone().pax_payload(b"")),
    ("records discarded", |entry| {
        let records = [("path", "thrown/away"), ("size", "3")];
        entry.first = entry.first.clone().pax(&records);
    }),
    ("second header of records", |entry| {
        entry.then = entry.then.clone().pax(&[("mtime", "1.5")]);
    }),
    ("path", |entry| entry.record("path", "of/record")),
    ("path of a directory", |entry| entry.record("path", "of/record/")),
    ("empty path", |entry| entry.record("path", "")),
    ("path canceled", |entry| {
        entry.record("path", "one");
        entry.record("path", "");
    }),
    ("target", |entry| entry.record("linkpath", "of/record")),
    ("empty records", |entry| {
        for key in ["linkpath", "uname", "gname", "uid", "gid", "size", "mtime", "atime"] {
            entry.record(key, "");
        }
    }),
    ("times", |entry| {
        entry.record("mtime", "-5.25");
        entry.record("atime", "1700000000.123456789123");
        entry.record("ctime", "0");
    }),
    ("owner", |entry| {
        entry.record("uid", "4294967301");
        entry.record("gid", "-1");
        entry.record("uname", "per\u{e9}");
    }),
    ("size of all data", |entry| {
        let size = entry.data.len().to_string();
        entry.record("size", &size);
        entry.size_field(b"00000000000\0");
    }),
    ("size of a part", |entry| {
        entry.record("size", "600");
    }),
    ("size of zero", |entry| entry.record("size", "0")),
    ("extended attribute", |entry| entry.record("SCHILY.xattr.user.k", "a\0b\n")),
    ("charset", |entry| entry.record("hdrcharset", "BINARY")),
    ("records of GNU format", |entry| {
        let payload = record("path", "in/gnu");
        entry.then = entry.then.clone().file(Header::gnu(b"x", b'x'), &payload);
    }),
    // Global headers.
    ("global header", |entry| {
        let payload = record("path", "global");
        entry.first = entry.first.clone().file(Header::ustar(b"pax_global_header", b'g'), &payload);
    }),
    ("global header after records", |entry| {
        let payload = record("comment", "0123456789abcdef");
        entry.then = entry.then.clone().file(Header::ustar(b"pax_global_header", b'g'), &payload);
    }),
    ("global header that is invalid", |entry| {
        entry.first = entry.first.clone().file(Header::ustar(b"pax_global_header", b'g'), b"5 a=");
    }),
    // Sparse files.
    ("sparse 0.0", |entry| {
        entry.record("GNU.sparse.size", "3000");
        entry.record("GNU.sparse.numblocks", "2");
        for (offset, len) in [("100", "200"), ("2500", "500")] {
            entry.record("GNU.sparse.offset", offset);
            entry.record("GNU.sparse.numbytes", len);
        }
    }),
    ("sparse 0.1", |entry| {
        entry.record("GNU.sparse.size", "3000");
        entry.record("GNU.sparse.numblocks", "3");
        entry.record("GNU.sparse.map", "0,100,200,0,2400,600");
        entry.record("GNU.sparse.name", "sparse/0.1");
    }),
    ("sparse 0.1 with its version", |entry| {
        entry.record("GNU.sparse.major", "0");
        entry.record("GNU.sparse.minor", "1");
    }),
    ("sparse 1.0", |entry| entry.sparse("100000", &[0, 100, 50_000, 599, 99_999, 1])),
    ("sparse 1.0 of one region", |entry| entry.sparse("700", &[0, 700])),
    ("sparse 1.0 without data", |entry| {
        entry.data.clear();
        entry.sparse("4096", &[4096, 0]);
    }),
    ("sparse 1.0 without regions", |entry| {
        entry.data.clear();
        entry.sparse("4096", &[]);
    }),
    ("sparse 1.0 of many regions", |entry| {
        let map: Vec<u64> = (0..700).flat_map(|region| [region * 4, 1]).collect();
        entry.sparse("2800", &map);
    }),
    ("sparse 1.0 of maximum size", |entry| {
        entry.sparse("9223372036854775807", &[5, 1, 1 << 62, 699]);
    }),
    ("sparse 1.0 with too little data", |entry| entry.sparse("5000", &[0, 700, 1000, 1])),
    ("sparse 1.0 with too much data", |entry| entry.sparse("5000", &[10, 600])),
    ("sparse 1.0 with regions out of order", |entry| entry.sparse("5000", &[600, 600, 100, 100])),
    ("sparse 1.0 and its size after", |entry| {
        entry.sparse("1000", &[300, 700]);
        let size = entry.data.len().to_string();
        entry.record("size", &size);
        entry.size_field(b"00000000000\0");
    }),
    ("sparse 1.0 and its size before", |entry| {
        let size = (entry.data.len() + 512).to_string();
        entry.record("size", &size);
        entry.sparse("1000", &[300, 700]);
        entry.size_field(b"00000000000\0");
    }),
    ("sparse map without records", |entry| entry.map_before_data(&[0, 700])),
    ("sparse of version 2", |entry| {
        entry.record("GNU.sparse.major", "2");
        entry.record("GNU.sparse.minor", "0");
    }),
    ("sparse of version 1.1", |entry| {
        entry.record("GNU.sparse.major", "1");
        entry.record("GNU.sparse.minor", "1");
        entry.record("GNU.sparse.name", "not/sparse");
    }),
    ("sparse name alone", |entry| entry.record("GNU.sparse.name", "not/sparse")),
    ("sparse sizes alone", |entry| {
        entry.record("GNU.sparse.realsize", "9000");
        entry.record("GNU.sparse.size", "8000");
    }),
    ("sparse map alone", |entry| entry.record("GNU.sparse.map", "0,700")),
    ("sparse map of no regions", |entry| {
        entry.record("GNU.sparse.map", "");
        entry.record("GNU.sparse.numblocks", "0");
    }),
];
