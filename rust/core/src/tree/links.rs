//! Resolving paths through symbolic links, inside the image, as under `chroot`.

use std::collections::HashMap;

use super::graph::{Graph, Location, NodeId, Text};
use super::names::next_part;
use crate::tar::{Entries, EntryType};

/// Maximum number of symbolic links followed for one path, as on Linux (`MAXSYMLINKS`,
/// path_resolution(7)).
pub const MAX_LINKS: u32 = 40;
/// Bytes of a link target that count as one step.
const BYTES_PER_STEP: usize = 64;

/// Why a path cannot be resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// A component of the path does not exist.
    Missing,
    /// This is not a directory, but the path continues after it.
    NotDirectory(Location),
    /// More than [`MAX_LINKS`] symbolic links, possibly in a loop.
    Loop,
    /// Following the links exceeds the budget of the image. Occurs only while its layers are
    /// applied.
    Costly,
}

/// The result of following one symbolic link.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// `Failure::Loop` means only that following `links` links was not enough.
    result: Result<Location, Failure>,
    /// The number of links followed, including this one.
    links: u32,
}

/// A cache of resolved symbolic links, so that each is followed once.
#[derive(Debug, Default)]
pub(super) struct Memo {
    outcomes: HashMap<NodeId, Outcome>,
    /// `Graph::links_changed` at the time the outcomes were valid.
    links_changed: u64,
}

impl Memo {
    /// Clears the cache if anything has changed that links lead through.
    pub(super) fn refresh(&mut self, links_changed: u64) {
        if self.links_changed != links_changed {
            self.outcomes.clear();
            self.links_changed = links_changed;
        }
    }

    /// Returns where a link leads if that is cached, and adds the links on the way to `followed`.
    pub(super) fn follow(
        &self,
        link: NodeId,
        followed: &mut u32,
    ) -> Option<Result<Location, Failure>> {
        let outcome = self.outcomes.get(&link)?;
        let is_loop = *followed + outcome.links > MAX_LINKS;
        if !is_loop && outcome.result == Err(Failure::Loop) {
            return None;
        }
        *followed += outcome.links;
        Some(if is_loop { Err(Failure::Loop) } else { outcome.result })
    }

    fn record(&mut self, link: &Followed, result: Result<Location, Failure>, followed: u32) {
        if link.links_changed == self.links_changed {
            let links = followed - link.followed_before;
            self.outcomes.insert(link.node, Outcome { result, links });
        }
    }

    /// Records that a link leads to a directory.
    pub(super) fn record_directory(&mut self, link: &Followed, location: Location, followed: u32) {
        self.record(link, Ok(location), followed);
    }
}

/// A symbolic link being followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Followed {
    pub(super) node: NodeId,
    pub(super) followed_before: u32,
    /// `Graph::links_changed` when the link was followed.
    pub(super) links_changed: u64,
}

/// The target of a link, and how far it has been resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) text: Text,
    pub(super) position: usize,
    pub(super) link: Followed,
}

/// The number of steps through links that are left.
#[derive(Debug)]
pub(super) struct Budget(pub(super) u64);

impl Budget {
    /// Spends the steps from one byte of a link target to another; returns whether there were
    /// enough.
    pub(super) fn spend(&mut self, from: usize, to: usize) -> bool {
        let steps = 1 + (to - from) / BYTES_PER_STEP;
        match self.0.checked_sub(steps as u64) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// State that resolving uses and updates.
#[derive(Debug)]
pub(super) struct Links<'a> {
    pub(super) memo: &'a mut Memo,
    pub(super) budget: &'a mut Budget,
    /// While the tree still changes, collects the nodes that the outcome depends on. In that case
    /// only links to directories are cached, since only a change of such a node can affect them,
    /// and only if the directory is the end of a node, which stays valid when nodes are split.
    pub(super) used: Option<&'a mut Vec<NodeId>>,
}

impl<L: Entries> Graph<L> {
    /// Resolves a path from the root.
    ///
    /// `follow`: whether to follow a symbolic link at the end of the path too. Before a trailing
    /// slash, a link is always followed.
    pub(super) fn resolve(
        &self,
        path: &[u8],
        follow: bool,
        links: &mut Links<'_>,
    ) -> Result<Location, Failure> {
        let follow = follow || path.ends_with(b"/");
        links.memo.refresh(self.links_changed());
        let mut frames: Vec<Frame> = Vec::new();
        let mut followed = 0;
        let outcome = self.walk(path, follow, links, &mut frames, &mut followed);
        match outcome {
            Err(failure) if failure != Failure::Costly && links.used.is_none() => {
                for frame in &frames {
                    links.memo.record(&frame.link, Err(failure), followed);
                }
            }
            Ok(location) if path.ends_with(b"/") && !self.is_directory(location) => {
                return Err(Failure::NotDirectory(location));
            }
            _ => {}
        }
        outcome
    }

    fn walk(
        &self,
        path: &[u8],
        follow: bool,
        links: &mut Links<'_>,
        frames: &mut Vec<Frame>,
        followed: &mut u32,
    ) -> Result<Location, Failure> {
        let mut position = 0;
        let mut at = Location::ROOT;
        loop {
            let (text, from) = match frames.last() {
                Some(frame) => (self.bytes(frame.text), frame.position),
                None => (path, position),
            };
            let Some(part) = next_part(text, from) else {
                let Some(frame) = frames.pop() else { return Ok(at) };
                if links.used.is_none() || self.is_directory(at) && !self.is_inside(at) {
                    links.memo.record(&frame.link, Ok(at), *followed);
                }
                continue;
            };
            if let Some(frame) = frames.last_mut() {
                frame.position = part.end;
                if !links.budget.spend(from, part.end) {
                    return Err(Failure::Costly);
                }
            } else {
                position = part.end;
            }
            let name = &text[part];
            if name == b"." {
                continue;
            }
            if !self.is_directory(at) {
                return Err(Failure::NotDirectory(at));
            }
            if name == b".." {
                at = self.parent(at);
                continue;
            }
            let found = self.child(at, name).ok_or(Failure::Missing)?;
            let is_link = self.kind(found) == EntryType::SymLink;
            let is_last = || frames.is_empty() && !has_more_parts(path, position);
            let is_followed = is_link && (follow || !is_last());
            if let Some(used) = &mut links.used
                && (is_followed || !frames.is_empty())
            {
                used.push(found.node);
            }
            if !is_followed {
                at = found;
            } else if let Some(known) = links.memo.follow(found.node, followed) {
                let known = known?;
                // While nodes may still be split, only ends of nodes are cached.
                at = if links.used.is_some() { self.end_of(known.node) } else { known };
            } else {
                let link = Followed {
                    node: found.node,
                    followed_before: *followed,
                    links_changed: self.links_changed(),
                };
                let text = self.target(found.node);
                if text.is_empty() {
                    return Err(Failure::Missing);
                }
                *followed += 1;
                frames.push(Frame { text, position: 0, link });
                if *followed > MAX_LINKS {
                    return Err(Failure::Loop);
                }
                if self.bytes(text).starts_with(b"/") {
                    at = Location::ROOT;
                }
            }
        }
    }
}

/// Whether a path has components other than `.` from a byte on.
pub(crate) fn has_more_parts(path: &[u8], mut from: usize) -> bool {
    while let Some(part) = next_part(path, from) {
        if &path[part.clone()] != b"." {
            return true;
        }
        from = part.end;
    }
    false
}
