//! The zTOC: the blob that lists a layer's entries and checkpoints, both ways.
