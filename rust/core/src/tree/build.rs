//! Layers applied one on the other, each entry in the order of its tar, as an unpacker does.

use std::collections::HashMap;
use std::ops::Range;

use super::graph::{Graph, Linked, NodeId, Place, Source, Text, small};
use super::links::{Budget, Failure, Followed, Frame, Links, MAX_LINKS, Memo};
use super::names::{
    self, MAX_PATH_LEN, OPAQUE, OTHER_MARKS, Reason, WHITEOUT, is_plain_part, next_part,
};
use super::{LeftOut, Tree};
use crate::tar::{Entries, EntryType};

/// Steps through link targets that any image may take while its layers are applied: three times
/// what one path can need, which is 40 links of 2,047 parts.
const FREE_STEPS: u64 = 1 << 18;
/// Steps that each entry adds. Since links are remembered, an honest entry needs hardly any.
const STEPS_AN_ENTRY: u64 = 16;
/// Numbers of nodes fit 28 bits, so that those of places fit 40.
const MAX_NODES: usize = 1 << 28;
/// More nodes than one entry can add: one for each step through links.
const NODES_OF_ONE: usize = 1 << 18;

/// Puts the layers of an image together; [`Self::finish`] gives the tree.
#[derive(Debug)]
pub struct TreeBuilder<L> {
    graph: Graph<L>,
    memo: Memo,
    budget: Budget,
    last_parent: Option<KnownParent>,
    left_out: Vec<LeftOut>,
    /// For each file with hard links, the last of their entries.
    links: HashMap<(u32, u32), (u32, u32)>,
    /// The number of the layer being applied, and of its next entry.
    layer: u32,
    next: usize,
    used: Vec<NodeId>,
}

/// The directory of the entry before, which most entries share.
#[derive(Debug, Clone, Copy)]
struct KnownParent {
    text: Text,
    node: NodeId,
    paths_changed: u64,
}

