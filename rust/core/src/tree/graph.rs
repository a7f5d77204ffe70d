//! The names of an image in memory: nodes found by (directory, name), with no name copied.
//!
//! Directories that only stand in names are often a long chain, each with nothing but the next inside.
//! Such a chain is one node whose text has several parts, cut in two when something else is put inside
//! of it. So memory follows the number of entries, not the depth of their paths.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use hashbrown::HashTable;

use super::names::{SplitName, next_part};
use crate::tar::{EntryType, FileMetadata};

/// The number of a node; it stays that of the last part of its text, however often the node is cut.
pub(super) type NodeId = u32;
pub(super) const ROOT: NodeId = 0;
/// No node.
const NONE: NodeId = u32::MAX;

/// Where a name is: a node, and where in its text the name ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub(super) node: NodeId,
    pub(super) end: u16,
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
enum TextOf {
    /// In the name of an entry.
    Name,
    /// In the link target of an entry.
    Target,
    /// In `Graph::copied`, since it had to be cleaned.
    Copied,
}

/// A stretch of bytes that is in memory already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    of: TextOf,
    layer: u32,
    entry: u32,
    start: u32,
    len: u32,
}

impl Text {
    /// Bytes `[start, end)` of this text.
    pub(super) const fn part(self, start: u32, end: u32) -> Self {
        Self { start: self.start + start, len: end - start, ..self }
    }

    pub(super) const fn is_copied(self) -> bool {
        matches!(self.of, TextOf::Copied)
    }
}

/// One name, or the names of a chain of directories.
#[derive(Debug)]
struct Node {
    parent: NodeId,
    previous: NodeId,
    next: NodeId,
    /// The first of a directory's children; the place in `Graph::sources` for a hard link.
    child: u32,
    /// The layer that brought the name: what a whiteout in the same layer does not hide.
    layer: u32,
    text_layer: u32,
    /// The entry whose text this is, and which the name stands for unless it is only implied.
    entry: u32,
    start: u32,
    len: u16,
    path_len: u16,
    text_of: TextOf,
    /// `None` for a directory that only stands in names.
    kind: Option<EntryType>,
    is_hard_link: bool,
    /// Whether what symbolic links resolve to depends on it.
    is_used_by_links: bool,
    /// One more than the last layer that hid all that lower layers have below; 0 for none.
    cleared_by: u32,
}

impl Node {
    const fn is_directory(&self) -> bool {
        matches!(self.kind, None | Some(EntryType::Directory))
    }

