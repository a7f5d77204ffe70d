//! Mounts an image whose layers have not arrived: fetches what is read, verifies it, and keeps it.
//!
//! `fuse` is a thin front over `fs`, which answers reads from `engine`. The engine knows what is here
//! (`layer_file`, `memory`), asks `tocsin_core::fetch` what to fetch next, and gives fetches to
//! whoever asks: it uses no network itself. `log` notes what is read. `erofs` writes the metadata of an
//! image for the kernel's EROFS, over the files of the layers, which `layers_front` serves while they
//! are incomplete.

#[cfg(target_os = "linux")]
mod answers;
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
pub use engine::{Engine, LayerPlace, Options, Status};
#[cfg(target_os = "linux")]
pub use fs::Fs;
#[cfg(target_os = "linux")]
pub use fuse::{MountOptions, Mounted, mount};
#[cfg(target_os = "linux")]
pub use layers_front::mount_layers;
#[cfg(target_os = "linux")]
pub use log::Read;
