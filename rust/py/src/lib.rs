//! `tocsin._core`: the gate between `tocsin-core` and Python, and the only place that knows PyO3.
//!
//! Nothing here decides anything: arguments are taken out, the core is called through `gate`, and
//! results are wrapped. Public docstrings live in `python/tocsin/layers/ztoc.py`.

#![allow(clippy::needless_pass_by_value, reason = "PyO3 hands arguments over by value")]

mod buffer;
mod columns;
mod errors;
mod gate;
mod indexer;
mod span_reader;
mod tar;
mod text;
mod zstd;
mod ztoc;

/// The private module `tocsin._core`.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::indexer::{IndexedLayer, LayerIndexer};
    #[pymodule_export]
    use super::span_reader::SpanReader;
    #[pymodule_export]
    use super::tar::{EntryHeaders, TarScanner, gzip_header_len, read_headers};
    #[pymodule_export]
    use super::zstd::ZstdDecoder;
    #[pymodule_export]
    use super::ztoc::Ztoc;

    /// The version of the core, which may differ from that of the Python around it.
    #[pymodule_export]
    const CORE_VERSION: &str = tocsin_core::VERSION;
}
