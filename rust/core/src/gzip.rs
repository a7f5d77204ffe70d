//! gzip members around DEFLATE streams.
