//! Builds tar archives from instructions: valid ones with their files, and ones that break any
//! rule.

use tocsin_core::Result;
use tocsin_core::tar::Toc;

use crate::instructions::{Instructions, damage};
use crate::streams::data;
use crate::tar_blocks::{self, Header, Tar, field, record};
use crate::tar_generator::{Random, archive};

/// A valid archive.
#[derive(Default)]
pub struct Valid {
    pub bytes: Vec<u8>,
    /// Name and data of each regular file, in order.
    pub files: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Scans pieces of an archive.
pub fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Toc> {
    tar_blocks::scan_pieces(pieces)
}

/// A valid archive of up to eight entries.
pub fn valid(instructions: &mut Instructions<'_>) -> Valid {
    let mut tar = Tar::new();
    let mut files = Vec::new();
    for index in 0..instructions.below(8) {
        let name = format!("{index}/file").into_bytes();
        let make = instructions.pick(&[Header::v7, Header::ustar, Header::gnu, Header::star]);
        let (name, header) = match instructions.below(8) {
            0 => {
                tar = tar.header(make(&name, b'5'));
                continue;
            }
            1 => {
                tar = tar.header(make(&name, b'2').put(field::LINKNAME, b"0/file"));
                continue;
            }
            2 => {
                let long = [&name[..], &vec![b'n'; instructions.below(600)]].concat();
                let records = [(&b"path"[..], &long[..]), (b"mtime", b"1700000000.5")];
                tar = tar.pax(&records);
                (long, make(b"short", b'0'))
            }
            3 => {
                let long = [&name[..], &[b'l'; 200]].concat();
                tar = tar.gnu_long(b'L', &long);
                (long, make(b"short", b'0'))
            }
            _ => (name.clone(), make(&name, b'0')),
        };
        let data = data(instructions);
        tar = tar.file(header, &data);
        files.push((name, data));
    }
    let bytes = match instructions.below(16) {
        0 => tar.0,
        // Anything may follow the end of the archive.
        1 => [tar.end(), data(instructions)].concat(),
        _ => tar.end(),
    };
    Valid { bytes, files }
}

/// An archive that may break any rule.
pub fn any(instructions: &mut Instructions<'_>) -> Vec<u8> {
    match instructions.below(8) {
        0 => return instructions.rest().to_vec(),
        1 => {
            let mut bytes = archive(&mut Random::new(u64::from(instructions.u16())));
            damage(&mut bytes, instructions);
            seal(&mut bytes);
            return bytes;
        }
        2 => {
            let mut bytes = instructions.rest().to_vec();
            seal(&mut bytes);
            return bytes;
        }
        _ => {}
    }
    let mut tar = Tar::new();
    for _ in 0..64 {
        if instructions.is_empty() {
            break;
        }
        tar = item(tar, instructions);
    }
    tar.0
}

/// Corrects the checksum of every block with a magic number.
fn seal(bytes: &mut [u8]) {
    for block in bytes.as_chunks_mut::<512>().0 {
        if block[field::MAGIC_VERSION].starts_with(b"ustar") {
            *block = Header { block: *block }.sealed();
        }
    }
}

fn item(tar: Tar, instructions: &mut Instructions<'_>) -> Tar {
    match instructions.below(16) {
        0 => tar.zero_block(),
        1 => {
            let len = instructions.below(256);
            tar.raw(instructions.take(len))
        }
        2 => {
            let len = instructions.below(256);
            tar.data(instructions.take(len))
        }
        3..=6 => {
            let mut payload = Vec::new();
            for _ in 0..instructions.below(6) {
                payload.extend(record(key(instructions), value(instructions)));
            }
            if instructions.rarely() {
                damage(&mut payload, instructions);
            }
            tar.pax_payload(&payload)
        }
        7 => tar.gnu_long(instructions.pick(b"LK"), &value(instructions)),
        8 => sparse_in_data(tar, instructions),
        _ => {
            let header = header(instructions);
            match instructions.below(4) {
                0 => tar.header(header),
                1 => tar.raw(&header.block),
                _ => {
                    let data = instructions.pick(&[0, 1, 511, 512, 513, 2000]);
                    tar.file(header, &vec![b'.'; data])
                }
            }
        }
    }
}

fn header(instructions: &mut Instructions<'_>) -> Header {
    const FLAGS: &[u8; 33] = b"0000000000\0\0\x0011223456xLKgS7DMVX8z";
    let make = instructions.pick(&[Header::v7, Header::ustar, Header::gnu, Header::star]);
    let flag = instructions.pick(FLAGS);
    let mut header = make(&value(instructions), flag);
    for _ in 0..instructions.below(4) {
        let field = instructions.pick(&[
            field::NAME,
            field::MODE,
            field::UID,
            field::GID,
            field::SIZE,
            field::MTIME,
            field::LINKNAME,
            field::MAGIC_VERSION,
            field::UNAME,
            field::GNAME,
            field::DEVMAJOR,
            field::DEVMINOR,
            field::PREFIX,
            field::GNU_ATIME,
            field::GNU_CTIME,
            field::STAR_ATIME,
        ]);
        header = match instructions.below(4) {
            0 => header.octal(field.start..field.start + 8, instructions.u64() & 0o7_777_777),
            1 => header.base_256(field.start..field.end.min(field.start + 12), {
                let shift = instructions.below(64);
                instructions.u64().cast_signed() >> shift
            }),
            _ => header.put(field, &value(instructions)),
        };
    }
    header
}

/// Format 1.0: the map is before the data.
fn sparse_in_data(tar: Tar, instructions: &mut Instructions<'_>) -> Tar {
    let mut map = Vec::new();
    for _ in 0..instructions.below(256) {
        map.extend_from_slice(number(instructions).as_bytes());
        map.push(b'\n');
    }
    map.resize(map.len().next_multiple_of(512), 0);
    let size = number(instructions);
    let records = [
        (&b"GNU.sparse.major"[..], &b"1"[..]),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"real/name"),
        (b"GNU.sparse.realsize", size.as_bytes()),
    ];
    tar.pax(&records).file(Header::ustar(b"GNUSparseFile.0/name", b'0'), &map)
}