impl<L: Entries> TreeBuilder<L> {
    /// An empty tree.
    ///
    /// `capacity`: how many entries all layers have, to allocate once what their names take.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            graph: Graph::with_capacity(capacity.min(MAX_NODES)),
            memo: Memo::default(),
            budget: Budget(FREE_STEPS),
            last_parent: None,
            left_out: Vec::new(),
            links: HashMap::new(),
            layer: 0,
            next: 0,
            used: Vec::new(),
        }
    }

    /// Begins the next layer, after the entries of the one before have all been applied.
    pub fn push_layer(&mut self, layer: L) {
        self.graph.layers.push(layer);
        self.layer = u32::try_from(self.graph.layers.len() - 1).unwrap_or(u32::MAX);
        self.next = 0;
    }

    /// Applies at most `limit` more entries of the layer; returns whether there are more.
    pub fn apply(&mut self, limit: usize) -> bool {
        let count = self.graph.layers.last().map_or(0, Entries::count);
        let end = count.min(self.next.saturating_add(limit));
        for index in self.next..end {
            self.budget.0 = self.budget.0.saturating_add(STEPS_AN_ENTRY);
            // A zTOC of less than 1 GiB has fewer entries than fit 32 bits.
            let Ok(entry) = u32::try_from(index) else { break };
            if let Err(reason) = self.apply_entry(entry) {
                self.leave_out(reason, entry);
            }
            self.graph.forget_copies();
        }
        self.next = end;
        end < count
    }

    /// The merged tree.
    #[must_use]
    pub fn finish(self) -> Tree<L> {
        Tree::new(self.graph, self.left_out, self.links)
    }

    fn leave_out(&mut self, reason: Reason, entry: u32) {
        self.left_out.push(LeftOut { reason, layer: self.layer, entry });
    }

    fn apply_entry(&mut self, entry: u32) -> Result<(), Reason> {
        if self.graph.node_count() > MAX_NODES - NODES_OF_ONE {
            return Err(Reason::TooManyNames);
        }
        let entries = self.graph.layer(self.layer);
        let (kind, name) = (entries.entry_type(entry as usize), entries.name(entry as usize));
        let split = names::split_name(name, kind, || entries.linkname(entry as usize))?;
        let texts = self.graph.texts_of(self.layer, entry, &split);
        let (parent, name) = texts.ok_or(Reason::PathTooLong)?;
        let parent = self.make_directory(parent)?;
        if self.graph.bytes(name).starts_with(WHITEOUT) {
            self.hide(parent, name);
            return Ok(());
        }
        if split.last.is_empty() {
            // No unpacker lets the root be anything but a directory.
            if kind == EntryType::Directory {
                self.graph.set_root(self.layer, entry);
            }
            return Ok(());
        }
        self.put(parent, name, entry, kind)
    }

    /// Puts an entry into a directory, in the place of what has its name.
    fn put(
        &mut self,
        parent: NodeId,
        name: Text,
        entry: u32,
        kind: EntryType,
    ) -> Result<(), Reason> {
        let end = self.graph.end_of(parent);
        let known = self.graph.child(end, self.graph.bytes(name));
        let known = known.map(|place| self.graph.split(place));
        if known.is_none() && self.graph.bytes(name).len() > self.room(end) {
            return Err(Reason::PathTooLong);
        }
        // What a directory held is gone before a hard link that replaces it looks for its target.
        let replaced = known.filter(|id| self.graph.is_directory(self.graph.end_of(*id)));
        if let Some(id) = replaced {
            self.graph.set_entry(id, name, kind);
        }
        let source = match kind {
            EntryType::HardLink => self.find_source(entry).inspect_err(|_| {
                if let Some(id) = replaced {
                    self.graph.remove(id);
                }
            })?,
            _ => None,
        };
        let id = match (known, replaced) {
            (Some(_), Some(id)) => id,
            (Some(id), None) => {
                self.graph.set_entry(id, name, kind);
                id
            }
            (None, _) => self.graph.add_entry(parent, name, kind),
        };
        if let Some(source) = source {
            self.graph.set_hard_link(id, source);
        }
        Ok(())
    }

    /// Bytes that a path may go on with, after a slash, below a directory.
    fn room(&self, directory: Place) -> usize {
        let slash = usize::from(directory != Place::ROOT);
        MAX_PATH_LEN.saturating_sub(self.graph.path_len(directory) + slash)
    }

    /// What a hard link is one more name of; nothing where its target is missing or a directory. A
    /// symbolic link at the end of the target is not followed.
    fn find_source(&mut self, entry: u32) -> Result<Option<Linked>, Reason> {
        let mut links =
            Links { memo: &mut self.memo, budget: &mut self.budget, used: Some(&mut self.used) };
        let target = self.graph.layer(self.layer).linkname(entry as usize);
        let found = self.graph.resolve(target, false, &mut links);
        for id in self.used.drain(..) {
            self.graph.mark_used_by_links(id);
        }
        let place = match found {
            Ok(place) if !self.graph.is_directory(place) => place,
            Err(Failure::Costly) => return Err(Reason::CostlyLinks),
            _ => return Ok(None),
        };
        let kind = self.graph.kind(place);
        let Source { layer, entry: Some(source) } = self.graph.source(place) else {
            return Ok(None);
        };
        if (layer, source) == (self.layer, entry) {
            return Ok(None); // a directory had this name, which is that of the target too
        }
        self.links.insert((layer, source), (self.layer, entry));
        Ok(Some(Linked { layer, entry: source, kind }))
    }

    // -- directories that names go through ---------------------------------------------------------

    /// Returns the directory that an entry's name mentions, made if missing.
    ///
    /// A symbolic link on the way is followed, inside the image; anything else gives way.
    fn make_directory(&mut self, whole: Text) -> Result<NodeId, Reason> {
        if let Some(known) = self.known_parent(whole) {
            return Ok(known);
        }
        let paths_changed = self.graph.paths_changed();
        let mut frames: Vec<Frame> = Vec::new();
        let (mut position, mut at, mut followed) = (0, Place::ROOT, 0);
        loop {
            let (text, from) = match frames.last() {
                Some(frame) => (frame.text, frame.position),
                None => (whole, position),
            };
            let bytes = self.graph.bytes(text);
            let Some(part) = next_part(bytes, from) else {
                let node = self.graph.split(at);
                at = self.graph.end_of(node);
                let Some(frame) = frames.pop() else { break };
                self.memo.learn_directory(&frame.link, at, followed);
                continue;
            };
            let mut end = part.end;
            let mut link = None;
            match &bytes[part.clone()] {
                b"." => {}
                b".." => at = self.graph.parent(at),
                name => match self.graph.child(at, name) {
                    Some(place) if self.graph.is_directory(place) => at = place,
                    Some(place) if self.is_link(place) && followed < MAX_LINKS => {
                        link = Some(place.node);
                    }
                    Some(place) => {
                        self.graph.set_implied(place.node, self.layer);
                        at = place;
                    }
                    None => {
                        let chain = chain_of(bytes, part, self.room(at))?;
                        end = chain.end;
                        let text = text.part(small(chain.start), small(chain.end));
                        let parent = self.graph.split(at);
                        let node = self.graph.add_implied(parent, text, self.layer);
                        at = self.graph.end_of(node);
                    }
                },
            }
            if let Some(frame) = frames.last_mut() {
                frame.position = end;
                self.graph.mark_used_by_links(link.unwrap_or(at.node));
                if !self.budget.spend(from, end) {
                    return Err(Reason::CostlyLinks);
                }
            } else {
                position = end;
            }
            if let Some(node) = link {
                at = self.enter(node, at, &mut followed, &mut frames);
            }
        }
        // As of the beginning: what gave way on this walk would lead the next one elsewhere.
        let known = KnownParent { text: whole, node: at.node, paths_changed };
        self.last_parent = Some(known).filter(|_| !whole.is_copied());
        Ok(at.node)
    }

    /// Follows a symbolic link in the directory `at`, or remembers where it leads; returns where its
    /// target begins, or where it ends.
    fn enter(
        &mut self,
        link: NodeId,
        at: Place,
        followed: &mut u32,
        frames: &mut Vec<Frame>,
    ) -> Place {
        self.graph.mark_used_by_links(link);
        self.memo.refresh(self.graph.links_changed());
        let mut count = *followed;
        if let Some(Ok(known)) = self.memo.follow(link, &mut count) {
            *followed = count;
            // Its number is that of this directory still; where its text ends may not be.
            return self.graph.end_of(known.node);
        }
        let text = self.graph.target(link);
        let link = Followed {
            node: link,
            followed_before: *followed,
            links_changed: self.graph.links_changed(),
        };
        *followed += 1;
        frames.push(Frame { text, position: 0, link });
        if self.graph.bytes(text).starts_with(b"/") { Place::ROOT } else { at }
    }

    /// Whether a place is a symbolic link that leads somewhere.
    fn is_link(&self, place: Place) -> bool {
        self.graph.kind(place) == EntryType::SymLink && !self.graph.target(place.node).is_empty()
    }

    /// The directory of the entry before, if this is the same and leads there still.
    fn known_parent(&self, text: Text) -> Option<NodeId> {
        let known = self.last_parent?;
        let is_same = known.paths_changed == self.graph.paths_changed()
            && self.graph.bytes(known.text) == self.graph.bytes(text);
        is_same.then_some(known.node)
    }

    // -- whiteouts ---------------------------------------------------------------------------------

    /// Applies a whiteout, as containerd and Docker do: an opaque mark keeps what the layer itself
    /// has brought, wherever in it the mark stands; any other removes whatever has the name by then.
    fn hide(&mut self, parent: NodeId, mark: Text) {
        let mark = self.graph.bytes(mark);
        if mark == OPAQUE {
            self.clear(parent);
            return;
        }
        if mark.starts_with(OTHER_MARKS) {
            return;
        }
        let hidden = &mark[WHITEOUT.len()..];
        if let Some(place) = self.graph.child(self.graph.end_of(parent), hidden) {
            self.graph.remove(place.node);
        }
    }

    /// Removes all below a directory but what this layer has brought, and the directories with it.
    ///
    /// What has been cleared once needs it no more in this layer, since nothing old can come back.
    fn clear(&mut self, id: NodeId) {
        if self.graph.is_cleared(id, self.layer) {
            return;
        }
        // Not recursive: hostile trees are deep.
        let mut above = vec![(id, self.graph.first_node(id))];
        while let Some((directory, next)) = above.last_mut() {
            if let Some(child) = *next {
                *next = self.graph.next_node(child);
                let first = self.graph.first_node(child);
                if first.is_some() && !self.graph.is_cleared(child, self.layer) {
                    above.push((child, first));
                } else {
                    self.remove_if_hidden(child);
                }
                continue;
            }
            let directory = *directory;
            above.pop();
            self.graph.set_cleared(directory, self.layer);
            if !above.is_empty() {
                self.remove_if_hidden(directory);
            }
        }
    }

    /// Removes what a lower layer has brought, unless something is left in it.
    fn remove_if_hidden(&mut self, id: NodeId) {
        if self.graph.layer_of(id) != self.layer && self.graph.is_empty(id) {
            self.graph.remove(id);
        }
    }
}

/// The longest stretch of a path, from `first` on, that can be made as a chain of directories in
/// `room` bytes: names with one slash between them.
fn chain_of(path: &[u8], first: Range<usize>, room: usize) -> Result<Range<usize>, Reason> {
    let start = first.start;
    let mut end = first.end;
    if end - start > room {
        return Err(Reason::PathTooLong);
    }
    while let Some(part) = next_part(path, end) {
        let is_next = part.start == end + 1 && is_plain_part(&path[part.clone()]);
        if !is_next || part.end - start > room {
            break;
        }
        end = part.end;
    }
    Ok(start..end)
}
