//! Applying layers in order, entry by entry in tar order, as an unpacker does.

use std::collections::HashMap;
use std::ops::Range;

use super::graph::{Graph, Linked, Location, NodeId, Source, Text, to_u32};
use super::links::{Budget, Failure, Followed, Frame, Links, MAX_LINKS, Memo};
use super::names::{
    self, AUFS_PREFIX, MAX_PATH_LEN, OPAQUE, Reason, WHITEOUT, is_plain_part, next_part,
};
use super::{LeftOut, Tree};
use crate::tar::{Entries, EntryType};

/// Steps through link targets that any image may take while its layers are applied: three times
/// what one path can need, which is 40 links of 2,047 components.
const FREE_STEPS: u64 = 1 << 18;
/// Additional steps per entry. Since resolved links are cached, ordinary entries need hardly any.
const STEPS_PER_ENTRY: u64 = 16;
/// Node indexes fit in 28 bits, so that location numbers fit in 40.
const MAX_NODES: usize = 1 << 28;
/// Upper bound for the nodes that one entry can add: one for each step through links.
const MAX_NODES_PER_ENTRY: usize = 1 << 18;

/// Merges the layers of an image; [`Self::finish`] returns the tree.
#[derive(Debug)]
pub struct TreeBuilder<L> {
    graph: Graph<L>,
    memo: Memo,
    budget: Budget,
    last_parent: Option<KnownParent>,
    left_out: Vec<LeftOut>,
    /// For each file with hard links, the entry of its last hard link.
    links: HashMap<(u32, u32), (u32, u32)>,
    /// The index of the layer being applied; `next` is the index of its next entry.
    layer: u32,
    next: usize,
    used: Vec<NodeId>,
}

/// The directory of the previous entry, which the next entry usually shares.
#[derive(Debug, Clone, Copy)]
struct KnownParent {
    text: Text,
    node: NodeId,
    paths_changed: u64,
}

impl<L: Entries> TreeBuilder<L> {
    /// Starts with an empty tree.
    ///
    /// `capacity`: the number of entries in all layers, to allocate memory once.
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

