//! The names of an image in memory: nodes keyed by (directory, name), without copies of the names.
//!
//! Implied directories often form a long chain, each containing only the next. Such a chain is one
//! node whose text has several components; it is split when something is added inside it. So memory
//! is proportional to the number of entries, not to the depth of their paths.

mod changes;
mod node;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use hashbrown::HashTable;

pub(super) use node::{Linked, NodeId, Text, to_u32};
pub use node::{Location, Source};

use super::names::{SplitName, next_part};
use crate::tar::{Entries, EntryType};
use node::{NONE, Node, ROOT, TextOf, non_null, to_u16};

/// All nodes, and the layers that hold their texts.
#[derive(Debug)]
pub(super) struct Graph<L> {
    pub(super) layers: Vec<L>,
    nodes: Vec<Node>,
    /// List of free nodes, linked by `next`.
    free: NodeId,
    table: HashTable<NodeId>,
    hasher: RandomState,
    /// The targets of hard links.
    sources: Vec<Linked>,
    /// Copies of names that had to be cleaned.
    copied: Vec<u8>,
    /// How many bytes of `copied` nodes refer to.
    copied_in_use: usize,
    /// Number of nodes removed or replaced that links led through.
    links_changed: u64,
    /// Number of directories and symbolic links removed or replaced.
    paths_changed: u64,
}

