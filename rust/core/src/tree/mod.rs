//! The merged view of an image's layers: names only, no bytes, no I/O.
//!
//! Layers are applied from the lowest up, each entry in the order of its tar, as an unpacker does:
//! upper wins, whiteouts and opaque directories hide what is below, a link's target is resolved inside
//! the image. Source: OCI image-spec 1.1.1, layer.md, "Applying Changesets", "Whiteouts".
//!
//! What a stranger decides costs time in proportion to the bytes of names and targets, and memory in
//! proportion to the number of entries:
//! - `names`: entries that Linux could not create, whatever the file system, are left out (see
//!   [`Reason`]);
//! - `graph`: names are nodes that refer to the bytes of the zTOC; chains of directories share one;
//! - `links`: each symbolic link is followed once, and all of them take a bounded number of steps;
//! - `build`: applies layers; a directory is cleared of what is below at most once a layer;
//! - `walk`: lists the result, sorted.

mod build;
mod graph;
mod links;
mod names;
mod walk;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;

pub use build::TreeBuilder;
pub use graph::{Place, Source};
pub use links::{Failure, MAX_LINKS};
pub use names::{MAX_PATH_LEN, MAX_TARGET_LEN, Reason};
pub use walk::Walk;

use crate::tar::{Entries, EntryType, FileMetadata};
use graph::Graph;
use links::{Budget, Links, Memo};

/// An entry that is not in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// Why.
    pub reason: Reason,
    /// The number of its layer.
    pub layer: u32,
    /// Its number in that layer.
    pub entry: u32,
}

/// The names of an image, merged from its layers; made by [`TreeBuilder`].
///
/// `L` holds the entries of a layer, and is shared, not copied: names stay where they are.
#[derive(Debug)]
pub struct Tree<L> {
    graph: Graph<L>,
    left_out: Vec<LeftOut>,
    links: HashMap<(u32, u32), (u32, u32)>,
    /// Only ever tried, since a forked process may have it locked by a thread it does not have.
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

    /// What is not in the tree, in the order of layers and entries.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// For each file with hard links, layer and entry of the last of them that was applied, as an
    /// unpacker would: it gives the file the metadata of each.
    #[must_use]
    pub fn links(&self) -> &HashMap<(u32, u32), (u32, u32)> {
        &self.links
    }

    /// Finds a path from the root; `.`, `..` and symbolic links are resolved inside the image, as
    /// `chroot` would.
    ///
    /// `follow`: whether a symbolic link at the end is followed too; with a slash after it, always.
    ///
    /// # Errors
    /// Nothing is there, a part of it is not a directory, or links form a loop.
    pub fn resolve(&self, path: &[u8], follow: bool) -> Result<Place, Failure> {
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

    /// Finds a path from the root that no symbolic link is on, such as [`Self::path`] gives.
    #[must_use]
    pub fn locate(&self, path: &[u8]) -> Option<Place> {
        let (mut at, mut from) = (Place::ROOT, 0);
        while let Some(part) = names::next_part(path, from) {
            from = part.end;
            at = self.graph.child(at, &path[part])?;
        }
        Some(at)
    }

    /// The place with this number, as [`Place::number`] gave it for this tree.
    #[must_use]
    pub fn place(&self, number: u64) -> Option<Place> {
        self.graph.place(number)
    }

    /// What a directory holds under a name.
    #[must_use]
    pub fn child(&self, directory: Place, name: &[u8]) -> Option<Place> {
        self.graph.child(directory, name)
    }

    /// What a directory holds, sorted by name; nothing for what is not a directory.
    #[must_use]
    pub fn children(&self, directory: Place) -> Vec<Place> {
        walk::sorted_children(&self.graph, directory)
    }

    /// The directory that a place is in; the root is in itself.
    #[must_use]
    pub fn parent(&self, place: Place) -> Place {
        self.graph.parent(place)
    }

    /// The last part of the path; empty for the root.
    #[must_use]
    pub fn name(&self, place: Place) -> &[u8] {
        self.graph.name(place)
    }

    /// The path from the root, without a slash before it.
    #[must_use]
    pub fn path(&self, place: Place) -> Vec<u8> {
        self.graph.path(place)
    }

    /// What is at a place: for a hard link what it is a name of, or `HardLink` if that is missing.
    #[must_use]
    pub fn kind(&self, place: Place) -> EntryType {
        self.graph.kind(place)
    }

    /// Whether a place is a directory.
    #[must_use]
    pub fn is_directory(&self, place: Place) -> bool {
        self.graph.is_directory(place)
    }

    /// The entry that a place stands for: for a hard link that of its target.
    #[must_use]
    pub fn source(&self, place: Place) -> Source {
        self.graph.source(place)
    }

    /// What the image says of a place; `None` for a directory that only stands in names.
    #[must_use]
    pub fn metadata(&self, place: Place) -> Option<Cow<'_, FileMetadata>> {
        let source = self.graph.source(place);
        self.entry(source.layer, source.entry?)
    }

    /// A number that two places share if and only if they are links to one file.
    #[must_use]
    pub fn inode(&self, place: Place) -> u64 {
        let source = self.graph.source(place);
        match source.entry {
            Some(entry) => ((u64::from(source.layer) + 1) << 40) + u64::from(entry) + 1,
            // Numbers of places are below 2⁴⁰; that of the root is 0, which no inode has.
            None => place.number().max(1),
        }
    }

    /// An entry of a layer, in the tree or not.
    #[must_use]
    pub fn entry(&self, layer: u32, entry: u32) -> Option<Cow<'_, FileMetadata>> {
        self.graph.layers.get(layer as usize)?.entry(entry as usize)
    }

    /// Begins a walk through all that is below a directory.
    #[must_use]
    pub fn walk(&self, directory: Place) -> Walk {
        Walk::new(&self.graph, directory)
    }

    /// The next place of a walk.
    pub fn next(&self, walk: &mut Walk) -> Option<Place> {
        walk.step(&self.graph)
    }
}
