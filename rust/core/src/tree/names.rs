//! Cleaning and splitting the names in tars, and finding those that Linux would reject.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use crate::tar::{EntryType, clean_path};

/// Maximum length of a path from the root in bytes, without a leading slash: `PATH_MAX` is 4,096
/// including the terminating NUL. It also bounds the depth of the tree, to 2,048 nested
/// directories. The maximum length of a file name depends on the file system (255 bytes on most),
/// so it is not checked here.
/// Source: torvalds/linux, include/uapi/linux/limits.h.
pub const MAX_PATH_LEN: usize = 4095;
/// Maximum length of a link target in bytes: the same limit, since `symlink(2)` and `link(2)` take
/// paths.
pub const MAX_TARGET_LEN: usize = 4095;

/// The prefix of whiteouts.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// The opaque marker, which hides everything that lower layers have in its directory.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// The prefix of names reserved by aufs, which unpackers ignore.
pub(super) const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// Why an entry is not in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The path has more than [`MAX_PATH_LEN`] bytes after following symbolic links.
    PathTooLong,
    /// The link target has more than [`MAX_TARGET_LEN`] bytes.
    TargetTooLong,
    /// The name or the target of a symbolic link contains a NUL byte, which ends it for the kernel.
    NulByte,
    /// The path leads through symbolic links that take too many steps to follow.
    CostlyLinks,
    /// The tree has reached the maximum number of names.
    TooManyNames,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::PathTooLong => "the path has more than 4,095 bytes, the limit of Linux",
            Self::TargetTooLong => "the link target has more than 4,095 bytes, the limit of Linux",
            Self::NulByte => "the name or the link target contains a NUL byte",
            Self::CostlyLinks => "the path leads through too many symbolic links",
            Self::TooManyNames => "the image has more than 268 million names",
        })
    }
}

/// The cleaned name of an entry, split before its last component.
#[derive(Debug)]
pub(super) struct SplitName {
    /// The cleaned name, if it is not a substring of the name in the tar.
    pub(super) cleaned: Option<Vec<u8>>,
    /// The directory, as a range of the cleaned name if there is one, else of the name in the tar.
    /// Empty for the root.
    pub(super) parent: Range<usize>,
    /// The last component, as a range of the same name; empty if the entry is the root.
    pub(super) last: Range<usize>,
}

/// Cleans and splits the name of an entry, and checks its link target.
///
/// # Errors
/// The reason if Linux would reject the name or target. For a whiteout only its directory is
/// checked, since the whiteout itself is not created.
pub(super) fn split_name<'a>(
    name: &'a [u8],
    kind: EntryType,
    target: impl FnOnce() -> &'a [u8],
) -> Result<SplitName, Reason> {
    let (cleaned, path) = match plain_range(name) {
        Some(range) => (None, range),
        None => {
            let cleaned = clean_path(name).into_owned();
            let all = 0..cleaned.len();
            (Some(cleaned), all)
        }
    };
    let whole = cleaned.as_deref().unwrap_or(name);
    let slash = whole[path.clone()].iter().rposition(|byte| *byte == b'/');
    let (parent, last) = match slash {
        Some(at) => (path.start..path.start + at, path.start + at + 1..path.end),
        None => (path.start..path.start, path),
    };
    if whole[last.clone()].starts_with(WHITEOUT) {
        check_path(&whole[parent.clone()])?;
    } else {
        check_path(&whole[parent.start..last.end])?;
        check_target(kind, target)?;
    }
    Ok(SplitName { cleaned, parent, last })
}

fn check_path(path: &[u8]) -> Result<(), Reason> {
    if path.len() > MAX_PATH_LEN {
        return Err(Reason::PathTooLong);
    }
    if path.contains(&0) { Err(Reason::NulByte) } else { Ok(()) }
}

fn check_target<'a>(kind: EntryType, target: impl FnOnce() -> &'a [u8]) -> Result<(), Reason> {
    if !matches!(kind, EntryType::SymLink | EntryType::HardLink) {
        return Ok(());
    }
    let target = target();
    match kind {
        EntryType::SymLink if target.len() > MAX_TARGET_LEN => Err(Reason::TargetTooLong),
        EntryType::SymLink if target.contains(&0) => Err(Reason::NulByte),
        // Unpackers clean the target first. Other invalid targets are just missing files.
        EntryType::HardLink if len_without_dots(target) > MAX_TARGET_LEN => {
            Err(Reason::TargetTooLong)
        }
        _ => Ok(()),
    }
}

