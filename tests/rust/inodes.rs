//! The inode table of an image, from both indexes.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use tocsin_core::Error;
use tocsin_core::indexer::{IndexOptions, LayerFormat};
use tocsin_core::inodes::{Inodes, ROOT};
use tocsin_core::span::UncompressedOffset;
use tocsin_core::tar::{EntryType, FileMetadata, read_headers};
use tocsin_core::ztoc::{NO_ID, Ztoc};

use crate::inode_tables::{check, empty_list, from_tree, inodes, list, ztoc_as_is, ztoc_of};
use crate::support::layers::index;
use crate::support::seek::{Draw, numbers};
use crate::support::{golden, zlib_gunzip};
use crate::ztoc_values::{file, other};

fn image(layers: Vec<Vec<FileMetadata>>) -> Vec<Arc<Ztoc>> {
    layers.into_iter().map(|entries| Arc::new(ztoc_of(entries))).collect()
}

/// The table of layers with these entries.
fn table(layers: Vec<Vec<FileMetadata>>) -> Inodes {
    let inodes = inodes(&image(layers));
    check(&inodes);
    inodes
}

fn found(inodes: &Inodes, path: &str) -> u64 {
    inodes.find(path.as_bytes()).unwrap()
}

fn hard_link(name: &str, target: &str) -> FileMetadata {
    other(EntryType::HardLink, name, 0, target)
}

// -- any image ---------------------------------------------------------------------------------------