impl<L: Entries> Graph<L> {
    /// A graph with only the root, and capacity for `capacity` names.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut nodes = Vec::with_capacity(capacity.saturating_add(1));
        nodes.push(Node {
            parent: ROOT,
            previous: NONE,
            next: NONE,
            child: NONE,
            layer: 0,
            text_layer: 0,
            entry: 0,
            start: 0,
            len: 0,
            path_len: 0,
            text_of: TextOf::Copied,
            kind: None,
            is_hard_link: false,
            is_used_by_links: false,
            cleared_by: 0,
        });
        Self {
            layers: Vec::new(),
            nodes,
            free: NONE,
            table: HashTable::with_capacity(capacity),
            hasher: RandomState::new(),
            sources: Vec::new(),
            copied: Vec::new(),
            copied_in_use: 0,
            links_changed: 0,
            paths_changed: 0,
        }
    }

    pub(super) const fn links_changed(&self) -> u64 {
        self.links_changed
    }

    pub(super) const fn paths_changed(&self) -> u64 {
        self.paths_changed
    }

    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    // -- texts -------------------------------------------------------------------------------------

    pub(super) fn layer(&self, layer: u32) -> &L {
        &self.layers[layer as usize]
    }

    pub(super) fn bytes(&self, text: Text) -> &[u8] {
        let whole = match text.of {
            TextOf::Name => self.layer(text.layer).name(text.entry as usize),
            TextOf::Target => self.layer(text.layer).linkname(text.entry as usize),
            TextOf::Copied => &self.copied,
        };
        &whole[text.start as usize..][..text.len as usize]
    }

    /// The directory and the last component of an entry's name as texts; `None` if their offsets do
    /// not fit in 32 bits. A name that had to be cleaned is copied; `drop_unused_copies` drops the
    /// copy if no node refers to it.
    pub(super) fn texts_of(
        &mut self,
        layer: u32,
        entry: u32,
        name: &SplitName,
    ) -> Option<(Text, Text)> {
        let (of, base) = match &name.cleaned {
            None => (TextOf::Name, 0),
            Some(cleaned) => {
                let base = self.copied.len();
                u32::try_from(base + cleaned.len()).ok()?;
                self.copied.extend_from_slice(cleaned);
                (TextOf::Copied, base)
            }
        };
        let text = |range: &Range<usize>| Text {
            of,
            layer,
            entry,
            start: to_u32(base + range.start),
            len: to_u32(range.len()),
        };
        Some((text(&name.parent), text(&name.last)))
    }

    /// Drops copied names that no node refers to.
    pub(super) fn drop_unused_copies(&mut self) {
        self.copied.truncate(self.copied_in_use);
    }

    /// The target of the symbolic link at a node.
    pub(super) fn target(&self, id: NodeId) -> Text {
        let Source { layer, entry } = self.source(self.end_of(id));
        let entry = entry.unwrap_or_default();
        let len = to_u32(self.layer(layer).linkname(entry as usize).len());
        Text { of: TextOf::Target, layer, entry, start: 0, len }
    }

    fn text(&self, id: NodeId) -> &[u8] {
        let node = self.node(id);
        self.bytes(Text {
            of: node.text_of,
            layer: node.text_layer,
            entry: node.entry,
            start: node.start,
            len: u32::from(node.len),
        })
    }

    fn first_part(&self, id: NodeId) -> &[u8] {
        let text = self.text(id);
        next_part(text, 0).map_or(&[], |part| &text[part])
    }

    /// The location with this number, if it exists.
    pub(super) fn location(&self, number: u64) -> Option<Location> {
        let node = NodeId::try_from(number >> 12).ok()?;
        let end = u16::try_from(number & 0xFFF).ok()?;
        let is_there = self.nodes.get(node as usize).is_some_and(|node| end <= node.len);
        is_there.then_some(Location { node, end })
    }

    // -- locations --------------------------------------------------------------------------------

    /// The location of a node's last component.
    pub(super) fn end_of(&self, id: NodeId) -> Location {
        Location { node: id, end: self.node(id).len }
    }

    /// Whether a location is inside a chain, not at its end.
    pub(super) fn is_inside(&self, location: Location) -> bool {
        location.end < self.node(location.node).len
    }

    /// The type at a location; for a hard link, the type of its target if that exists.
    pub(super) fn kind(&self, location: Location) -> EntryType {
        if self.is_inside(location) {
            return EntryType::Directory;
        }
        self.node(location.node).kind.unwrap_or(EntryType::Directory)
    }

    pub(super) fn is_directory(&self, location: Location) -> bool {
        self.is_inside(location) || self.node(location.node).is_directory()
    }

    pub(super) fn source(&self, location: Location) -> Source {
        let node = self.node(location.node);
        if node.kind.is_none() || self.is_inside(location) {
            return Source { layer: node.layer, entry: None };
        }
        if node.is_hard_link {
            let Linked { layer, entry, .. } = self.sources[node.child as usize];
            return Source { layer, entry: Some(entry) };
        }
        Source { layer: node.layer, entry: Some(node.entry) }
    }

    /// The layer that added a node's name.
    pub(super) fn layer_of(&self, id: NodeId) -> u32 {
        self.node(id).layer
    }

    pub(super) fn name(&self, location: Location) -> &[u8] {
        let text = &self.text(location.node)[..usize::from(location.end)];
        text.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    pub(super) fn parent(&self, location: Location) -> Location {
        let text = &self.text(location.node)[..usize::from(location.end)];
        match text.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Location { node: location.node, end: to_u16(slash) },
            None => self.end_of(self.node(location.node).parent),
        }
    }

    /// Length of the path from the root in bytes, without a leading slash.
    pub(super) fn path_len(&self, location: Location) -> usize {
        let node = self.node(location.node);
        usize::from(node.path_len - (node.len - location.end))
    }

    /// The path from the root, without a leading slash.
    pub(super) fn path(&self, location: Location) -> Vec<u8> {
        let mut path = vec![b'/'; self.path_len(location)];
        let (mut location, mut end) = (location, path.len());
        while end > 0 {
            let part = &self.text(location.node)[..usize::from(location.end)];
            path[end - part.len()..end].copy_from_slice(part);
            end = (end - part.len()).saturating_sub(1);
            location = self.end_of(self.node(location.node).parent);
        }
        path
    }

    /// The child with this name; `None` if there is none or `location` is not a directory.
    pub(super) fn child(&self, location: Location, name: &[u8]) -> Option<Location> {
        if self.is_inside(location) {
            let text = self.text(location.node);
            let part = next_part(text, usize::from(location.end))?;
            return (&text[part.clone()] == name)
                .then(|| Location { node: location.node, end: to_u16(part.end) });
        }
        let hash = self.hash(location.node, name);
        let same =
            |id: &NodeId| self.node(*id).parent == location.node && self.first_part(*id) == name;
        let id = *self.table.find(hash, same)?;
        Some(Location { node: id, end: to_u16(name.len()) })
    }

    /// The children of a directory, unsorted.
    pub(super) fn children(&self, location: Location) -> Children<'_, L> {
        if self.is_inside(location) {
            let part = next_part(self.text(location.node), usize::from(location.end));
            let only = part.map(|part| Location { node: location.node, end: to_u16(part.end) });
            return Children { graph: self, only, next: NONE };
        }
        Children { graph: self, only: None, next: self.first_child(location.node) }
    }

    fn first_child(&self, id: NodeId) -> NodeId {
        let node = self.node(id);
        if node.is_directory() { node.child } else { NONE }
    }

    pub(super) fn is_empty(&self, id: NodeId) -> bool {
        self.first_child(id) == NONE
    }

    /// The first node in a directory; `next_node` returns the others.
    pub(super) fn first_node(&self, id: NodeId) -> Option<NodeId> {
        non_null(self.first_child(id))
    }

    pub(super) fn next_node(&self, id: NodeId) -> Option<NodeId> {
        non_null(self.node(id).next)
    }

    fn hash(&self, parent: NodeId, name: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        hasher.write(name);
        hasher.finish()
    }
}

/// Iterates over the children of a directory.
pub(super) struct Children<'a, L> {
    graph: &'a Graph<L>,
    only: Option<Location>,
    next: NodeId,
}

impl<L: Entries> Iterator for Children<'_, L> {
    type Item = Location;

    fn next(&mut self) -> Option<Location> {
        if let Some(only) = self.only.take() {
            return Some(only);
        }
        let id = non_null(self.next)?;
        self.next = self.graph.node(id).next;
        Some(Location { node: id, end: to_u16(self.graph.first_part(id).len()) })
    }
}
