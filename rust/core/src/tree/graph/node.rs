//! One name in memory, and how places and texts are told.

use crate::tar::EntryType;

/// The number of a node; it stays that of the last part of its text, however often the node is cut.
pub(in crate::tree) type NodeId = u32;
pub(in crate::tree) const ROOT: NodeId = 0;
/// No node.
pub(super) const NONE: NodeId = u32::MAX;

/// Where a name is: a node, and where in its text the name ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub(in crate::tree) node: NodeId,
    pub(in crate::tree) end: u16,
}

impl Place {
    /// The root directory.
    pub const ROOT: Self = Self { node: ROOT, end: 0 };

    /// A number that no other place of the tree has; below 2⁴⁰, 0 for the root.
    #[must_use]
    pub const fn number(self) -> u64 {
        (self.node as u64) << 12 | self.end as u64
    }
}

/// Where a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextOf {
    /// In the name of an entry.
    Name,
    /// In the link target of an entry.
    Target,
    /// In `Graph::copied`, since it had to be cleaned.
    Copied,
}

/// A stretch of bytes that is in memory already.
#[derive(Debug, Clone, Copy)]
pub(in crate::tree) struct Text {
    pub(super) of: TextOf,
    pub(super) layer: u32,
    pub(super) entry: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Text {
    /// Bytes `[start, end)` of this text.
    pub(in crate::tree) const fn part(self, start: u32, end: u32) -> Self {
        Self { start: self.start + start, len: end - start, ..self }
    }

    pub(in crate::tree) const fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(in crate::tree) const fn is_copied(self) -> bool {
        matches!(self.of, TextOf::Copied)
    }
}

/// One name, or the names of a chain of directories.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: NodeId,
    pub(super) previous: NodeId,
    pub(super) next: NodeId,
    /// The first of a directory's children; the place in `Graph::sources` for a hard link.
    pub(super) child: u32,
    /// The layer that brought the name: what an opaque mark in the same layer does not hide.
    pub(super) layer: u32,
    pub(super) text_layer: u32,
    /// The entry whose text this is, and which the name stands for unless it is only implied.
    pub(super) entry: u32,
    pub(super) start: u32,
    pub(super) len: u16,
    pub(super) path_len: u16,
    pub(super) text_of: TextOf,
    /// `None` for a directory that only stands in names.
    pub(super) kind: Option<EntryType>,
    pub(super) is_hard_link: bool,
    /// Whether what symbolic links resolve to depends on it.
    pub(super) is_used_by_links: bool,
    /// One more than the last layer that hid all that lower layers have below; 0 for none.
    pub(super) cleared_by: u32,
}

impl Node {
    pub(super) const fn is_directory(&self) -> bool {
        matches!(self.kind, None | Some(EntryType::Directory))
    }

    pub(super) const fn is_fixed(&self) -> bool {
        matches!(self.kind, None | Some(EntryType::Directory | EntryType::SymLink))
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// The number of its layer, from the lowest up.
    pub layer: u32,
    /// Its number in that layer; `None` for a directory that only stands in names.
    pub entry: Option<u32>,
}

/// What a hard link stands for.
#[derive(Debug, Clone, Copy)]
pub(in crate::tree) struct Linked {
    pub(in crate::tree) layer: u32,
    pub(in crate::tree) entry: u32,
    pub(in crate::tree) kind: EntryType,
}

pub(super) const fn some(id: NodeId) -> Option<NodeId> {
    if id == NONE { None } else { Some(id) }
}

/// A length or number that was checked to fit, or follows from such.
pub(in crate::tree) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A position in a path, which has at most 4,095 bytes.
pub(super) fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