/// All golden tars: names, layers as stored, and their bytes.
fn golden_tars() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let expected = std::fs::read(golden("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let cases = expected["built"].as_array().unwrap().iter();
    let names: BTreeSet<&str> = cases.map(|case| case["layer"].as_str().unwrap()).collect();
    let read = |name: &str| {
        let layer = std::fs::read(golden("layers").join(name)).unwrap();
        let is_gzip = name.ends_with(".gz");
        let tar = if is_gzip { zlib_gunzip(&layer).unwrap() } else { layer.clone() };
        (name.to_owned(), layer, tar)
    };
    names.into_iter().map(read).collect()
}

fn indexed(name: &str, layer: &[u8]) -> Arc<Ztoc> {
    let is_gzip = name.ends_with(".gz");
    let format = Some(if is_gzip { LayerFormat::Gzip } else { LayerFormat::Tar });
    Arc::new(index(layer, IndexOptions { format, ..IndexOptions::default() }))
}

#[test]
fn inodes_when_layer_is_golden_then_headers_are_where_the_table_says() {
    let mut files = 0;
    for (name, layer, tar) in golden_tars() {
        let inodes = inodes(&[indexed(&name, &layer)]);
        check(&inodes);
        for number in ROOT..=inodes.len() as u64 {
            let inode = inodes.get(number).unwrap();
            let Some(place) = inode.data else { continue };
            let headers = &tar[place.header_start as usize..place.offset as usize];
            let start = UncompressedOffset(place.header_start);
            let headers = read_headers(headers, start).unwrap();
            let claims = inodes.claims(number);
            assert_eq!(headers.data_offset().0, place.offset, "{name}");
            assert_eq!(headers.entry.clean_name(), &claims.path[..], "{name}");
            assert_eq!(headers.entry.uncompressed_size as u64, claims.size, "{name}");
            assert_eq!(headers.entry.mode & 0o7777, i64::from(claims.mode), "{name}");
            assert_eq!((headers.entry.uid, headers.entry.gid), (claims.uid, claims.gid), "{name}");
            files += 1;
        }
    }
    assert!(files > 200, "{files}");
}

#[test]
fn inodes_when_image_has_all_golden_layers_then_same_from_both_indexes() {
    let layers: Vec<_> =
        golden_tars().iter().map(|(name, layer, _)| indexed(name, layer)).collect();
    check(&inodes(&layers));
}

const PARTS: [&[u8]; 13] = [
    b"a",
    b"b",
    b"c",
    b"a",
    b"b",
    b".",
    b"..",
    b"",
    b"\xff",
    "é".as_bytes(),
    b".wh.a",
    b".wh.b",
    b".wh..wh..opq",
];
const KINDS: [EntryType; 10] = [
    EntryType::Directory,
    EntryType::Directory,
    EntryType::Regular,
    EntryType::Regular,
    EntryType::Regular,
    EntryType::SymLink,
    EntryType::HardLink,
    EntryType::HardLink,
    EntryType::Fifo,
    EntryType::CharDevice,
];

fn pick<T: Clone>(draw: &mut Draw<'_>, all: &[T]) -> T {
    all[draw(all.len() as u64) as usize].clone()
}

fn path(draw: &mut Draw<'_>) -> String {
    let parts: Vec<_> = (0..=draw(4)).map(|_| pick(draw, &PARTS)).collect();
    String::from_utf8_lossy(&parts.join(&b'/')).into_owned()
}

/// Any entry; hard links usually refer to one of the names.
fn any_entry(draw: &mut Draw<'_>, names: &mut Vec<String>) -> FileMetadata {
    let kind = pick(draw, &KINDS);
    let name = if draw(20) == 0 { "n".repeat(240 + draw(30) as usize) } else { path(draw) };
    let target = match kind {
        EntryType::HardLink if !names.is_empty() && draw(4) > 0 => pick(draw, names),
        EntryType::SymLink | EntryType::HardLink => path(draw),
        _ => String::new(),
    };
    names.push(name.clone());
    let xattrs = [("SCHILY.xattr.security.capability", 3), ("SCHILY.xattr.user.k", 4)];
    let value = draw(9).to_string().into_bytes();
    let xattrs = xattrs.into_iter().filter(|(_, often)| draw(*often) == 0);
    let xattrs =
        xattrs.map(|(key, _)| (key.as_bytes().to_vec(), value.clone())).collect::<Vec<_>>();
    FileMetadata {
        uncompressed_size: if kind == EntryType::Regular { draw(1500) as i64 } else { 0 },
        linkname: target.into_bytes(),
        mode: draw(0o20_0000) as i64,
        uid: if draw(6) == 0 { NO_ID } else { draw(3) as u32 },
        gid: if draw(6) == 0 { NO_ID } else { draw(3) as u32 },
        mod_time: format!("2023-11-14T22:13:{:02}Z", draw(60)).into_bytes(),
        devmajor: draw(5000) as i64,
        devminor: draw(1 << 21) as i64,
        xattrs,
        ..other(kind, &name, 0, "")
    }
}

#[test]
fn inodes_when_layers_are_random_then_same_from_both_indexes() {
    let (mut inode_count, mut left_out, mut linked) = (0, 0, 0);
    for seed in 1..=400 {
        let (mut draw, mut names) = (numbers(seed), Vec::new());
        let mut layer =
            |_| (0..draw(12)).map(|_| any_entry(&mut draw, &mut names)).collect::<Vec<_>>();
        let inodes = table((0..3).map(&mut layer).collect());
        inode_count += inodes.len();
        left_out += inodes.left_out();
        let all = (ROOT..).map_while(|number| inodes.get(number));
        linked += all.filter(|inode| inode.kind != EntryType::Directory && inode.nlink > 1).count();
    }
    assert!(
        inode_count > 2000 && left_out > 50 && linked > 50,
        "{inode_count} {left_out} {linked}"
    );
}

// -- one property each -------------------------------------------------------------------------------

#[test]
fn nlink_when_files_and_directories_are_shared_then_as_on_linux() {
    let directory = |name| other(EntryType::Directory, name, 0, "");
    let inodes = table(vec![
        vec![directory("d"), directory("d/e"), file("f", 0, 1), hard_link("d/g", "f")],
        vec![hard_link("d/e/h", "d/g"), file("i/j/k", 0, 1), file(".wh.f", 0, 0)],
    ]);
    let nlink = |path| inodes.get(found(&inodes, path)).unwrap().nlink;
    // Source: `stat -c %h` on ext4 after the same steps with mkdir, ln and rm.
    let expected = [("", 4), ("d", 3), ("d/e", 2), ("i", 3), ("i/j", 2), ("d/g", 2), ("i/j/k", 1)];
    for (path, count) in expected {
        assert_eq!(nlink(path), count, "{path}");
    }
    assert_eq!(found(&inodes, "d/g"), found(&inodes, "d/e/h"));
    assert_eq!(inodes.find(b"f"), None);
}

#[test]
fn metadata_when_a_hard_link_changes_them_then_claims_are_those_of_the_headers() {
    let link = FileMetadata {
        mode: 0o4755,
        uid: 7,
        mod_time: b"2001-09-09T01:46:40Z".to_vec(),
        xattrs: vec![(b"SCHILY.xattr.user.k".to_vec(), b"v".to_vec())],
        ..hard_link("b", "a")
    };
    let owned = FileMetadata {
        uid: 5,
        gid: NO_ID,
        xattrs: vec![(b"SCHILY.xattr.security.capability".to_vec(), b"c".to_vec())],
        ..file("a", 0, 3)
    };
    let layers = image(vec![vec![owned], vec![link]]);
    let inodes = inodes(&layers);
    let number = found(&inodes, "a");
    let inode = inodes.get(number).unwrap();
    assert_eq!((inode.mode, inode.uid, inode.gid, inode.nlink), (0o4755, 7, 0, 2));
    assert_eq!(inode.mtime, (1_000_000_000, 0));
    let xattrs: Vec<_> =
        inodes.xattrs(number).iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(xattrs, [(&b"user.k"[..], &b"v"[..])]);
    let claims = inodes.claims(number);
    assert_eq!((claims.mode, claims.uid, claims.gid, claims.has_owner), (0o644, 5, NO_ID, true));
    let claims = Inodes::from_list(&list(&layers)).unwrap().claims(number);
    assert!(!claims.has_owner);
}

#[test]
fn claims_when_path_in_tar_differs_then_name_in_tar() {
    let inodes = table(vec![
        vec![file("./usr/bin/x", 0, 1), other(EntryType::SymLink, "bin", 0, "usr/bin")],
        vec![file("bin//y", 0, 2), hard_link("z", "usr/bin/x")],
        vec![file("bin/.wh.x", 0, 0)],
    ]);
    assert_eq!(inodes.find(b"usr/bin/x"), None);
    for (path, in_tar) in [("usr/bin/y", "bin/y"), ("z", "usr/bin/x")] {
        let number = found(&inodes, path);
        assert_eq!(inodes.claims(number).path, in_tar.as_bytes());
        assert_eq!(inodes.path(number), path.as_bytes());
    }
}

#[test]
fn device_when_numbers_do_not_fit_then_as_mknod_makes_it() {
    let device = |devmajor, devminor| FileMetadata {
        devmajor,
        devminor,
        ..other(EntryType::CharDevice, "dev", 0, "")
    };
    // What os.lstat shows after os.mknod(path, S_IFCHR, (minor & 0xff) | (major & 0xfff) << 8 |
    // (minor & ~0xff) << 12) on Linux, whose third argument has 32 bits.
    for ((major, minor), expected) in [
        ((5, 1), (5, 1)),
        ((0, 0), (0, 0)),
        ((0xFFF, 0xF_FFFF), (0xFFF, 0xF_FFFF)),
        ((0x1003, 0x10_0004), (3, 4)),
        ((-1, -1), (0xFFF, 0xF_FFFF)),
        ((i64::MIN, i64::MAX), (0, 0xF_FFFF)),
    ] {
        let inodes = table(vec![vec![device(major, minor)]]);
        assert_eq!(inodes.get(found(&inodes, "dev")).unwrap().device, expected);
    }
    let numbered = FileMetadata { devmajor: 5, devminor: 1, ..file("f", 0, 0) };
    let inodes = table(vec![vec![numbered]]);
    assert_eq!(inodes.get(found(&inodes, "f")).unwrap().device, (0, 0));
}

#[test]
fn xattrs_when_linux_would_reject_them_then_left_out() {
    let long = "n".repeat(250);
    let all = [
        ("security.capability", 20),
        ("security.nul\0", 1),
        ("system.posix_acl_access", 28),
        ("system.posix_acl_default", 28),
        ("system.other", 1),
        ("trusted.t", 0),
        ("user.", 1),
        (&format!("user.{long}"), 65_536),
        (&format!("user.{long}x"), 1),
        ("user.too-large", 65_537),
        ("com.apple.x", 1),
    ];
    let mut xattrs: Vec<_> = all
        .iter()
        .map(|(name, len)| (format!("SCHILY.xattr.{name}").into_bytes(), vec![b'v'; *len]))
        .collect();
    xattrs.sort();
    let with = |entry: FileMetadata| FileMetadata { xattrs: xattrs.clone(), ..entry };
    let inodes = table(vec![vec![
        with(file("f", 0, 1)),
        with(other(EntryType::Directory, "d", 0, "")),
        with(other(EntryType::SymLink, "l", 0, "f")),
    ]]);
    // What setxattr(2) accepts on ext4 of Linux 6.18, if there is enough space.
    let user = format!("user.{long}");
    let (security, trusted) = ("security.capability", "trusted.t");
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    for (path, expected) in [
        ("f", &[security, access, trusted, &user][..]),
        ("d", &[security, access, default, trusted, &user]),
        ("l", &[security, trusted]),
    ] {
        let names = inodes.xattrs(found(&inodes, path)).iter().map(|(name, _)| &**name);
        assert!(names.eq(expected.iter().map(|name| name.as_bytes())), "{path}");
    }
}

#[test]
fn names_when_linux_would_refuse_them_then_left_out() {
    let (longest, too_long) = ("n".repeat(255), "n".repeat(256));
    let inodes = table(vec![vec![
        file(&longest, 0, 1),
        file(&too_long, 0, 1),
        file(&format!("{too_long}x/below"), 0, 1),
        hard_link("missing", "nowhere"),
        other(EntryType::SymLink, "empty", 0, ""),
        other(EntryType::SymLink, "link", 0, "../a"),
    ]]);
    assert_eq!(inodes.left_out(), 4);
    let names: Vec<_> = inodes.children(ROOT).iter().map(|child| inodes.name(child)).collect();
    assert_eq!(names, [b"link", longest.as_bytes()]);
    let link = found(&inodes, "link");
    assert_eq!(inodes.target(link), b"../a");
    let inode = inodes.get(link).unwrap();
    assert_eq!((inode.size, inode.mode, inode.kind), (4, 0o777, EntryType::SymLink));
}

#[test]
fn directories_when_no_layer_lists_them_then_root_owns_them() {
    let inodes = table(vec![vec![file("x/y/f", 0, 0)]]);
    for path in ["", "x", "x/y"] {
        let inode = inodes.get(found(&inodes, path)).unwrap();
        assert_eq!((inode.mode, inode.uid, inode.gid, inode.mtime), (0o755, 0, 0, (0, 0)));
        assert_eq!(inode.kind, EntryType::Directory);
    }
    let inodes = table(vec![]);
    assert_eq!((inodes.len(), inodes.get(ROOT).unwrap().nlink), (1, 2));
}

#[test]
fn lookups_when_there_is_no_such_inode_then_nothing() {
    let inodes = table(vec![vec![file("a/f", 0, 1)]]);
    let file = found(&inodes, "a/f");
    assert_eq!(found(&inodes, "//a//f/"), file);
    assert_eq!(
        (inodes.find(b"a/f/g"), inodes.find(b"a/."), inodes.find(b"..")),
        (None, None, None)
    );
    assert_eq!(inodes.children(file), []);
    for number in [0, inodes.len() as u64 + 1, u64::MAX] {
        assert_eq!((inodes.get(number), inodes.children(number)), (None, &[][..]));
        assert_eq!((inodes.target(number), inodes.xattrs(number)), (&[][..], &[][..]));
        assert_eq!((inodes.child(number, b"a"), inodes.path(number)), (None, Vec::new()));
        assert_eq!(inodes.claims(number).size, 0);
    }
}

// -- hostile -----------------------------------------------------------------------------------------

#[test]
fn from_tree_when_sizes_are_impossible_then_error() {
    for (offset, size) in [
        (512, -1),
        (512, i64::MIN),
        (512, i64::MAX),
        (512, (1 << 60) + 1),
        (-1, 5),
        (i64::MIN, 5),
        (i64::MAX, 5),
        (0, 5),
        (511, 5),
        ((1 << 60) + 1, 5),
    ] {
        let layer = Arc::new(ztoc_as_is(vec![file("f", offset, size)]));
        let error = from_tree(&[layer]).unwrap_err();
        assert_eq!(error.code(), "ztoc.toc-entry", "{offset} {size}: {error}");
    }
    let largest = Arc::new(ztoc_as_is(vec![file("f", 1 << 60, 1 << 60), file("g", 1 << 60, 1)]));
    check(&from_tree(&[largest]).unwrap());
}

#[test]
fn from_tree_when_few_paths_imply_many_directories_then_error() {
    let deep = |index: usize| file(&format!("{index}/{}f", "a/".repeat(2000)), 512, 1);
    let layers = |count: usize| [Arc::new(ztoc_as_is((0..count).map(deep).collect()))];
    assert_eq!(from_tree(&layers(100)).unwrap().len(), 100 * 2002 + 1);
    let error = from_tree(&layers(150)).unwrap_err();
    assert_eq!(error.code(), "ztoc.value");
    assert!(error.to_string().contains("directories that no layer lists"), "{error}");
}

#[test]
fn from_list_when_a_chunk_is_missing_then_error_names_it() {
    let layers = image(vec![(0..1500).map(|index| file(&index.to_string(), 0, 1)).collect()]);
    let error = Inodes::from_list(&empty_list(&layers)).unwrap_err();
    assert!(matches!(&error, Error::Seek { .. }));
    assert_eq!(error.code(), "seek.missing-chunk");
    assert!(error.to_string().contains("file list chunk 0"), "{error}");
}