fn number(instructions: &mut Instructions<'_>) -> String {
    match instructions.below(4) {
        0 => instructions.u64().cast_signed().to_string(),
        1 => instructions.u16().to_string(),
        _ => instructions.byte().to_string(),
    }
}

fn key(instructions: &mut Instructions<'_>) -> Vec<u8> {
    const KEYS: [&str; 21] = [
        "path",
        "linkpath",
        "uname",
        "gname",
        "uid",
        "gid",
        "size",
        "mtime",
        "atime",
        "ctime",
        "SCHILY.xattr.user.k",
        "comment",
        "GNU.sparse.major",
        "GNU.sparse.minor",
        "GNU.sparse.name",
        "GNU.sparse.realsize",
        "GNU.sparse.size",
        "GNU.sparse.map",
        "GNU.sparse.numblocks",
        "GNU.sparse.offset",
        "GNU.sparse.numbytes",
    ];
    match instructions.below(KEYS.len() + 2) {
        index if index < KEYS.len() => KEYS[index].into(),
        _ => value(instructions),
    }
}

fn value(instructions: &mut Instructions<'_>) -> Vec<u8> {
    const VALUES: [&str; 10] = [
        "dir/",
        "a/b",
        "0",
        "1",
        "0,1,2,3",
        "1700000000.25",
        "-62167219200",
        "253402300799.9",
        ".wh..wh..opq",
        "ustar  ",
    ];
    match instructions.below(8) {
        0 => instructions.pick(&VALUES).into(),
        1 | 2 => number(instructions).into(),
        3 => vec![instructions.byte(); instructions.below(2000)],
        _ => {
            let len = instructions.below(24);
            instructions.take(len).to_vec()
        }
    }
}