/// The range of the path in a name, if only the ends need cleaning: `./usr/lib/` → `usr/lib`.
fn plain_range(name: &[u8]) -> Option<Range<usize>> {
    let mut start = 0;
    loop {
        match name.get(start..)? {
            [b'/', ..] => start += 1,
            [b'.', b'/', ..] => start += 2,
            _ => break,
        }
    }
    let end = name.len() - name[start..].iter().rev().take_while(|byte| **byte == b'/').count();
    let is_plain = name[start..end].split(|byte| *byte == b'/').all(is_plain_part);
    is_plain.then_some(start..end)
}

/// Whether a path component is a plain name, not empty, `.` or `..`.
pub(super) fn is_plain_part(part: &[u8]) -> bool {
    !matches!(part, b"" | b"." | b"..")
}

/// The next path component from byte `from` on; slashes before it are skipped.
pub(crate) fn next_part(path: &[u8], from: usize) -> Option<Range<usize>> {
    let rest = path.get(from..)?;
    let start = from + rest.iter().position(|byte| *byte != b'/')?;
    let len = path[start..].iter().position(|byte| *byte == b'/');
    Some(start..len.map_or(path.len(), |len| start + len))
}

/// The length of a path without `.` and empty components.
fn len_without_dots(path: &[u8]) -> usize {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.map(|part| part.len() + 1).sum::<usize>().saturating_sub(1)
}

/// Compares names as Python compares them after decoding: by code point, where a byte that is not
/// UTF-8 is the surrogate that `surrogateescape` maps it to.
#[must_use]
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let differs = a.iter().zip(b).position(|(a, b)| a != b);
    let (first_a, first_b) = match differs {
        Some(at) => (a[at], b[at]),
        None => return a.len().cmp(&b.len()),
    };
    // All bytes before these are equal, and an ASCII byte ends any UTF-8 sequence.
    if first_a.is_ascii() && first_b.is_ascii() {
        return first_a.cmp(&first_b);
    }
    code_points(a).cmp(code_points(b))
}

fn code_points(name: &[u8]) -> impl Iterator<Item = u32> {
    name.utf8_chunks().flat_map(|chunk| {
        let escaped = chunk.invalid().iter().map(|byte| 0xDC00 + u32::from(*byte));
        chunk.valid().chars().map(u32::from).chain(escaped)
    })
}

#[cfg(test)]
mod tests {
    use super::{Ordering, compare, len_without_dots, next_part, plain_range};

    #[test]
    fn plain_range_when_only_the_ends_need_cleaning_then_returns_the_middle() {
        for (name, path) in [
            ("usr/lib", Some("usr/lib")),
            ("./usr/lib/", Some("usr/lib")),
            ("/.//usr", Some("usr")),
            ("usr//lib", None),
            ("usr/./lib", None),
            ("../usr", None),
            ("..", None),
            (".", None),
            ("", None),
            ("/", None),
            ("...", Some("...")),
        ] {
            assert_eq!(plain_range(name.as_bytes()).map(|range| &name[range]), path, "{name:?}");
        }
    }

    #[test]
    fn next_part_when_slashes_repeat_then_skips_them() {
        let path = b"//a///bc/";
        assert_eq!(next_part(path, 0), Some(2..3));
        assert_eq!(next_part(path, 3), Some(6..8));
        assert_eq!(next_part(path, 8), None);
        assert_eq!(next_part(path, 100), None);
    }

    #[test]
    fn len_without_dots_when_path_has_dots_then_does_not_count_them() {
        for (path, len) in [("", 0), ("./", 0), ("./a/../b//c/", "a/../b/c".len()), ("/abc", 3)] {
            assert_eq!(len_without_dots(path.as_bytes()), len, "{path:?}");
        }
    }

    #[test]
    fn compare_when_names_are_not_utf8_then_as_python_sorts_surrogates() {
        // Python 3.11: sorted(os.fsdecode(n) for n in …) gives this order.
        let sorted: [&[u8]; 9] = [
            b"",
            b"a",
            b"a\x80",
            b"b",
            "\u{e9}".as_bytes(),
            b"\xc3A",
            b"\xff",
            "\u{e000}".as_bytes(),
            "\u{1f600}".as_bytes(),
        ];
        for (index, a) in sorted.iter().enumerate() {
            for (other, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), index.cmp(&other), "{a:?} and {b:?}");
            }
        }
        assert_eq!(compare(b"x", b"x"), Ordering::Equal);
    }
}
