//! Processing a layer's uncompressed bytes.

use super::IndexOptions;
use super::seek::SeekOutput;
use crate::digest::Hasher;
use crate::error::Result;
use crate::parallel::OutputConsumer;
use crate::tar::TocScanner;
use crate::trace::Trace;

/// Consumes uncompressed bytes: the tar scan and, if requested, the diff ID.
#[derive(Debug)]
pub(super) struct TarOutput {
    pub(super) scanner: TocScanner,
    pub(super) diff_id: Option<Hasher>,
    pub(super) len: u64,
    pub(super) seek: Option<SeekOutput>,
}

impl TarOutput {
    pub(super) fn new(options: &IndexOptions, seek: Option<SeekOutput>) -> Self {
        Self {
            scanner: TocScanner::new(options.purpose),
            diff_id: options.diff_id.then(Hasher::new),
            len: 0,
            seek,
        }
    }
}

impl OutputConsumer for TarOutput {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(hasher) = &mut self.diff_id {
            hasher.update(bytes);
        }
        self.len = self.len.saturating_add(bytes.len() as u64);
        self.scanner.push(bytes)
    }

    fn trace(&mut self, bytes: &[u8], trace: &mut Trace) {
        if let Some(seek) = &mut self.seek {
            seek.push(bytes, trace);
        }
    }

    fn is_heavy(&self) -> bool {
        self.diff_id.is_some()
    }
}
