//! Walking a tree in sorted order, each directory before its contents.

use super::graph::{Graph, Location};
use super::names::compare;
use crate::tar::Entries;

/// The state of a walk. It does not borrow the tree, so it is passed to [`super::Tree::next`].
#[derive(Debug)]
pub struct Walk {
    levels: Vec<Level>,
    path: Vec<u8>,
}

#[derive(Debug)]
struct Level {
    children: std::vec::IntoIter<Location>,
    /// Length of the directory's path in bytes.
    path_len: usize,
}

impl Walk {
    pub(super) fn new<L: Entries>(graph: &Graph<L>, top: Location) -> Self {
        let mut walk = Self { levels: Vec::new(), path: graph.path(top) };
        walk.enter(graph, top);
        walk
    }

    fn enter<L: Entries>(&mut self, graph: &Graph<L>, directory: Location) {
        let children = sorted_children(graph, directory).into_iter();
        self.levels.push(Level { children, path_len: self.path.len() });
    }

    pub(super) fn step<L: Entries>(&mut self, graph: &Graph<L>) -> Option<Location> {
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_len);
            let Some(location) = level.children.next() else {
                self.levels.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(graph.name(location));
            if graph.is_directory(location) {
                self.enter(graph, location);
            }
            return Some(location);
        }
        None
    }

    /// The path of the location returned last, without a leading slash.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }
}

pub(super) fn sorted_children<L: Entries>(graph: &Graph<L>, directory: Location) -> Vec<Location> {
    // Collect names with the locations, since looking up a name takes several memory accesses.
    let children = graph.children(directory).map(|location| (graph.name(location), location));
    let mut named: Vec<(&[u8], Location)> = children.collect();
    named.sort_unstable_by(|(a, _), (b, _)| compare(a, b));
    named.into_iter().map(|(_, location)| location).collect()
}
