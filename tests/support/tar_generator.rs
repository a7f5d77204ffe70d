//! Generates nearly valid archives, which follow every rule of the format and occasionally break
//! one.
//!
//! Everything is derived from a seed, so that failures can be reproduced.

use super::tar_blocks::{Header, Tar, field, filling, record};

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or_default()
    }

    /// True on average once in `times` calls.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

const NAMES: [&[u8]; 12] = [
    b"a",
    b"d/",
    b"d/b",
    b"./c",
    b"/abs",
    b"../up",
    b"d//e",
    b"caf\xc3\xa9",
    b"\xff\xfe",
    b"nul\0tail",
    b"",
    b"a-name-that-fills-the-field-to-its-very-last-byte-0123456789-0123456789-0123456789-0123456789-012345",
];

const FLAGS: &[u8; 24] = b"0000000000001122334556\0\0";
const ODD_FLAGS: &[u8; 14] = b"7SgxLKDMNVAX8z";

/// Contents of numeric fields, valid and invalid, cut to the length of the field.
const NUMBERS: [&[u8]; 30] = [
    b"0000644\0",
    b"0000000\0",
    b"00000000012\0",
    b"12",
    b"  12 ",
    b"\0\x0012\0",
    b"12\0 34",
    b"        ",
    b"",
    b"777777777777",
    b"77777777",
    b"0000008\0",
    b"-1",
    b"+1",
    b"1 2",
    b"0x1f",
    b"\x80\0\0\0\0\0\0\0\0\0\x02\0",
    b"\x80\0\0\0\0\0\0\x05",
    b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
    b"\x80\0\0\x01\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xfe\0\0\0\0",
    b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xc0\0\0\0\0\0\0\0\0\0\0\0",
    b"\x80\0\0\0\0\0\0\x3a\xff\xf4\x41\x7f",
    b"\x80\0\0\0\0\0\0\x3a\xff\xf4\x41\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\xf1\x86\x8b\x84\0",
];

const KEYS: [&[u8]; 24] = [
    b"path",
    b"linkpath",
    b"uname",
    b"gname",
    b"uid",
    b"gid",
    b"size",
    b"mtime",
    b"atime",
    b"ctime",
    b"SCHILY.xattr.user.k",
    b"LIBARCHIVE.xattr.user.k",
    b"comment",
    b"GNU.sparse.major",
    b"GNU.sparse.minor",
    b"GNU.sparse.name",
    b"GNU.sparse.realsize",
    b"GNU.sparse.size",
    b"GNU.sparse.map",
    b"GNU.sparse.numblocks",
    b"GNU.sparse.offset",
    b"GNU.sparse.numbytes",
    b"k\0",
    b"",
];

const VALUES: [&[u8]; 32] = [
    b"",
    b"0",
    b"1",
    b"2",
    b"5",
    b"512",
    b"1024",
    b"-1",
    b"+7",
    b"007",
    b"4294967301",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"1700000000.25",
    b"-5.25",
    b"-0.5",
    b".5",
    b"5.",
    b"1.1234567891",
    b"1.12345678x",
    b"253402300799.999999999",
    b"253402300800",
    b"-62167219200",
    b"-62167219200.000000001",
    b"0,5",
    b"0,1,2,3",
    b"a/path",
    b"dir/",
    b"nul\0",
    b"eq=ual\nline",
    b"\xff\xfe",
];

/// An archive of a few items, possibly damaged.
pub(crate) fn archive(random: &mut Random) -> Vec<u8> {
    let mut tar = Tar::new();
    for _ in 0..1 + random.below(5) {
        tar = item(tar, random);
    }
    for _ in 0..random.pick(&[0, 1, 2, 2, 2, 2, 3]) {
        tar = tar.zero_block();
    }
    let mut bytes = tar.0;
    damage(&mut bytes, random);
    bytes
}

