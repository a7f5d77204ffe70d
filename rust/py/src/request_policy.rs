//! `_core.RequestPolicy`: which spans are fetched for reads, and which of them share a request.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tocsin_core::fetch::{Policy, Request};

use crate::span_cache::CachedLayer;
use crate::span_reader::Table;

/// Limits of a request for several spans.
#[pyclass(frozen, module = "tocsin._core")]
#[derive(Debug)]
pub(crate) struct RequestPolicy(Policy);

#[pymethods]
impl RequestPolicy {
    #[new]
    fn new(gap: u64, longest: u64) -> Self {
        Self(Policy { gap, longest })
    }

    /// The spans of each request for those of `spans`, an ascending iterable, that are neither in
    /// memory nor keys of `in_flight`.
    fn plan(
        &self,
        table: Table<'_>,
        cached: &Bound<'_, CachedLayer>,
        in_flight: &Bound<'_, PyDict>,
        spans: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Vec<u32>>> {
        let mut missing = Vec::new();
        for span in spans.try_iter()? {
            let span = span?;
            let number: u32 = span.extract()?;
            if !cached.get().has(number) && !in_flight.contains(span)? {
                missing.push(number);
            }
        }
        Ok(self.requests(table, missing))
    }

    /// The spans of each request for all these spans, which are in ascending order.
    fn requests(&self, table: Table<'_>, spans: Vec<u32>) -> Vec<Vec<u32>> {
        let table = table.without_chunks();
        let requests = self.0.requests(spans, |span| table.compressed(span));
        requests.into_iter().map(|Request { spans, .. }| spans).collect()
    }

    /// The end of the first spans of `[first, end)` that share a request.
    fn first_request(&self, table: Table<'_>, first: u32, end: u32) -> u32 {
        let table = table.without_chunks();
        self.0.first_request(first..end, |span| table.compressed(span))
    }
}