    const fn is_fixed(&self) -> bool {
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
pub(super) struct Linked {
    pub(super) layer: u32,
    pub(super) entry: u32,
    pub(super) kind: EntryType,
}

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

impl<L: AsRef<[FileMetadata]>> Graph<L> {
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

    pub(super) fn entry(&self, layer: u32, entry: u32) -> &FileMetadata {
        &self.layers[layer as usize].as_ref()[entry as usize]
    }

    pub(super) fn bytes(&self, text: Text) -> &[u8] {
        let whole = match text.of {
            TextOf::Name => &self.entry(text.layer, text.entry).name,
            TextOf::Target => &self.entry(text.layer, text.entry).linkname,
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
        let len = small(self.entry(layer, entry).linkname.len());
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

    // -- changes -----------------------------------------------------------------------------------

    /// Adds a directory that only stands in names, or a chain of them.
    pub(super) fn add_implied(&mut self, parent: NodeId, text: Text, layer: u32) -> NodeId {
        self.add(parent, text, layer, None)
    }

    /// Adds a name for an entry; `text` is the last part of that entry's own name.
    pub(super) fn add_entry(&mut self, parent: NodeId, text: Text, kind: EntryType) -> NodeId {
        self.add(parent, text, text.layer, Some(kind))
    }

    fn add(&mut self, parent: NodeId, text: Text, layer: u32, kind: Option<EntryType>) -> NodeId {
        self.take(text);
        let above = self.node(parent);
        let slash = u16::from(parent != ROOT);
        let first_child = above.child;
        let node = Node {
            parent,
            previous: NONE,
            next: first_child,
            child: NONE,
            layer,
            text_layer: text.layer,
            entry: text.entry,
            start: text.start,
            len: short(text.len as usize),
            path_len: above.path_len + slash + short(text.len as usize),
            text_of: text.of,
            kind,
            is_hard_link: false,
            is_used_by_links: false,
            cleared_by: 0,
        };
        let id = self.take_id(node);
        if first_child != NONE {
            self.node_mut(first_child).previous = id;
        }
        self.node_mut(parent).child = id;
        self.insert(id);
        id
    }

    fn take(&mut self, text: Text) {
        if text.is_copied() {
            self.taken_len = self.taken_len.max(text.start as usize + text.len as usize);
        }
    }

    fn take_id(&mut self, node: Node) -> NodeId {
        if self.free == NONE {
            self.nodes.push(node);
            return small(self.nodes.len() - 1);
        }
        let id = self.free;
        self.free = self.node(id).next;
        *self.node_mut(id) = node;
        id
    }

    fn insert(&mut self, id: NodeId) {
        let hash = self.hash(self.node(id).parent, self.first_part(id));
        // Taken out for the while, since growing asks for the names of all nodes.
        let mut table = std::mem::take(&mut self.table);
        table.insert_unique(hash, id, |id| self.hash(self.node(*id).parent, self.first_part(*id)));
        self.table = table;
    }

    fn take_out(&mut self, id: NodeId) {
        let hash = self.hash(self.node(id).parent, self.first_part(id));
        if let Ok(found) = self.table.find_entry(hash, |other| *other == id) {
            found.remove();
        }
    }

    /// Lets a place be the end of a node, and returns that node.
    pub(super) fn split(&mut self, place: Place) -> NodeId {
        if !self.is_inside(place) {
            return place.node;
        }
        self.take_out(place.node);
        let lower = self.node(place.node);
        let after_slash = place.end + 1;
        let upper = Node {
            len: place.end,
            path_len: lower.path_len - (lower.len - place.end),
            child: place.node,
            kind: None,
            is_hard_link: false,
            ..*lower
        };
        let (previous, next, parent) = (upper.previous, upper.next, upper.parent);
        let id = self.take_id(upper);
        if next != NONE {
            self.node_mut(next).previous = id;
        }
        if previous == NONE {
            self.node_mut(parent).child = id;
        } else {
            self.node_mut(previous).next = id;
        }
        let lower = self.node_mut(place.node);
        lower.parent = id;
        lower.previous = NONE;
        lower.next = NONE;
        lower.start += u32::from(after_slash);
        lower.len -= after_slash;
        self.insert(id);
        self.insert(place.node);
        id
    }

    /// Lets the name at a node, which is not a chain, stand for an entry from now on. A directory
    /// that stays one keeps what is in it.
    pub(super) fn set_entry(&mut self, id: NodeId, text: Text, kind: EntryType) {
        let stays = self.node(id).is_directory() && kind == EntryType::Directory;
        if !stays {
            self.changes(id);
            self.remove_below(id);
        }
        self.take(text);
        let node = self.node_mut(id);
        node.kind = Some(kind);
        node.layer = text.layer;
        node.text_layer = text.layer;
        node.entry = text.entry;
        node.start = text.start;
        node.text_of = text.of;
        if !stays {
            node.child = NONE;
            node.is_hard_link = false;
            node.is_used_by_links = false;
            node.cleared_by = 0;
        }
    }

    /// Lets the name at a node be one more name of something.
    pub(super) fn set_hard_link(&mut self, id: NodeId, source: Linked) {
        let kind = source.kind;
        self.sources.push(source);
        let place = small(self.sources.len() - 1);
        let node = self.node_mut(id);
        node.kind = Some(kind);
        node.is_hard_link = true;
        node.child = place;
    }

    /// Lets what is at a node give way to a directory that only stands in names.
    pub(super) fn set_implied(&mut self, id: NodeId, layer: u32) {
        self.changes(id);
        let node = self.node_mut(id);
        node.kind = None;
        node.layer = layer;
        node.child = NONE;
        node.is_hard_link = false;
        node.is_used_by_links = false;
        node.cleared_by = 0;
    }

    /// The root is listed by an entry.
    pub(super) fn set_root(&mut self, layer: u32, entry: u32) {
        let root = self.node_mut(ROOT);
        root.kind = Some(EntryType::Directory);
        root.layer = layer;
        root.entry = entry;
    }

    pub(super) fn mark_used_by_links(&mut self, id: NodeId) {
        self.node_mut(id).is_used_by_links = true;
    }

    /// Whether whiteouts of `layer` have hidden all that lower layers have below a directory.
    pub(super) fn is_cleared(&self, id: NodeId, layer: u32) -> bool {
        self.node(id).cleared_by == layer + 1
    }

    pub(super) fn set_cleared(&mut self, id: NodeId, layer: u32) {
        self.node_mut(id).cleared_by = layer + 1;
    }

    /// Notes that a node is about to be removed or replaced.
    fn changes(&mut self, id: NodeId) {
        let node = self.node(id);
        let (is_used, is_fixed) = (node.is_used_by_links, node.is_fixed());
        self.links_changed += u64::from(is_used);
        self.paths_changed += u64::from(is_fixed);
    }

    /// Removes a name and all that is below it.
    pub(super) fn remove(&mut self, id: NodeId) {
        self.remove_below(id);
        let Node { parent, previous, next, .. } = *self.node(id);
        if next != NONE {
            self.node_mut(next).previous = previous;
        }
        if previous == NONE {
            self.node_mut(parent).child = next;
        } else {
            self.node_mut(previous).next = next;
        }
        self.drop_node(id);
    }

    fn remove_below(&mut self, id: NodeId) {
        let mut next = self.first_child(id);
        if next == NONE {
            return;
        }
        self.node_mut(id).child = NONE;
        // Without recursion, and without a stack: each list of children is put before the rest.
        while next != NONE {
            let child = next;
            next = self.node(child).next;
            let first = self.first_child(child);
            if first != NONE {
                let mut last = first;
                while let Some(after) = self.next_node(last) {
                    last = after;
                }
                self.node_mut(last).next = next;
                next = first;
            }
            self.drop_node(child);
        }
    }

    fn drop_node(&mut self, id: NodeId) {
        self.changes(id);
        self.take_out(id);
        let free = self.free;
        self.node_mut(id).next = free;
        self.free = id;
    }
}

/// Iterates over the children of a directory.
pub(super) struct Children<'a, L> {
    graph: &'a Graph<L>,
    only: Option<Place>,
    next: NodeId,
}

impl<L: AsRef<[FileMetadata]>> Iterator for Children<'_, L> {
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

const fn some(id: NodeId) -> Option<NodeId> {
    if id == NONE { None } else { Some(id) }
}

/// A length or number that was checked to fit, or follows from such.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A position in a path, which has at most 4,095 bytes.
fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
