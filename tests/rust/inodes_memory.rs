//! Bounds on the memory of inode tables, besides the indexes that they are made from.
#![allow(clippy::expect_used, reason = "a test may stop")]

use std::sync::Arc;

use tocsin_core::inodes::Inodes;
use tocsin_core::tar::{EntryType, FileMetadata};

use crate::inode_tables::{list, tree, ztoc_of};
use crate::ztoc_values::{file, other};
use crate::{peak_of, take_turn};

/// A table of 200,000 files with names of 20 bytes.
const LIMIT: usize = 30 << 20;

/// 200,000 entries like those of Debian images: 10 % directories, 5 % symbolic links.
fn entries() -> Vec<FileMetadata> {
    let entry = |index: usize| match index % 20 {
        0 | 1 => other(EntryType::Directory, &format!("usr/lib/package-{index:09}"), 0, ""),
        2 => other(EntryType::SymLink, &format!("usr/link-to-file-{index:05}"), 0, "../lib/x.so"),
        _ => {
            let directory = index - index % 20;
            file(&format!("usr/lib/package-{directory:09}/file-of-{index:06}.py"), 0, 100)
        }
    };
    (0..200_000).map(entry).collect()
}

#[test]
fn inodes_when_image_has_200_000_files_then_30_mib() {
    let _turn = take_turn();
    let layers = [Arc::new(ztoc_of(entries()))];
    let tree = tree(&layers);
    let (peak, table) = peak_of(|| Inodes::from_tree(&tree).expect("a table"));
    assert!(table.len() > 200_000 && peak <= LIMIT, "{peak} bytes from zTOCs");
    drop(table);
    let list = list(&layers);
    let (peak, table) = peak_of(|| Inodes::from_list(&list).expect("a table"));
    assert!(table.len() > 200_000 && peak <= LIMIT, "{peak} bytes from a file list");
}
