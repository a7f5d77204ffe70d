//! A name in memory, and how locations and texts are represented.

use crate::tar::EntryType;

/// The index of a node. It belongs to the last component of the node's text, even after the node is
/// split.
pub(in crate::tree) type NodeId = u32;
pub(in crate::tree) const ROOT: NodeId = 0;
/// No node.
pub(super) const NONE: NodeId = u32::MAX;

/// The location of a name in a tree: a node, and the end of the name in the node's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    pub(in crate::tree) node: NodeId,
    pub(in crate::tree) end: u16,
}

impl Location {
    /// The root directory.
    pub const ROOT: Self = Self { node: ROOT, end: 0 };

    /// A number below 2⁴⁰ that is unique in the tree; 0 for the root.
    #[must_use]
    pub const fn number(self) -> u64 {
        (self.node as u64) << 12 | self.end as u64
    }
}

/// What a text is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextOf {
    /// The name of an entry.
    Name,
    /// The link target of an entry.
    Target,
    /// `Graph::copied`, since it had to be cleaned.
    Copied,
}

/// A range of bytes that are stored elsewhere.
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
    /// The first child of a directory; for a hard link, the index in `Graph::sources`.
    pub(super) child: u32,
    /// The layer that added the name, which an opaque marker in the same layer does not hide.
    pub(super) layer: u32,
    pub(super) text_layer: u32,
    /// The entry whose text this is, and which the node stands for unless it is an implied
    /// directory.
    pub(super) entry: u32,
    pub(super) start: u32,
    pub(super) len: u16,
    pub(super) path_len: u16,
    pub(super) text_of: TextOf,
    /// `None` for an implied directory.
    pub(super) kind: Option<EntryType>,
    pub(super) is_hard_link: bool,
    /// Whether the resolution of a symbolic link depends on this node.
    pub(super) is_used_by_links: bool,
    /// One more than the last layer that hid everything lower layers have below; 0 if none.
    pub(super) cleared_by: u32,
}

impl Node {
    pub(super) const fn is_directory(&self) -> bool {
        matches!(self.kind, None | Some(EntryType::Directory))
    }

    pub(super) const fn affects_paths(&self) -> bool {
        matches!(self.kind, None | Some(EntryType::Directory | EntryType::SymLink))
    }
}

/// The entry that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// The index of its layer, from the lowest up.
    pub layer: u32,
    /// Its index in that layer; `None` for an implied directory.
    pub entry: Option<u32>,
}

/// The target of a hard link.
#[derive(Debug, Clone, Copy)]
pub(in crate::tree) struct Linked {
    pub(in crate::tree) layer: u32,
    pub(in crate::tree) entry: u32,
    pub(in crate::tree) kind: EntryType,
}

pub(super) const fn non_null(id: NodeId) -> Option<NodeId> {
    if id == NONE { None } else { Some(id) }
}

/// Converts a number that has been checked to fit.
pub(in crate::tree) fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Converts an offset in a path, which has at most 4,095 bytes.
pub(super) fn to_u16(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
