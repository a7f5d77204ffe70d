//! EROFS images: fsck.erofs accepts them and extracts what the tars contain.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tocsin_core::inodes::Inodes;
use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_mount::erofs::{ErofsError, Extent, image};

use crate::inode_tables::{from_tree, ztoc_as_is, ztoc_of};
use crate::ztoc_values::{file, other};

const LAYER_LEN: u64 = 1 << 22;

fn table(layers: Vec<Vec<FileMetadata>>) -> Inodes {
    let layers: Vec<_> = layers.into_iter().map(|entries| Arc::new(ztoc_of(entries))).collect();
    from_tree(&layers).unwrap()
}

/// The image of layers of 4 MiB without sparse files.
fn image_of(inodes: &Inodes, layer_count: usize) -> Result<Vec<u8>, ErofsError> {
    image(inodes, &vec![LAYER_LEN; layer_count], |_| None)
}

fn directory(name: &str) -> FileMetadata {
    FileMetadata { mode: 0o755, ..other(EntryType::Directory, name, 0, "") }
}

fn with_xattr(entry: FileMetadata, name: &str, len: usize) -> FileMetadata {
    let key = format!("SCHILY.xattr.{name}").into_bytes();
    FileMetadata { xattrs: vec![(key, vec![b'v'; len])], ..entry }
}

/// A directory for the files of a test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tocsin-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether there is an fsck.erofs that knows blocks of 512 bytes, from 1.6 on. Debian 12 has 1.5;
/// the kernel judges images in tests/interop.
fn has_fsck() -> bool {
    let Ok(output) = Command::new("fsck.erofs").arg("-V").output() else { return false };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = said.split_whitespace().rev().find_map(|word| {
        let (major, minor) = word.split_once('.')?;
        let minor = minor.split(|other: char| !other.is_ascii_digit()).next()?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    version.is_some_and(|version| version >= (1, 6))
}

fn fsck(image: &Path, layers: &[PathBuf], target: &Path) {
    let mut command = Command::new("fsck.erofs");
    for layer in layers {
        command.arg(format!("--device={}", layer.display()));
    }
    command.arg(format!("--extract={}", target.display())).arg(image);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("No errors found"), "{said}");
}

/// Different bytes in every block of a layer.
fn layer(number: u8) -> Vec<u8> {
    (0..LAYER_LEN / 8).flat_map(|word| (word << 8 | u64::from(number)).to_le_bytes()).collect()
}

fn check(
    name: &str,
    layers: Vec<Vec<FileMetadata>>,
    extents: &dyn Fn(&[u8]) -> Option<Vec<Extent>>,
) {
    if !has_fsck() {
        return;
    }
    let scratch = Scratch::new(name);
    let count = layers.len();
    let inodes = table(layers);
    let contents: Vec<_> = (0..count).map(|number| layer(u8::try_from(number).unwrap())).collect();
    let files: Vec<_> = (0..)
        .zip(&contents)
        .map(|(number, content): (usize, _)| scratch.file(&number.to_string(), content))
        .collect();
    let bytes = image(&inodes, &vec![LAYER_LEN; count], |number| extents(&inodes.path(number)));
    let image = scratch.file("image", &bytes.unwrap());
    let target = scratch.0.join("tree");
    fsck(&image, &files, &target);
    for number in 1..=inodes.len() as u64 {
        let inode = inodes.get(number).unwrap();
        let path = target.join(String::from_utf8(inodes.path(number)).unwrap());
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.is_dir(), inode.kind == EntryType::Directory, "{}", path.display());
        if inode.kind == EntryType::SymLink {
            let target = std::fs::read_link(&path).unwrap();
            assert_eq!(target.as_os_str().as_encoded_bytes(), inodes.target(number));
        }
        if inode.kind == EntryType::Regular {
            let place = inode.data.map_or((0, 0), |place| (place.layer, place.offset));
            let whole = Extent { start: 0, len: inode.size, offset: place.1 };
            let mut expected = vec![0; usize::try_from(inode.size).unwrap()];
            for extent in extents(&inodes.path(number)).unwrap_or_else(|| vec![whole]) {
                let at = |at: u64| usize::try_from(at).unwrap();
                let data = &contents[place.0 as usize][at(extent.offset)..][..at(extent.len)];
                expected[at(extent.start)..][..at(extent.len)].copy_from_slice(data);
            }
            assert!(std::fs::read(&path).unwrap() == expected, "{}", path.display());
        }
    }
}

