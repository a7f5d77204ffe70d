//! Making the seek table of a layer in the same pass: the output side chooses checkpoints, and the
//! input side, which sees the compressed bytes, finds their positions and hashes the spans.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::seek::{Choices, Finder, LayerBuilder, SeekLayer};
use crate::span::BitOffset;
use crate::trace::Trace;

/// What the two sides share. They may run on different threads, and neither waits for the other.
type Mailbox = Arc<Mutex<Choices>>;

/// The side that sees the output.
#[derive(Debug)]
pub(super) struct SeekOutput {
    pub(super) finder: Finder,
    mailbox: Mailbox,
}

/// The side that sees the compressed bytes.
#[derive(Debug)]
pub(super) struct SeekInput {
    pub(super) builder: LayerBuilder,
    mailbox: Mailbox,
}

/// Creates both sides for a new layer.
pub(super) fn sides(span_size: u64) -> (SeekOutput, SeekInput) {
    let mailbox = Mailbox::default();
    let output = SeekOutput { finder: Finder::new(span_size), mailbox: Arc::clone(&mailbox) };
    (output, SeekInput { builder: LayerBuilder::new(span_size), mailbox })
}

/// Ends the layer, after both sides have seen all of it.
pub(super) fn finish(
    mut output: SeekOutput,
    mut input: SeekInput,
    size: u64,
    uncompressed_size: u64,
) -> Result<SeekLayer> {
    output.finder.finish();
    output.send();
    input.receive();
    input.builder.finish(size, uncompressed_size)
}

impl SeekOutput {
    /// Takes the next output with its trace.
    pub(super) fn push(&mut self, bytes: &[u8], trace: &mut Trace) {
        self.finder.push(bytes, trace);
        self.send();
    }

    /// Records that the decoder is at `position`. All its output must have been pushed.
    pub(super) fn reach(&mut self, position: BitOffset) {
        self.finder.reach(position);
        self.send();
    }

    fn send(&mut self) {
        let Choices { chosen, settled } = self.finder.take_choices();
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        mailbox.chosen.extend(chosen);
        mailbox.settled = settled;
    }
}

impl SeekInput {
    /// Takes the next compressed bytes, and hashes what is settled.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.builder.push(bytes);
        self.receive();
        self.builder.advance();
    }

    /// Takes what the other side has chosen.
    pub(super) fn receive(&mut self) {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = std::mem::take(&mut mailbox.chosen);
        let settled = mailbox.settled;
        drop(mailbox);
        self.builder.choose(Choices { chosen, settled });
    }
}
