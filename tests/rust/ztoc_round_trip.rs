//! Any zTOC that can be written is read back unchanged, and written again with the same bytes.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tocsin_core::checkpoint::{Checkpoint, Window};
use tocsin_core::digest::Digest;
use tocsin_core::span::{CompressedOffset, UncompressedOffset};
use tocsin_core::tar::{EntryType, FileMetadata};
use tocsin_core::ztoc::{GzipZinfo, TarZinfo, Zinfo, ZinfoVersion, Ztoc};

use crate::ztoc_values::checkpoint;

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), vec(any::<u8>(), 0..40)]
}

/// Often 0, since fields with the default value are omitted.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), any::<i64>()]
}

fn natural() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), 0..=i64::MAX]
}

fn entry() -> impl Strategy<Value = FileMetadata> {
    let entry_type = prop_oneof![
        Just(EntryType::Regular),
        Just(EntryType::HardLink),
        Just(EntryType::SymLink),
        Just(EntryType::CharDevice),
        Just(EntryType::BlockDevice),
        Just(EntryType::Directory),
        Just(EntryType::Fifo),
    ];
    let texts = (text(), text(), text(), text(), text());
    let ids = (prop_oneof![Just(0), any::<u32>()], prop_oneof![Just(0), any::<u32>()]);
    let numbers = (natural(), natural(), number(), number(), number());
    let xattrs = btree_map(text(), text(), 0..4).prop_map(BTreeMap::into_iter);
    (entry_type, texts, ids, numbers, xattrs).prop_map(
        |(entry_type, (name, linkname, uname, gname, mod_time), (uid, gid), numbers, xattrs)| {
            let (uncompressed_offset, uncompressed_size, mode, devmajor, devminor) = numbers;
            FileMetadata {
                name,
                entry_type,
                uncompressed_offset,
                uncompressed_size,
                linkname,
                mode,
                uid,
                gid,
                uname,
                gname,
                mod_time,
                devmajor,
                devminor,
                xattrs: xattrs.collect(),
            }
        },
    )
}

/// Checkpoints are generated as steps from one to the next, so that offsets never decrease.
fn gzip() -> impl Strategy<Value = (Zinfo, u64, u64)> {
    let step = (1_u64..1 << 40, 0_u64..1 << 40, 0_u8..8, any::<u8>());
    let trailer = 0_u64..1 << 40;
    (vec(step, 0..5), any::<bool>(), 0..=1_u64 << 62, trailer).prop_map(
        |(steps, version_1, span_size, trailer)| {
            let mut checkpoints = vec![checkpoint(10, 0, 0)];
            let (mut compressed, mut uncompressed) = (10, 0);
            for (read, written, bits, byte) in steps {
                compressed += read;
                uncompressed += written;
                checkpoints.push(Checkpoint {
                    compressed: CompressedOffset(compressed),
                    uncompressed: UncompressedOffset(uncompressed),
                    bits,
                    window: Window::ending_with(&[byte; 1000]),
                });
            }
            let version = if version_1 { ZinfoVersion::V1 } else { ZinfoVersion::V2 };
            let spans = checkpoints.len() as u64;
            let zinfo = Zinfo::Gzip(GzipZinfo { version, span_size, checkpoints });
            (zinfo, compressed + trailer, spans)
        },
    )
}

fn tar() -> impl Strategy<Value = (Zinfo, u64, u64)> {
    (0_u64..9, 1_u64..1 << 40, 0_u64..1 << 40).prop_map(|(spans, span_size, less)| {
        let size = (spans * span_size).saturating_sub(less % span_size);
        (Zinfo::Tar(TarZinfo { span_size, size }), size, spans)
    })
}

fn ztoc() -> impl Strategy<Value = Ztoc> {
    let zinfo = prop_oneof![gzip(), tar()];
    let size = 0..=1_u64 << 62;
    (any::<String>(), any::<String>(), size, vec(entry(), 0..8), zinfo).prop_map(
        |(version, build_tool_identifier, uncompressed_archive_size, toc, zinfo)| {
            let (zinfo, compressed_archive_size, spans) = zinfo;
            Ztoc {
                version,
                build_tool_identifier,
                compressed_archive_size,
                uncompressed_archive_size,
                toc: toc.into(),
                zinfo,
                span_digests: (0..spans).map(|span| Digest::of(&span.to_le_bytes())).collect(),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn test_ztoc_when_written_and_read_then_unchanged(ztoc in ztoc()) {
        let blob = ztoc.to_bytes().unwrap();
        let read = Ztoc::from_bytes(&blob).unwrap();

        prop_assert_eq!(&read, &ztoc);
        prop_assert_eq!(read.to_bytes().unwrap(), blob);
    }
}