fn item(tar: Tar, random: &mut Random) -> Tar {
    match random.below(16) {
        0..=6 => file(tar, random),
        7..=9 => {
            let tar = pax(tar, random);
            file(tar, random)
        }
        10 => {
            let tar = pax(tar, random);
            let tar = pax(tar, random);
            file(tar, random)
        }
        11 => {
            let tar = tar.gnu_long(random.pick(b"LK"), random.pick(&NAMES));
            file(tar, random)
        }
        12 => sparse_in_records(tar, random),
        13 => sparse_in_data(tar, random),
        14 if random.once_in(3) => tar.zero_block(),
        15 if random.once_in(3) => file_with_odd_flag(tar, random),
        _ => file(tar, random),
    }
}

fn header(random: &mut Random, flag: u8) -> Header {
    let make = random.pick(&[Header::v7, Header::ustar, Header::gnu, Header::star]);
    let mut header = make(random.pick(&NAMES), flag);
    if random.once_in(3) {
        header = header.put(field::LINKNAME, random.pick(&NAMES));
    }
    let is_v7 = header.block[field::MAGIC_VERSION] == [0; 8];
    if !is_v7 && random.once_in(3) {
        header = header.put(field::PREFIX.start..field::STAR_PREFIX.end, random.pick(&NAMES));
    }
    if random.once_in(8) {
        let fields = [&field::NUMBERS[..], &[field::DEVMAJOR, field::DEVMINOR]].concat();
        header = header.put(random.pick(&fields), random.pick(&NUMBERS));
    }
    if random.once_in(8) {
        let fields = [
            field::GNU_ATIME,
            field::GNU_CTIME,
            field::STAR_ATIME,
            field::STAR_CTIME,
            field::PREFIX,
        ];
        header = header.put(random.pick(&fields), random.pick(&NUMBERS));
    }
    if random.once_in(16) {
        let owner = random.pick(&[field::UNAME, field::GNAME]);
        header = header.put(owner, random.pick(&NAMES));
    }
    header
}

fn file(tar: Tar, random: &mut Random) -> Tar {
    let flag = random.pick(FLAGS);
    file_with_flag(tar, random, flag)
}

fn file_with_odd_flag(tar: Tar, random: &mut Random) -> Tar {
    let flag = random.pick(ODD_FLAGS);
    file_with_flag(tar, random, flag)
}

fn file_with_flag(tar: Tar, random: &mut Random, flag: u8) -> Tar {
    let header = header(random, flag);
    let carries_data = !matches!(flag, b'1'..=b'6') || random.once_in(8);
    let size = if carries_data { random.pick(&[0, 0, 1, 5, 511, 512, 513, 1500]) } else { 0 };
    let is_default = header.block[field::SIZE] == *b"00000000000\0";
    let header = if is_default { header.size(size as u64) } else { header };
    let tar = tar.header(header);
    let has_data = !matches!(flag, b'1'..=b'6') || random.once_in(2);
    if has_data { tar.data(&filling(size)) } else { tar }
}

fn pax(tar: Tar, random: &mut Random) -> Tar {
    let mut payload = Vec::new();
    for _ in 0..random.below(4) {
        payload.extend(record(random.pick(&KEYS[..22]), sensible_value(random)));
    }
    if random.once_in(10) {
        payload.extend(record(random.pick(&KEYS), random.pick(&VALUES)));
    }
    if random.once_in(20) {
        let broken: [&[u8]; 12] = [
            b"5 a=\n",
            b"4 =\n",
            b"6 a=b",
            b"6 a=bx",
            b"06 a=\n",
            b"+6 a=\n",
            b"-6 a=\n",
            b"99 a=b\n",
            b"5 ab\n",
            b" 6 a=\n",
            b"\0\0\0",
            b"2 a=b\n",
        ];
        payload.extend_from_slice(random.pick(&broken));
    }
    tar.pax_payload(&payload)
}

fn sensible_value(random: &mut Random) -> &'static [u8] {
    if random.once_in(4) { random.pick(&VALUES) } else { random.pick(&VALUES[..6]) }
}

