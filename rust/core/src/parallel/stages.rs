//! Single stages of the pipeline, for the benchmark that measures the cost of each.

use std::sync::Arc;

use super::piece;
use super::probe::Probe;
use super::source::Stretch;
use crate::checkpoint::Window;

/// The number of positions in `layer` that the probe takes for a header.
#[must_use]
pub fn probe(layer: Arc<Vec<u8>>) -> usize {
    let len = layer.len();
    let stretch = Stretch::new(0, len.max(1), vec![layer]);
    Probe::new(&stretch, 0..len as u64).count()
}

/// Resolves the markers that refer to one window.
#[derive(Debug)]
pub struct Resolver(piece::Resolver);

impl Resolver {
    /// Builds the lookup table for a window.
    #[must_use]
    pub fn new(window: &Window) -> Self {
        Self(piece::Resolver::new(window))
    }

    /// Replaces markers with bytes of the window.
    pub fn resolve(&self, marked: &[u16], bytes: &mut [u8]) {
        self.0.resolve(marked, bytes);
    }

    /// The window at the end of `marked`, its last 32 Ki units.
    #[must_use]
    pub fn window(&self, marked: &[u16]) -> Window {
        self.0.window(marked)
    }
}
