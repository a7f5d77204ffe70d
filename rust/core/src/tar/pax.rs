//! PAX records (POSIX pax, "pax Extended Header"): parsing them and applying them to a header.

use super::number::decimal;
use super::time::Timestamp;
use crate::error::TarError;

/// Sparse format 0.0 repeats these two keys, which POSIX does not allow; see [`PaxRecords::parse`].
const SPARSE_OFFSET: &[u8] = b"GNU.sparse.offset";
const SPARSE_NUMBYTES: &[u8] = b"GNU.sparse.numbytes";
const SPARSE_MAP: &[u8] = b"GNU.sparse.map";

/// Key and value of a record, borrowed from the payload.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records of one `x` header, sorted by key, with unique keys.
#[derive(Debug, Default)]
pub(super) struct PaxRecords(Vec<(Vec<u8>, Vec<u8>)>);

/// The fields of an entry that records may change.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) name: Vec<u8>,
    pub(super) linkname: Vec<u8>,
    pub(super) uname: Vec<u8>,
    pub(super) gname: Vec<u8>,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) mtime: Timestamp,
}

impl PaxRecords {
    /// Parses the payload of an `x` header. If a key is repeated, the last record wins.
    ///
    /// The offset and size pairs of sparse format 0.0 become one `GNU.sparse.map` record, as in
    /// format 0.1 and as the reference stores them.
    pub(super) fn parse(mut payload: &[u8]) -> Result<Self, TarError> {
        let mut records = Vec::new();
        let mut sparse_map: Option<Vec<u8>> = None;
        let mut due = SPARSE_OFFSET;
        while !payload.is_empty() {
            let ((key, value), rest) = split_record(payload)?;
            payload = rest;
            if key != SPARSE_OFFSET && key != SPARSE_NUMBYTES {
                records.push((key.to_vec(), value.to_vec()));
                continue;
            }
            if key != due || value.contains(&b',') {
                return Err(TarError::Pax("GNU.sparse.offset or GNU.sparse.numbytes is misplaced"));
            }
            due = if due == SPARSE_OFFSET { SPARSE_NUMBYTES } else { SPARSE_OFFSET };
            match &mut sparse_map {
                Some(map) => {
                    map.push(b',');
                    map.extend_from_slice(value);
                }
                None => sparse_map = Some(value.to_vec()),
            }
        }
        records.extend(sparse_map.map(|map| (SPARSE_MAP.to_vec(), map)));
        // The sort is stable, so equal keys stay in order, and `dedup_by` keeps the last value.
        records.sort_by(|a, b| a.0.cmp(&b.0));
        records.dedup_by(|later, earlier| {
            let repeated = later.0 == earlier.0;
            if repeated {
                std::mem::swap(&mut later.1, &mut earlier.1);
            }
            repeated
        });
        Ok(Self(records))
    }

    /// The value of a key; empty if it is missing.
    pub(super) fn value(&self, key: &[u8]) -> &[u8] {
        match self.0.binary_search_by(|(other, _)| other.as_slice().cmp(key)) {
            Ok(index) => self.0.get(index).map_or(&[], |(_, value)| value),
            Err(_) => &[],
        }
    }

    /// Whether there are no records.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies the records to an entry. A record with an empty value changes nothing.
    pub(super) fn apply(&self, entry: &mut Attributes) -> Result<(), TarError> {
        for (key, value) in self.0.iter().filter(|(_, value)| !value.is_empty()) {
            match key.as_slice() {
                b"path" => entry.name.clone_from(value),
                b"linkpath" => entry.linkname.clone_from(value),
                b"uname" => entry.uname.clone_from(value),
                b"gname" => entry.gname.clone_from(value),
                b"uid" => entry.uid = number(value, "uid is not a number")?,
                b"gid" => entry.gid = number(value, "gid is not a number")?,
                b"size" => entry.size = number(value, "size is not a number")?,
                b"mtime" => entry.mtime = time(value, "mtime is not a valid time")?,
                // Not kept, but the reference rejects the archive if one is invalid.
                b"atime" => drop(time(value, "atime is not a valid time")?),
                b"ctime" => drop(time(value, "ctime is not a valid time")?),
                _ => {}
            }
        }
        Ok(())
    }

    /// The records, in order.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, (Vec<u8>, Vec<u8>)> {
        self.0.iter()
    }

    /// Converts `self` into its records, in order.
    pub(super) fn into_vec(self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.0
    }
}

fn number(value: &[u8], complaint: &'static str) -> Result<i64, TarError> {
    decimal(value).ok_or(TarError::Pax(complaint))
}

fn time(value: &[u8], complaint: &'static str) -> Result<Timestamp, TarError> {
    Timestamp::from_pax(value).ok_or(TarError::Pax(complaint))
}

/// Splits off the first record, `"%d %s=%s\n"`, which starts with the length of the whole record.
fn split_record(payload: &[u8]) -> Result<(Record<'_>, &[u8]), TarError> {
    const SHAPE: TarError = TarError::Pax("is not of the form \"length key=value\\n\"");
    let space = payload.iter().position(|byte| *byte == b' ').ok_or(SHAPE)?;
    let (length, _) = payload.split_at_checked(space).ok_or(SHAPE)?;
    let length = decimal(length).and_then(|length| usize::try_from(length).ok()).ok_or(SHAPE)?;
    // "5 a=\n" is the shortest.
    if length < 5 || length > payload.len() {
        return Err(TarError::Pax("has an invalid length"));
    }
    let (record, rest) = payload.split_at_checked(length).ok_or(SHAPE)?;
    let record = record.get(space + 1..).ok_or(SHAPE)?;
    let record = record.strip_suffix(b"\n").ok_or(SHAPE)?;
    let equals = record.iter().position(|byte| *byte == b'=').ok_or(SHAPE)?;
    let (key, value) = record.split_at_checked(equals).ok_or(SHAPE)?;
    let value = value.get(1..).ok_or(SHAPE)?;
    let checked_for_nul = match key {
        b"" => return Err(TarError::Pax("has an empty key")),
        b"path" | b"linkpath" | b"uname" | b"gname" => value,
        _ => key,
    };
    if checked_for_nul.contains(&0) {
        return Err(TarError::Pax("has a NUL in a key or a name"));
    }
    Ok(((key, value), rest))
}
