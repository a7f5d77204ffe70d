//! Paths resolved through symbolic links, inside the image, as `chroot` would.

use std::collections::HashMap;

use super::graph::{Graph, NodeId, Place, Text};
use super::names::next_part;
use crate::tar::{Entries, EntryType};

/// Symbolic links followed for one path, as Linux does (`MAXSYMLINKS`, path_resolution(7)).
pub const MAX_LINKS: u32 = 40;
/// Bytes of a link target that are passed over at the cost of one step.
const BYTES_A_STEP: usize = 64;

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Nothing has this name.
    Missing,
    /// This is not a directory, and the path goes on after it.
    NotDirectory(Place),
    /// More than [`MAX_LINKS`] symbolic links, perhaps in a circle.
    Loop,
    /// The links take more steps than are left for the image; only while its layers are applied.
    Costly,
}

/// What following one symbolic link came to.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// `Failure::Loop` says only that `links` are too few to know more.
    result: Result<Place, Failure>,
    /// How many links were followed, this one included.
    links: u32,
}

/// What symbolic links resolve to, kept so that each is followed once.
#[derive(Debug, Default)]
pub(super) struct Memo {
    outcomes: HashMap<NodeId, Outcome>,
    /// `Graph::links_changed` when all of them were right.
    links_changed: u64,
}

impl Memo {
    /// Forgets everything if something has changed that links lead through.
    pub(super) fn refresh(&mut self, links_changed: u64) {
        if self.links_changed != links_changed {
            self.outcomes.clear();
            self.links_changed = links_changed;
        }
    }

    /// Returns where a link leads if it is known, and counts the links on the way in `followed`.
    pub(super) fn follow(
        &self,
        link: NodeId,
        followed: &mut u32,
    ) -> Option<Result<Place, Failure>> {
        let outcome = self.outcomes.get(&link)?;
        let is_loop = *followed + outcome.links > MAX_LINKS;
        if !is_loop && outcome.result == Err(Failure::Loop) {
            return None;
        }
        *followed += outcome.links;
        Some(if is_loop { Err(Failure::Loop) } else { outcome.result })
    }

    fn learn(&mut self, link: &Followed, result: Result<Place, Failure>, followed: u32) {
        if link.links_changed == self.links_changed {
            let links = followed - link.followed_before;
            self.outcomes.insert(link.node, Outcome { result, links });
        }
    }

    /// Learns that a link leads to a directory.
    pub(super) fn learn_directory(&mut self, link: &Followed, place: Place, followed: u32) {
        self.learn(link, Ok(place), followed);
    }
}

/// A symbolic link being followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Followed {
    pub(super) node: NodeId,
    pub(super) followed_before: u32,
    /// `Graph::links_changed` at the time.
    pub(super) links_changed: u64,
}

/// The target of a link, and how far it has been walked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) text: Text,
    pub(super) position: usize,
    pub(super) link: Followed,
}

/// How many steps through links may still be taken.
#[derive(Debug)]
pub(super) struct Budget(pub(super) u64);

impl Budget {
    /// Takes the steps to get from one byte of a link target to another.
    pub(super) fn spend(&mut self, from: usize, to: usize) -> bool {
        let steps = 1 + (to - from) / BYTES_A_STEP;
        match self.0.checked_sub(steps as u64) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// What resolving may use and must keep up to date.
#[derive(Debug)]
pub(super) struct Links<'a> {
    pub(super) memo: &'a mut Memo,
    pub(super) budget: &'a mut Budget,
    /// Where nodes are put that the outcome depends on, while the tree still changes; then only
    /// links to directories are remembered, which nothing but a change of such a node can alter, and
    /// of those only ends of nodes, which keep their places when nodes are cut.
    pub(super) used: Option<&'a mut Vec<NodeId>>,
}

impl<L: Entries> Graph<L> {
    /// Resolves a path from the root.
    ///
    /// `follow`: whether a symbolic link at the end is followed too; always, with a slash after it.
    pub(super) fn resolve(
        &self,
        path: &[u8],
        follow: bool,
        links: &mut Links<'_>,
    ) -> Result<Place, Failure> {
        let follow = follow || path.ends_with(b"/");
        links.memo.refresh(self.links_changed());
        let mut frames: Vec<Frame> = Vec::new();
        let mut followed = 0;
        let outcome = self.walk(path, follow, links, &mut frames, &mut followed);
        match outcome {
            Err(failure) if failure != Failure::Costly && links.used.is_none() => {
                for frame in &frames {
                    links.memo.learn(&frame.link, Err(failure), followed);
                }
            }
            Ok(place) if path.ends_with(b"/") && !self.is_directory(place) => {
                return Err(Failure::NotDirectory(place));
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
    ) -> Result<Place, Failure> {
        let mut position = 0;
        let mut at = Place::ROOT;
        loop {
            let (text, from) = match frames.last() {
                Some(frame) => (self.bytes(frame.text), frame.position),
                None => (path, position),
            };
            let Some(part) = next_part(text, from) else {
                let Some(frame) = frames.pop() else { return Ok(at) };
                if links.used.is_none() || self.is_directory(at) && !self.is_inside(at) {
                    links.memo.learn(&frame.link, Ok(at), *followed);
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
            let is_last = || frames.is_empty() && !goes_on(path, position);
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
                // Only ends of nodes are remembered while nodes may still be cut.
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
                    at = Place::ROOT;
                }
            }
        }
    }
}

/// Whether a path has more than dots and slashes from a byte on.
fn goes_on(path: &[u8], mut from: usize) -> bool {
    while let Some(part) = next_part(path, from) {
        if &path[part.clone()] != b"." {
            return true;
        }
        from = part.end;
    }
    false
}
