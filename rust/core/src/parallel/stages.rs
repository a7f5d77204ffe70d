//! Single stages, for the bench that measures what each costs alone.

use std::sync::Arc;

use super::piece;
use super::probe::Probe;
use super::source::Stretch;
use crate::checkpoint::Window;

/// How many places of `layer` the probe takes for a header, anywhere in it.
#[must_use]
pub fn probe(layer: Arc<Vec<u8>>) -> usize {
    let len = layer.len();
    let stretch = Stretch::new(0, len.max(1), vec![layer]);
    Probe::new(&stretch, 0..len as u64).count()
}

/// What stands for the markers behind one window.
#[derive(Debug)]
pub struct Resolver(piece::Resolver);

impl Resolver {
    /// Looks at the window once.
    #[must_use]
    pub fn new(window: &Window) -> Self {
        Self(piece::Resolver::new(window))
    }

    /// Puts the window's bytes in the place of their markers.
    pub fn resolve(&self, marked: &[u16], bytes: &mut [u8]) {
        self.0.resolve(marked, bytes);
    }

    /// The window behind `marked`, its last 32 Ki units.
    #[must_use]
    pub fn window(&self, marked: &[u16]) -> Window {
        self.0.window(marked)
    }
}
