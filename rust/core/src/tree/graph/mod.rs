//! The names of an image in memory: nodes found by (directory, name), with no name copied.
//!
//! Directories that only stand in names are often a long chain, each with nothing but the next inside.
//! Such a chain is one node whose text has several parts, cut in two when something else is put inside
//! of it. So memory follows the number of entries, not the depth of their paths.

mod changes;
mod node;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use hashbrown::HashTable;

pub(super) use node::{Linked, NodeId, Text, small};
pub use node::{Place, Source};

use super::names::{SplitName, next_part};
use crate::tar::{Entries, EntryType};
use node::{NONE, Node, ROOT, TextOf, short, some};

/// All nodes, and the layers that their texts are in.
#[derive(Debug)]
pub(super) struct Graph<L> {
    pub(super) layers: Vec<L>,
    nodes: Vec<Node>,
    /// Nodes that were removed, linked by `next`.
    free: NodeId,
    table: HashTable<NodeId>,
    hasher: RandomState,
    /// What hard links stand for.
    sources: Vec<Linked>,
    /// Names that had to be cleaned.
    copied: Vec<u8>,
    /// How much of them nodes have taken.
    taken_len: usize,
    /// How often something was removed or replaced that links led through.
    links_changed: u64,
    /// How often a directory or a symbolic link was removed or replaced.
    paths_changed: u64,
}

impl<L: Entries> Graph<L> {
    /// A root, and room for so many names.
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
            taken_len: 0,
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

    /// The directory and the last part of an entry's name as texts; `None` where their places do not
    /// fit 32 bits. A name that had to be cleaned is copied, for `forget_copies` to drop again where
    /// no node has taken it.
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
            start: small(base + range.start),
            len: small(range.len()),
        };
        Some((text(&name.parent), text(&name.last)))
    }

    /// Drops what was copied and no node has taken.
    pub(super) fn forget_copies(&mut self) {
        self.copied.truncate(self.taken_len);
    }

    /// The target of the symbolic link at a node.
    pub(super) fn target(&self, id: NodeId) -> Text {
        let Source { layer, entry } = self.source(self.end_of(id));
        let entry = entry.unwrap_or_default();
        let len = small(self.layer(layer).linkname(entry as usize).len());
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

    /// The place with this number, if there is one.
    pub(super) fn place(&self, number: u64) -> Option<Place> {
        let node = NodeId::try_from(number >> 12).ok()?;
        let end = u16::try_from(number & 0xFFF).ok()?;
        let is_there = self.nodes.get(node as usize).is_some_and(|node| end <= node.len);
        is_there.then_some(Place { node, end })
    }

    // -- places ------------------------------------------------------------------------------------

    /// The place of a node's last part.
    pub(super) fn end_of(&self, id: NodeId) -> Place {
        Place { node: id, end: self.node(id).len }
    }

    /// Whether a place is in the middle of a chain.
    pub(super) fn is_inside(&self, place: Place) -> bool {
        place.end < self.node(place.node).len
    }

    /// The kind of what is at a place; that of its target for a hard link that has one.
    pub(super) fn kind(&self, place: Place) -> EntryType {
        if self.is_inside(place) {
            return EntryType::Directory;
        }
        self.node(place.node).kind.unwrap_or(EntryType::Directory)
    }

    pub(super) fn is_directory(&self, place: Place) -> bool {
        self.is_inside(place) || self.node(place.node).is_directory()
    }

    pub(super) fn source(&self, place: Place) -> Source {
        let node = self.node(place.node);
        if node.kind.is_none() || self.is_inside(place) {
            return Source { layer: node.layer, entry: None };
        }
        if node.is_hard_link {
            let Linked { layer, entry, .. } = self.sources[node.child as usize];
            return Source { layer, entry: Some(entry) };
        }
        Source { layer: node.layer, entry: Some(node.entry) }
    }

    /// The layer that brought the name at a node.
    pub(super) fn layer_of(&self, id: NodeId) -> u32 {
        self.node(id).layer
    }

    pub(super) fn name(&self, place: Place) -> &[u8] {
        let text = &self.text(place.node)[..usize::from(place.end)];
        text.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    pub(super) fn parent(&self, place: Place) -> Place {
        let text = &self.text(place.node)[..usize::from(place.end)];
        match text.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Place { node: place.node, end: short(slash) },
            None => self.end_of(self.node(place.node).parent),
        }
    }

    /// Bytes of the path from the root, without a slash before it.
    pub(super) fn path_len(&self, place: Place) -> usize {
        let node = self.node(place.node);
        usize::from(node.path_len - (node.len - place.end))
    }

    /// The path from the root, without a slash before it.
    pub(super) fn path(&self, place: Place) -> Vec<u8> {
        let mut path = vec![b'/'; self.path_len(place)];
        let (mut place, mut end) = (place, path.len());
        while end > 0 {
            let part = &self.text(place.node)[..usize::from(place.end)];
            path[end - part.len()..end].copy_from_slice(part);
            end = (end - part.len()).saturating_sub(1);
            place = self.end_of(self.node(place.node).parent);
        }
        path
    }

    /// What a directory holds under a name; nothing for what is not a directory.
    pub(super) fn child(&self, place: Place, name: &[u8]) -> Option<Place> {
        if self.is_inside(place) {
            let text = self.text(place.node);
            let part = next_part(text, usize::from(place.end))?;
            return (&text[part.clone()] == name)
                .then(|| Place { node: place.node, end: short(part.end) });
        }
        let hash = self.hash(place.node, name);
        let same =
            |id: &NodeId| self.node(*id).parent == place.node && self.first_part(*id) == name;
        let id = *self.table.find(hash, same)?;
        Some(Place { node: id, end: short(name.len()) })
    }

    /// The children of a directory, in no order.
    pub(super) fn children(&self, place: Place) -> Children<'_, L> {
        if self.is_inside(place) {
            let part = next_part(self.text(place.node), usize::from(place.end));
            let only = part.map(|part| Place { node: place.node, end: short(part.end) });
            return Children { graph: self, only, next: NONE };
        }
        Children { graph: self, only: None, next: self.first_child(place.node) }
    }

    fn first_child(&self, id: NodeId) -> NodeId {
        let node = self.node(id);
        if node.is_directory() { node.child } else { NONE }
    }

    pub(super) fn is_empty(&self, id: NodeId) -> bool {
        self.first_child(id) == NONE
    }

    /// The first of the nodes in a directory; `next_node` gives the others.
    pub(super) fn first_node(&self, id: NodeId) -> Option<NodeId> {
        some(self.first_child(id))
    }

    pub(super) fn next_node(&self, id: NodeId) -> Option<NodeId> {
        some(self.node(id).next)
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
    only: Option<Place>,
    next: NodeId,
}

impl<L: Entries> Iterator for Children<'_, L> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        if let Some(only) = self.only.take() {
            return Some(only);
        }
        let id = some(self.next)?;
        self.next = self.graph.node(id).next;
        Some(Place { node: id, end: short(self.graph.first_part(id).len()) })
    }
}
