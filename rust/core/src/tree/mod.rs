//! The merged view of an image's layers: names only, without file data or I/O.
//!
//! Layers are applied from the lowest up, entry by entry in tar order, as an unpacker does: upper
//! layers win, whiteouts and opaque directories hide entries of lower layers, and link targets are
//! resolved inside the image. Source: OCI image-spec 1.1.1, layer.md, "Applying Changesets",
//! "Whiteouts".
//!
//! The input is untrusted. Time is proportional to the bytes in names and targets, and memory to
//! the number of entries:
//! - `names`: leaves out entries that Linux could not create on any file system (see [`Reason`]);
//! - `graph`: stores names as nodes that refer to bytes of the zTOC; a chain of directories shares
//!   one node;
//! - `links`: follows each symbolic link once, and bounds the total number of steps;
//! - `build`: applies layers; a directory is cleared at most once per layer;
//! - `walk`: lists the result in sorted order.

mod build;
mod graph;
mod links;
mod names;
mod walk;

use std::collections::HashMap;
use std::sync::Mutex;

pub use build::TreeBuilder;
pub use graph::{Location, Source};
pub(crate) use links::has_more_parts;
pub use links::{Failure, MAX_LINKS};
pub(crate) use names::next_part;
pub use names::{MAX_PATH_LEN, MAX_TARGET_LEN, Reason, compare as compare_names};
pub use walk::Walk;

use crate::tar::{Entries, EntryType};
use graph::Graph;
use links::{Budget, Links, Memo};

/// An entry that is not in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// The reason.
    pub reason: Reason,
    /// The index of its layer.
    pub layer: u32,
    /// Its index in that layer.
    pub entry: u32,
}

/// The names of an image, merged from its layers. Built with [`TreeBuilder`].
///
/// `L` holds the entries of a layer. The tree refers to the names in it and does not copy them.
#[derive(Debug)]
pub struct Tree<L> {
    graph: Graph<L>,
    left_out: Vec<LeftOut>,
    links: HashMap<(u32, u32), (u32, u32)>,
    /// Used only with `try_lock`: after a fork, it may be locked by a thread that exists only in
    /// the parent.
    memo: Mutex<Memo>,
}

impl<L: Entries> Tree<L> {
    fn new(
        graph: Graph<L>,
        left_out: Vec<LeftOut>,
        links: HashMap<(u32, u32), (u32, u32)>,
    ) -> Self {
        Self { graph, left_out, links, memo: Mutex::new(Memo::default()) }
    }

    /// The entries that are not in the tree, in the order of layers and entries.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// For each file with hard links, the layer and entry of the link applied last. An unpacker
    /// gives the file the metadata of each link, so the last one wins.
    #[must_use]
    pub fn links(&self) -> &HashMap<(u32, u32), (u32, u32)> {
        &self.links
    }

    /// The layers, from the lowest up.
    #[must_use]
    pub fn layers(&self) -> &[L] {
        &self.graph.layers
    }

    /// Resolves a path from the root. `.`, `..` and symbolic links are resolved inside the image,
    /// as under `chroot`.
    ///
    /// `follow`: whether to follow a symbolic link at the end of the path too. Before a trailing
    /// slash, a link is always followed.
    ///
    /// # Errors
    /// The path does not exist, a component is not a directory, or links form a loop.
    pub fn resolve(&self, path: &[u8], follow: bool) -> Result<Location, Failure> {
        let resolve = |memo: &mut Memo| {
            let mut budget = Budget(u64::MAX);
            let mut links = Links { memo, budget: &mut budget, used: None };
            self.graph.resolve(path, follow, &mut links)
        };
        match self.memo.try_lock() {
            Ok(mut memo) => resolve(&mut memo),
            Err(_) => resolve(&mut Memo::default()),
        }
    }

    /// Finds a path from the root, such as one from [`Self::path`], without following symbolic
    /// links.
    #[must_use]
    pub fn locate(&self, path: &[u8]) -> Option<Location> {
        let (mut at, mut from) = (Location::ROOT, 0);
        while let Some(part) = next_part(path, from) {
            from = part.end;
            at = self.graph.child(at, &path[part])?;
        }
        Some(at)
    }

    /// The location with this number, as returned by [`Location::number`] for this tree.
    #[must_use]
    pub fn location(&self, number: u64) -> Option<Location> {
        self.graph.location(number)
    }

    /// The child with this name in a directory.
    #[must_use]
    pub fn child(&self, directory: Location, name: &[u8]) -> Option<Location> {
        self.graph.child(directory, name)
    }

    /// The children of a directory, sorted by name; empty if it is not a directory.
    #[must_use]
    pub fn children(&self, directory: Location) -> Vec<Location> {
        walk::sorted_children(&self.graph, directory)
    }

    /// The number of names that the tree has memory for, which is about the number it has.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.graph.node_count()
    }

    /// The parent directory of a location; the root is its own parent.
    #[must_use]
    pub fn parent(&self, location: Location) -> Location {
        self.graph.parent(location)
    }

    /// The last part of the path; empty for the root.
    #[must_use]
    pub fn name(&self, location: Location) -> &[u8] {
        self.graph.name(location)
    }

    /// The path from the root, without a leading slash.
    #[must_use]
    pub fn path(&self, location: Location) -> Vec<u8> {
        self.graph.path(location)
    }

    /// The type at a location. For a hard link it is the target's, or `HardLink` if the target is
    /// missing.
    #[must_use]
    pub fn kind(&self, location: Location) -> EntryType {
        self.graph.kind(location)
    }

    /// Whether a location is a directory.
    #[must_use]
    pub fn is_directory(&self, location: Location) -> bool {
        self.graph.is_directory(location)
    }

    /// The entry at a location; for a hard link, that of its target.
    #[must_use]
    pub fn source(&self, location: Location) -> Source {
        self.graph.source(location)
    }

    /// The metadata at a location; `None` for a directory that is only implied by other names.
    #[must_use]
    pub fn metadata(&self, location: Location) -> Option<L::Entry<'_>> {
        let source = self.graph.source(location);
        self.entry(source.layer, source.entry?)
    }

    /// The inode number. Two locations share it if and only if they are hard links to one file.
    #[must_use]
    pub fn inode(&self, location: Location) -> u64 {
        let source = self.graph.source(location);
        match source.entry {
            Some(entry) => ((u64::from(source.layer) + 1) << 40) + u64::from(entry) + 1,
            // Location numbers are below 2⁴⁰. The root's is 0, which is not a valid inode number.
            None => location.number().max(1),
        }
    }

    /// An entry of a layer, whether it is in the tree or not.
    #[must_use]
    pub fn entry(&self, layer: u32, entry: u32) -> Option<L::Entry<'_>> {
        self.graph.layers.get(layer as usize)?.entry(entry as usize)
    }

    /// Starts a walk over everything below a directory.
    #[must_use]
    pub fn walk(&self, directory: Location) -> Walk {
        Walk::new(&self.graph, directory)
    }

    /// The next location of a walk.
    pub fn next(&self, walk: &mut Walk) -> Option<Location> {
        walk.step(&self.graph)
    }
}
