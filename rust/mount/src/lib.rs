//! Mounts images that are not downloaded yet: data is fetched when it is read, verified and kept.
//!
//! `fuse` is a thin front over `fs`, which answers reads with the data of `engine`. The engine keeps
//! data on disk (`layer_file`) or in memory (`memory`). It has no network: it hands out fetches that
//! `tocsin_core::fetch` schedules, and takes their bytes. `log` records reads. `erofs` writes the
//! metadata of an image as an EROFS file system over the files of the layers; `layers_front` serves
//! these files while they are incomplete.

#[cfg(target_os = "linux")]
mod engine;
pub mod erofs;
#[cfg(target_os = "linux")]
mod fs;
#[cfg(target_os = "linux")]
mod fuse;
#[cfg(target_os = "linux")]
mod headers;
#[cfg(target_os = "linux")]
mod layer_file;
#[cfg(target_os = "linux")]
mod layers_front;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod memory;

#[cfg(target_os = "linux")]
pub use engine::{Engine, LayerPlace, Options, PackStatus, Status};
#[cfg(target_os = "linux")]
pub use fs::Fs;
#[cfg(target_os = "linux")]
pub use fuse::{Ended, MountOptions, Mounted, mount};
#[cfg(target_os = "linux")]
pub use layers_front::mount_layers;
#[cfg(target_os = "linux")]
pub use log::Read;
