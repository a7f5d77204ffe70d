//! Names added, replaced and removed.

use super::Graph;
use super::node::{Linked, NONE, Node, NodeId, Place, ROOT, Text, short, small};
use crate::tar::{Entries, EntryType};

impl<L: Entries> Graph<L> {
    /// Adds a directory that only stands in names, or a chain of them.
    pub(in crate::tree) fn add_implied(
        &mut self,
        parent: NodeId,
        text: Text,
        layer: u32,
    ) -> NodeId {
        self.add(parent, text, layer, None)
    }

    /// Adds a name for an entry; `text` is the last part of that entry's own name.
    pub(in crate::tree) fn add_entry(
        &mut self,
        parent: NodeId,
        text: Text,
        kind: EntryType,
    ) -> NodeId {
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
    pub(in crate::tree) fn split(&mut self, place: Place) -> NodeId {
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
    pub(in crate::tree) fn set_entry(&mut self, id: NodeId, text: Text, kind: EntryType) {
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
    pub(in crate::tree) fn set_hard_link(&mut self, id: NodeId, source: Linked) {
        let kind = source.kind;
        self.sources.push(source);
        let place = small(self.sources.len() - 1);
        let node = self.node_mut(id);
        node.kind = Some(kind);
        node.is_hard_link = true;
        node.child = place;
    }

    /// Lets what is at a node give way to a directory that only stands in names.
    pub(in crate::tree) fn set_implied(&mut self, id: NodeId, layer: u32) {
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
    pub(in crate::tree) fn set_root(&mut self, layer: u32, entry: u32) {
        let root = self.node_mut(ROOT);
        root.kind = Some(EntryType::Directory);
        root.layer = layer;
        root.entry = entry;
    }

    pub(in crate::tree) fn mark_used_by_links(&mut self, id: NodeId) {
        self.node_mut(id).is_used_by_links = true;
    }

    /// Whether whiteouts of `layer` have hidden all that lower layers have below a directory.
    pub(in crate::tree) fn is_cleared(&self, id: NodeId, layer: u32) -> bool {
        self.node(id).cleared_by == layer + 1
    }

    pub(in crate::tree) fn set_cleared(&mut self, id: NodeId, layer: u32) {
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
    pub(in crate::tree) fn remove(&mut self, id: NodeId) {
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