#[test]
fn image_when_tree_has_everything_then_fsck_erofs_extracts_it() {
    let long_name = "n".repeat(255);
    let lower = vec![
        directory("a"),
        file("a/empty", 0, 0),
        file("a/one-byte", 0, 1),
        file("a/block", 0, 512),
        file("a/-before-dot", 0, 513),
        file("large", 0, 100_000),
        file(&format!("a/{long_name}"), 0, 3),
        with_xattr(file("a/xattrs", 0, 3), "user.k", 3000),
        with_xattr(directory("a/with-acl"), "security.selinux", 40),
        other(EntryType::SymLink, "short-link", 0, "a/block"),
        other(EntryType::SymLink, "link-of-511", 0, &"t".repeat(511)),
        other(EntryType::SymLink, "link-of-4095", 0, &"./".repeat(2047)),
        with_xattr(other(EntryType::SymLink, "link-with-xattrs", 0, "x"), "trusted.t", 600),
        other(EntryType::HardLink, "a/second-name", 0, "large"),
        other(EntryType::Fifo, "fifo", 0, ""),
    ];
    let many = (0..3000).map(|index| file(&format!("many/file-{index}"), 0, index % 700));
    let upper = many.chain([file("a/block", 0, 2000), file("a/.wh.empty", 0, 0)]).collect();
    check("everything", vec![lower, upper], &|_| None);
    check("nothing", vec![], &|_| None);
    check("deep", vec![vec![file(&"d/".repeat(300), 0, 1), file("d/d/f", 0, 7)]], &|_| None);
}

#[test]
fn image_when_files_are_sparse_then_holes_are_zeros() {
    let extent = |start, len, offset| Extent { start, len, offset };
    let maps = |path: &[u8]| match path {
        b"hole-first" => Some(vec![extent(4096, 1904, 512)]),
        b"hole-last" => Some(vec![extent(0, 1024, 4096)]),
        b"only-hole" => Some(vec![]),
        b"two" => Some(vec![extent(512, 512, 8192), extent(2048, 1000, 8704), extent(3048, 0, 0)]),
        _ => None,
    };
    let entries = vec![
        file("hole-first", 0, 6000),
        file("hole-last", 0, 5000),
        file("only-hole", 0, 1_000_000),
        file("two", 0, 3048),
        file("whole", 0, 3048),
    ];
    check("sparse", vec![entries], &maps);
}

#[test]
fn image_when_made_twice_then_same_bytes() {
    let layers = || vec![vec![file("a/b/c", 0, 5), directory("d")], vec![file("e", 0, 5)]];
    let bytes = image_of(&table(layers()), 2).unwrap();
    assert_eq!(bytes, image_of(&table(layers()), 2).unwrap());
    assert!(bytes.len().is_multiple_of(4096));
}

#[test]
fn image_when_erofs_cannot_represent_it_then_error_names_the_file() {
    let what = |entries: Vec<FileMetadata>| {
        let inodes = from_tree(&[Arc::new(ztoc_as_is(entries))]).unwrap();
        match image(&inodes, &[1 << 50], |_| None).or_else(|_| image_of(&inodes, 1)) {
            Err(ErofsError::File { path, what }) if path == b"f" => what,
            other => panic!("{other:?}"),
        }
    };
    assert!(what(vec![file("f", 700, 5)]).contains("multiple of 512"));
    assert!(what(vec![file("f", 512, (16 << 40) + 1)]).contains("16 TiB"));
    assert!(what(vec![file("f", 1 << 22, 5)]).contains("after the layer"));
    let overlapping = vec![file("f", 512, 1025), file("g", 2048, 5)];
    assert!(what(overlapping).contains("overlaps"));
    let huge = with_xattr(file("f", 512, 5), "user.k", 65_536);
    assert!(what(vec![huge]).contains("extended attributes"));
}

#[test]
fn image_when_layers_are_too_large_or_too_many_then_error() {
    let inodes = table(vec![vec![file("f", 0, 5)]]);
    let most = (u64::from(u32::MAX) - 1) * 512;
    assert!(image(&inodes, &[most], |_| None).is_ok());
    let error = image(&inodes, &[most + 1], |_| None).unwrap_err();
    assert_eq!(error, ErofsError::Layer { layer: 0, size: most + 1 });
    let error = image(&inodes, &vec![1 << 20; 65_535], |_| None).unwrap_err();
    assert_eq!(error, ErofsError::Layers(65_535));
    assert!(matches!(image(&inodes, &[], |_| None), Err(ErofsError::File { .. })));
}

#[test]
fn image_when_map_of_a_sparse_file_is_not_possible_then_error() {
    let inodes = table(vec![vec![file("f", 0, 1 << 30)]]);
    let extent = |start, len, offset| Extent { start, len, offset };
    for (extents, what) in [
        (vec![extent(100, 512, 512)], "holes are not at multiples"),
        (vec![extent(512, 100, 512)], "holes are not at multiples"),
        (vec![extent(0, 512, 700)], "data is not at a multiple"),
        (vec![extent(1024, 512, 512), extent(0, 512, 1024)], "map"),
        (vec![extent(0, 1024, 512), extent(512, 512, 1536)], "map"),
        (vec![extent(1 << 30, 512, 512)], "map"),
        (vec![extent(u64::MAX, 512, 512)], "map"),
        (vec![extent(0, 512, u64::MAX - 511)], "after the layer"),
        (vec![extent(512, 512, 512)], "too many pieces"),
    ] {
        let error = image(&inodes, &[LAYER_LEN], |_| Some(extents.clone())).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}
