//! Measures parts in rotation (A B C, A B C, ...), in CPU time of the thread, to compare them
//! within a few per cent.
//!
//! Criterion measures one part after the other, so a machine that slows down meanwhile changes
//! their ratio. Layers come from the folder named by `TOCSIN_CORPUS` (see benches/corpus.py),
//! compressed with `TOCSIN_COMPRESSOR` (default: go). `TOCSIN_ROUNDS` sets the number of rounds.
//! The results are printed, and saved in `target/tmp` for the Python reports.

use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::measurement::Measurement;

use super::measurement::CpuTime;

/// A part to measure: its name and the code to run.
pub(crate) type Part<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// A layer in memory.
#[derive(Debug)]
pub(crate) struct Layer {
    /// The name in the corpus, without the compressor.
    pub(crate) name: String,
    pub(crate) compressed: Vec<u8>,
    pub(crate) tar: Vec<u8>,
}

/// The layers of the corpus, sorted by name and read lazily.
pub(crate) fn layers() -> impl Iterator<Item = Layer> {
    let folder = std::env::var_os("TOCSIN_CORPUS").map(PathBuf::from);
    let compressor = std::env::var("TOCSIN_COMPRESSOR").unwrap_or_else(|_| "go".to_owned());
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
    let mut paths: Vec<_> =
        entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.into_iter().filter_map(move |path| {
        let name = path.file_name()?.to_str()?.strip_suffix(&format!(".{compressor}.gz"))?;
        let tar = std::fs::read(path.with_file_name(format!("{name}.tar"))).ok()?;
        Some(Layer { name: name.to_owned(), compressed: std::fs::read(&path).ok()?, tar })
    })
}

/// The median CPU nanoseconds of each part, after a warm-up round.
pub(crate) fn medians(parts: &mut [Part<'_>]) -> Vec<f64> {
    let rounds = std::env::var("TOCSIN_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let mut times = vec![Vec::new(); parts.len()];
    for round in 0..=rounds.unwrap_or(5_usize).max(1) {
        for ((_, run), times) in parts.iter_mut().zip(&mut times) {
            let start = CpuTime.start();
            run();
            let time = CpuTime.end(start);
            if round > 0 {
                times.push(time);
            }
        }
    }
    times.into_iter().map(median).collect()
}

/// The median in nanoseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let (low, high) = (times[(times.len() - 1) / 2], times[times.len() / 2]);
    CpuTime.to_f64(&(low + high)) / 2.0
}

/// Saves the results for the reports.
pub(crate) fn save(name: &str, found: &serde_json::Value) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    if found.as_object().is_some_and(|layers| !layers.is_empty()) {
        std::fs::write(&path, format!("{found:#}\n")).unwrap();
    }
}