fn number(random: &mut Random) -> &'static [u8] {
    let numbers: [&[u8]; 8] =
        [b"0", b"1", b"2", b"5", b"512", b"+1", b"-1", b"9223372036854775807"];
    if random.once_in(6) { random.pick(&numbers) } else { random.pick(&numbers[..4]) }
}

/// Formats 0.0 and 0.1.
fn sparse_in_records(tar: Tar, random: &mut Random) -> Tar {
    let regions = random.below(3);
    let mut numbers: Vec<&[u8]> = Vec::new();
    for _ in 0..regions * 2 {
        numbers.push(number(random));
    }
    let mut payload = record(b"GNU.sparse.size", random.pick(&[&b"9"[..], b"600", b"6"]));
    let announced = if random.once_in(12) { random.below(4) } else { regions };
    payload.extend(record(b"GNU.sparse.numblocks", announced.to_string()));
    if random.once_in(2) {
        for (index, number) in numbers.iter().enumerate() {
            let key: &[u8] =
                if index % 2 == 0 { b"GNU.sparse.offset" } else { b"GNU.sparse.numbytes" };
            payload.extend(record(key, number));
        }
    } else {
        payload.extend(record(b"GNU.sparse.map", numbers.join(&b',')));
        payload.extend(record(b"GNU.sparse.name", random.pick(&NAMES[..9])));
    }
    if random.once_in(3) {
        payload.extend(record(b"GNU.sparse.major", b"0"));
        payload.extend(record(b"GNU.sparse.minor", b"1"));
    }
    file(tar.pax_payload(&payload), random)
}

/// Format 1.0.
fn sparse_in_data(tar: Tar, random: &mut Random) -> Tar {
    let regions = random.pick(&[0, 1, 2, 3, 120, 300]);
    let mut map = format!("{regions}\n").into_bytes();
    for index in 0..regions {
        if regions < 100 && random.once_in(8) {
            map.extend_from_slice(number(random));
            map.extend_from_slice(b"\n1\n");
        } else {
            map.extend_from_slice(format!("{}\n1\n", index * 2).as_bytes());
        }
    }
    map.resize(map.len().next_multiple_of(512), 0);
    map.extend_from_slice(&filling(regions));
    let size = if random.once_in(10) { b"9".to_vec() } else { b"700".to_vec() };
    let tar = tar.pax(&[
        (&b"GNU.sparse.major"[..], &b"1"[..]),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"real/name"),
        (b"GNU.sparse.realsize", &size),
    ]);
    let flag = if random.once_in(12) { random.pick(FLAGS) } else { b'0' };
    tar.file(Header::ustar(b"GNUSparseFile.0/name", flag), &map)
}

/// Damages the archive in random ways, or not at all.
pub(crate) fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    if random.once_in(3) && !bytes.is_empty() {
        // Change a byte of a header field or payload, and usually correct the checksum.
        let block = random.below(bytes.len().div_ceil(512)) * 512;
        let at = block + random.below(512);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = random.pick(b"\0 0179aLxK\n=,\x80\xff");
        }
        if let Some(header) = bytes.get_mut(block..block + 512)
            && !random.once_in(4)
            && header[field::CHKSUM].ends_with(b"\0 ")
        {
            let mut resealed = Header { block: [0; 512] };
            resealed.block.copy_from_slice(header);
            header.copy_from_slice(&resealed.sealed());
        }
    }
    if random.once_in(8) && !bytes.is_empty() {
        let end = random.below(bytes.len() + 1);
        // Prefer block boundaries, which most rules are about.
        let end = if random.once_in(2) { end / 512 * 512 } else { end };
        bytes.truncate(end);
    }
    if random.once_in(12) {
        bytes.extend_from_slice(random.pick(&NUMBERS));
    }
    if random.once_in(16) && bytes.len() > 1024 {
        let from = random.below(bytes.len() / 512) * 512;
        bytes.drain(from..(from + 512).min(bytes.len()));
    }
}