    /// Starts the next layer. All entries of the previous one must have been applied.
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
            self.budget.0 = self.budget.0.saturating_add(STEPS_PER_ENTRY);
            // Always succeeds: a zTOC of less than 1 GiB has fewer than 2^32 entries.
            let Ok(entry) = u32::try_from(index) else { break };
            if let Err(reason) = self.apply_entry(entry) {
                self.leave_out(reason, entry);
            }
            self.graph.drop_unused_copies();
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
        if self.graph.node_count() > MAX_NODES - MAX_NODES_PER_ENTRY {
            return Err(Reason::TooManyNames);
        }
        let entries = self.graph.layer(self.layer);
        let (kind, name) = (entries.entry_type(entry as usize), entries.name(entry as usize));
        let split = names::split_name(name, kind, || entries.linkname(entry as usize))?;
        let texts = self.graph.texts_of(self.layer, entry, &split);
        let (parent, name) = texts.ok_or(Reason::PathTooLong)?;
        let parent = self.make_directory(parent)?;
        if self.graph.bytes(name).starts_with(WHITEOUT) {
            self.apply_whiteout(parent, name);
            return Ok(());
        }
        if split.last.is_empty() {
            // Unpackers keep the root a directory.
            if kind == EntryType::Directory {
                self.graph.set_root(self.layer, entry);
            }
            return Ok(());
        }
        self.put(parent, name, entry, kind)
    }

    /// Adds an entry to a directory, replacing any existing entry with the same name.
    fn put(
        &mut self,
        parent: NodeId,
        name: Text,
        entry: u32,
        kind: EntryType,
    ) -> Result<(), Reason> {
        let end = self.graph.end_of(parent);
        let known = self.graph.child(end, self.graph.bytes(name));
        let known = known.map(|location| self.graph.split(location));
        if known.is_none() && self.graph.bytes(name).len() > self.room(end) {
            return Err(Reason::PathTooLong);
        }
        // If a hard link replaces a directory, its contents are removed before the target is
        // resolved.
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

    /// The number of bytes that a path may add to a directory's path, after a slash.
    fn room(&self, directory: Location) -> usize {
        let slash = usize::from(directory != Location::ROOT);
        MAX_PATH_LEN.saturating_sub(self.graph.path_len(directory) + slash)
    }

    /// Finds the target of a hard link; `None` if it is missing or a directory. A symbolic link at
    /// the end of the target is not followed.
    fn find_source(&mut self, entry: u32) -> Result<Option<Linked>, Reason> {
        let mut links =
            Links { memo: &mut self.memo, budget: &mut self.budget, used: Some(&mut self.used) };
        let target = self.graph.layer(self.layer).linkname(entry as usize);
        let found = self.graph.resolve(target, false, &mut links);
        for id in self.used.drain(..) {
            self.graph.mark_used_by_links(id);
        }
        let location = match found {
            Ok(location) if !self.graph.is_directory(location) => location,
            Err(Failure::Costly) => return Err(Reason::CostlyLinks),
            _ => return Ok(None),
        };
        let kind = self.graph.kind(location);
        let Source { layer, entry: Some(source) } = self.graph.source(location) else {
            return Ok(None);
        };
        if (layer, source) == (self.layer, entry) {
            return Ok(None); // the link replaced a directory and is its own target
        }
        self.links.insert((layer, source), (self.layer, entry));
        Ok(Some(Linked { layer, entry: source, kind }))
    }

    // -- parent directories -----------------------------------------------------------------------

    /// Returns the parent directory of an entry, and creates it if necessary.
    ///
    /// Symbolic links on the way are followed, inside the image; anything else that is not a
    /// directory is replaced.
    fn make_directory(&mut self, whole: Text) -> Result<NodeId, Reason> {
        if let Some(known) = self.known_parent(whole) {
            return Ok(known);
        }
        let paths_changed = self.graph.paths_changed();
        let mut frames: Vec<Frame> = Vec::new();
        let (mut position, mut at, mut followed) = (0, Location::ROOT, 0);
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
                self.memo.record_directory(&frame.link, at, followed);
                continue;
            };
            let mut end = part.end;
            let mut link = None;
            match &bytes[part.clone()] {
                b"." => {}
                b".." => at = self.graph.parent(at),
                name => match self.graph.child(at, name) {
                    Some(location) if self.graph.is_directory(location) => at = location,
                    Some(location) if self.is_link(location) && followed < MAX_LINKS => {
                        link = Some(location.node);
                    }
                    Some(location) => {
                        self.graph.set_implied(location.node, self.layer);
                        at = location;
                    }
                    None => {
                        let chain = chain_of(bytes, part, self.room(at))?;
                        end = chain.end;
                        let text = text.part(to_u32(chain.start), to_u32(chain.end));
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
        // The counter from before the walk: if this walk replaced something, the next one may lead
        // elsewhere.
        let known = KnownParent { text: whole, node: at.node, paths_changed };
        self.last_parent = Some(known).filter(|_| !whole.is_copied());
        Ok(at.node)
    }

    /// Follows a symbolic link in the directory `at`. Returns where it leads if that is cached,
    /// else the directory from which to resolve its target.
    fn enter(
        &mut self,
        link: NodeId,
        at: Location,
        followed: &mut u32,
        frames: &mut Vec<Frame>,
    ) -> Location {
        self.graph.mark_used_by_links(link);
        self.memo.refresh(self.graph.links_changed());
        let mut count = *followed;
        if let Some(Ok(known)) = self.memo.follow(link, &mut count) {
            *followed = count;
            // The node is still this directory, but the end of its text may have changed.
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
        if self.graph.bytes(text).starts_with(b"/") { Location::ROOT } else { at }
    }

    /// Whether a location is a symbolic link with a target.
    fn is_link(&self, location: Location) -> bool {
        self.graph.kind(location) == EntryType::SymLink
            && !self.graph.target(location.node).is_empty()
    }

    /// The directory of the previous entry, if `text` is the same and still leads there.
    fn known_parent(&self, text: Text) -> Option<NodeId> {
        let known = self.last_parent?;
        let is_same = known.paths_changed == self.graph.paths_changed()
            && self.graph.bytes(known.text) == self.graph.bytes(text);
        is_same.then_some(known.node)
    }

    // -- whiteouts ---------------------------------------------------------------------------------

    /// Applies a whiteout, as containerd and Docker do: an opaque marker keeps what the layer
    /// itself adds, wherever in the layer the marker is; any other whiteout removes whatever has
    /// the name at that point.
    fn apply_whiteout(&mut self, parent: NodeId, mark: Text) {
        let mark = self.graph.bytes(mark);
        if mark == OPAQUE {
            self.clear(parent);
            return;
        }
        if mark.starts_with(AUFS_PREFIX) {
            return;
        }
        let hidden = &mark[WHITEOUT.len()..];
        if let Some(location) = self.graph.child(self.graph.end_of(parent), hidden) {
            self.graph.remove(location.node);
        }
    }

    /// Removes everything below a directory, except what this layer has added and the directories
    /// that contain it.
    ///
    /// A directory is cleared at most once per layer, since nothing from lower layers can reappear.
    fn clear(&mut self, id: NodeId) {
        if self.graph.is_cleared(id, self.layer) {
            return;
        }
        // Not recursive, since hostile trees are deep.
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

    /// Removes a node added by a lower layer, unless it still contains something.
    fn remove_if_hidden(&mut self, id: NodeId) {
        if self.graph.layer_of(id) != self.layer && self.graph.is_empty(id) {
            self.graph.remove(id);
        }
    }
}

/// The longest part of a path, from `first` on, that can become a chain of directories in `room`
/// bytes: plain names with single slashes between them.
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
