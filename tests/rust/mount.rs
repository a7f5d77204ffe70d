//! All tests of the mount crate that need no mount.
#![allow(clippy::expect_used, reason = "a test may stop at once")]

mod inode_tables;
mod mount_erofs;
mod ztoc_values;
