//! Adding, replacing and removing names.

use super::Graph;
use super::node::{Linked, Location, NONE, Node, NodeId, ROOT, Text, to_u16, to_u32};
use crate::tar::{Entries, EntryType};

impl<L: Entries> Graph<L> {
    /// Adds an implied directory, or a chain of them.
    pub(in crate::tree) fn add_implied(
        &mut self,
        parent: NodeId,
        text: Text,
        layer: u32,
    ) -> NodeId {
        self.add(parent, text, layer, None)
    }

    /// Adds a name for an entry; `text` is the last component of the entry's name.
    pub(in crate::tree) fn add_entry(
        &mut self,
        parent: NodeId,
        text: Text,
        kind: EntryType,
    ) -> NodeId {
        self.add(parent, text, text.layer, Some(kind))
    }

    fn add(&mut self, parent: NodeId, text: Text, layer: u32, kind: Option<EntryType>) -> NodeId {
        self.keep_copy(text);
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
            len: to_u16(text.len as usize),
            path_len: above.path_len + slash + to_u16(text.len as usize),
            text_of: text.of,
            kind,
            is_hard_link: false,
            is_used_by_links: false,
            cleared_by: 0,
        };
        let id = self.allocate(node);
        if first_child != NONE {
            self.node_mut(first_child).previous = id;
        }
        self.node_mut(parent).child = id;
        self.insert_into_table(id);
        id
    }

    fn keep_copy(&mut self, text: Text) {
        if text.is_copied() {
            self.copied_in_use = self.copied_in_use.max(text.start as usize + text.len as usize);
        }
    }

    fn allocate(&mut self, node: Node) -> NodeId {
        if self.free == NONE {
            self.nodes.push(node);
            return to_u32(self.nodes.len() - 1);
        }
        let id = self.free;
        self.free = self.node(id).next;
        *self.node_mut(id) = node;
        id
    }

    fn insert_into_table(&mut self, id: NodeId) {
        let hash = self.hash(self.node(id).parent, self.first_part(id));
        // Moved out of `self` for the call, since growing the table hashes the names of all nodes.
        let mut table = std::mem::take(&mut self.table);
        table.insert_unique(hash, id, |id| self.hash(self.node(*id).parent, self.first_part(*id)));
        self.table = table;
    }

    fn remove_from_table(&mut self, id: NodeId) {
        let hash = self.hash(self.node(id).parent, self.first_part(id));
        if let Ok(found) = self.table.find_entry(hash, |other| *other == id) {
            found.remove();
        }
    }

    /// Splits a node if necessary, so that a location is the end of a node, and returns that node.
    pub(in crate::tree) fn split(&mut self, location: Location) -> NodeId {
        if !self.is_inside(location) {
            return location.node;
        }
        self.remove_from_table(location.node);
        let lower = self.node(location.node);
        let after_slash = location.end + 1;
        let upper = Node {
            len: location.end,
            path_len: lower.path_len - (lower.len - location.end),
            child: location.node,
            kind: None,
            is_hard_link: false,
            ..*lower
        };
        let (previous, next, parent) = (upper.previous, upper.next, upper.parent);
        let id = self.allocate(upper);
        if next != NONE {
            self.node_mut(next).previous = id;
        }
        if previous == NONE {
            self.node_mut(parent).child = id;
        } else {
            self.node_mut(previous).next = id;
        }
        let lower = self.node_mut(location.node);
        lower.parent = id;
        lower.previous = NONE;
        lower.next = NONE;
        lower.start += u32::from(after_slash);
        lower.len -= after_slash;
        self.insert_into_table(id);
        self.insert_into_table(location.node);
        id
    }

    /// Makes a node, which must not be a chain, stand for an entry. A directory replaced by a
    /// directory keeps its contents.
    pub(in crate::tree) fn set_entry(&mut self, id: NodeId, text: Text, kind: EntryType) {
        let stays = self.node(id).is_directory() && kind == EntryType::Directory;
        if !stays {
            self.note_change(id);
            self.remove_below(id);
        }
        self.keep_copy(text);
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

    /// Makes a node a hard link to `source`.
    pub(in crate::tree) fn set_hard_link(&mut self, id: NodeId, source: Linked) {
        let kind = source.kind;
        self.sources.push(source);
        let location = to_u32(self.sources.len() - 1);
        let node = self.node_mut(id);
        node.kind = Some(kind);
        node.is_hard_link = true;
        node.child = location;
    }

    /// Replaces a node with an implied directory.
    pub(in crate::tree) fn set_implied(&mut self, id: NodeId, layer: u32) {
        self.note_change(id);
        let node = self.node_mut(id);
        node.kind = None;
        node.layer = layer;
        node.child = NONE;
        node.is_hard_link = false;
        node.is_used_by_links = false;
        node.cleared_by = 0;
    }

    /// Makes the root stand for an entry.
    pub(in crate::tree) fn set_root(&mut self, layer: u32, entry: u32) {
        let root = self.node_mut(ROOT);
        root.kind = Some(EntryType::Directory);
        root.layer = layer;
        root.entry = entry;
    }

    pub(in crate::tree) fn mark_used_by_links(&mut self, id: NodeId) {
        self.node_mut(id).is_used_by_links = true;
    }

    /// Whether `layer` has already hidden everything that lower layers have below a directory.
    pub(in crate::tree) fn is_cleared(&self, id: NodeId, layer: u32) -> bool {
        self.node(id).cleared_by == layer + 1
    }

    pub(in crate::tree) fn set_cleared(&mut self, id: NodeId, layer: u32) {
        self.node_mut(id).cleared_by = layer + 1;
    }

    /// Updates the change counters before a node is removed or replaced.
    fn note_change(&mut self, id: NodeId) {
        let node = self.node(id);
        let (is_used, affects_paths) = (node.is_used_by_links, node.affects_paths());
        self.links_changed += u64::from(is_used);
        self.paths_changed += u64::from(affects_paths);
    }

    /// Removes a name and everything below it.
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
        self.free_node(id);
    }

    fn remove_below(&mut self, id: NodeId) {
        let mut next = self.first_child(id);
        if next == NONE {
            return;
        }
        self.node_mut(id).child = NONE;
        // Neither recursion nor a stack: each list of children is prepended to the remaining list.
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
            self.free_node(child);
        }
    }

    fn free_node(&mut self, id: NodeId) {
        self.note_change(id);
        self.remove_from_table(id);
        let free = self.free;
        self.node_mut(id).next = free;
        self.free = id;
    }
}
