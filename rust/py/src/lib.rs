//! `tocsin._core`: the Python bindings of `tocsin-core`, and the only crate that uses PyO3.
//!
//! It contains no logic: it extracts arguments, calls the core through `gate`, and wraps results.
//! Public docstrings are in `python/tocsin/layers/ztoc.py`.

#![allow(clippy::needless_pass_by_value, reason = "PyO3 passes arguments by value")]

mod buffer;
mod columns;
#[cfg(target_os = "linux")]
mod erofs;
mod errors;
mod file_stat;
mod gate;
mod indexer;
#[cfg(target_os = "linux")]
mod mount;
mod pack;
mod request_policy;
mod seek;
mod seek_tree;
mod span_cache;
mod span_reader;
mod tar;
mod text;
mod tree;
mod zstd;
mod ztoc;

/// The private module `tocsin._core`.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use super::erofs::erofs_image;
    #[pymodule_export]
    use super::indexer::{IndexedLayer, LayerIndexer};
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use super::mount::Mount;
    #[pymodule_export]
    use super::pack::{Pack, PackWriter, plan_pack};
    #[pymodule_export]
    use super::request_policy::RequestPolicy;
    #[pymodule_export]
    use super::seek::{SeekLayer, SeekSpans};
    #[pymodule_export]
    use super::seek_tree::{MissingChunks, SeekRoot, SeekTree, SeekWalk, build_seek_table};
    #[pymodule_export]
    use super::span_cache::{CachedLayer, SpanCache, VerifiedFiles};
    #[pymodule_export]
    use super::span_reader::{SpanReader, uncompressed_ranges};
    #[pymodule_export]
    use super::tar::{EntryHeaders, TarScanner, gzip_header_len, read_headers};
    #[pymodule_export]
    use super::tree::{Tree, Walk};
    #[pymodule_export]
    use super::zstd::ZstdDecoder;
    #[pymodule_export]
    use super::ztoc::Ztoc;

    /// The version of the core, which may differ from that of the Python package.
    #[pymodule_export]
    const CORE_VERSION: &str = tocsin_core::VERSION;
}
