//! A tree from top to bottom, a directory before what it holds, sorted by name.

use super::graph::{Graph, Place};
use super::names::compare;
use crate::tar::Entries;

/// Where a walk through a tree is; it borrows nothing, so [`super::Tree::next`] is given the walk.
#[derive(Debug)]
pub struct Walk {
    levels: Vec<Level>,
    path: Vec<u8>,
}

#[derive(Debug)]
struct Level {
    children: std::vec::IntoIter<Place>,
    /// Bytes of the directory's path.
    path_len: usize,
}

impl Walk {
    pub(super) fn new<L: Entries>(graph: &Graph<L>, top: Place) -> Self {
        let mut walk = Self { levels: Vec::new(), path: graph.path(top) };
        walk.go_into(graph, top);
        walk
    }

    fn go_into<L: Entries>(&mut self, graph: &Graph<L>, directory: Place) {
        let children = sorted_children(graph, directory).into_iter();
        self.levels.push(Level { children, path_len: self.path.len() });
    }

    pub(super) fn step<L: Entries>(&mut self, graph: &Graph<L>) -> Option<Place> {
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_len);
            let Some(place) = level.children.next() else {
                self.levels.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(graph.name(place));
            if graph.is_directory(place) {
                self.go_into(graph, place);
            }
            return Some(place);
        }
        None
    }

    /// The path of the place that was returned last, without a slash before it.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }
}

pub(super) fn sorted_children<L: Entries>(graph: &Graph<L>, directory: Place) -> Vec<Place> {
    // Names beside places, since finding a name takes several looks into memory.
    let children = graph.children(directory).map(|place| (graph.name(place), place));
    let mut named: Vec<(&[u8], Place)> = children.collect();
    named.sort_unstable_by(|(a, _), (b, _)| compare(a, b));
    named.into_iter().map(|(_, place)| place).collect()
}
