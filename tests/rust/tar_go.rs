//! The tar scanner against its judge: Go's `archive/tar`, the reference indexer's tar reader.
//!
//! Skipped where Go is missing.
#![allow(clippy::expect_used, clippy::print_stderr, reason = "a test may stop and may speak")]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use crate::gotar::GoTar;
use crate::tar_blocks::{describe, scan};
use crate::tar_generator::{Random, archive, damage};

/// Archives per run; `TOCSIN_TAR_ROUNDS` sets another number.
const ROUNDS: u64 = 4_000;

#[test]
fn scanner_when_archives_come_from_real_tools_then_agrees_with_go() {
    let Some(go) = GoTar::build() else {
        eprintln!("skipped: no go");
        return;
    };
    let mut archives = made_archives();
    archives.extend(go.own_test_archives());
    compare(&go, &archives);
    // Each of them again, cut at some block boundaries and a little off them, and damaged.
    let mut random = Random::new(0);
    for (name, archive) in &archives {
        let damaged = (0..50).map(|round| {
            let mut damaged = archive.clone();
            damage(&mut damaged, &mut random);
            (format!("{name} damaged {round}"), damaged)
        });
        compare(&go, &damaged.collect::<Vec<_>>());
        let step = (archive.len() / 20).next_multiple_of(512).max(512);
        let ends = (0..archive.len()).step_by(step).flat_map(|end| [end, end + 1, end + 511]);
        let cut = |end| Some((format!("{name} up to {end}"), archive.get(..end)?.to_vec()));
        compare(&go, &ends.filter_map(cut).collect::<Vec<_>>());
    }
}

fn compare(go: &GoTar, archives: &[(String, Vec<u8>)]) {
    let bytes: Vec<Vec<u8>> = archives.iter().map(|(_, archive)| archive.clone()).collect();
    for ((name, archive), verdict) in archives.iter().zip(go.judge(&bytes)) {
        let scan = scan(archive);
        assert_eq!(describe(&scan), verdict, "{name}: {scan:?}");
    }
}

/// Archives by the tools there are.
fn made_archives() -> Vec<(String, Vec<u8>)> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tar_go");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).expect("temporary directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/support/make_tars.sh");
    let made = Command::new("sh").arg(script).current_dir(&place).output();
    let skipped = made.map_or_else(
        |failure| failure.to_string(),
        |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    );
    if !skipped.is_empty() {
        eprintln!("skipped: {skipped}");
    }
    let archives: Vec<(String, Vec<u8>)> = fs::read_dir(&place)
        .expect("temporary directory")
        .map(|file| file.expect("temporary directory").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "tar"))
        .map(|path| (path.display().to_string(), fs::read(path).expect("archive was made")))
        .collect();
    eprintln!("{} archives made", archives.len());
    archives
}

#[test]
fn scanner_when_archives_are_nearly_right_then_agrees_with_go() {
    let Some(go) = GoTar::build() else {
        eprintln!("skipped: no go");
        return;
    };
    let rounds = env::var("TOCSIN_TAR_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let seeds: Vec<u64> = (0..rounds.unwrap_or(ROUNDS)).collect();
    let mut accepted = 0;
    let mut differences = 0;
    for batch in seeds.chunks(1_000) {
        let archives: Vec<Vec<u8>> =
            batch.iter().map(|seed| archive(&mut Random::new(*seed))).collect();
        for ((seed, archive), verdict) in batch.iter().zip(&archives).zip(go.judge(&archives)) {
            accepted += u64::from(verdict != "error\n");
            let scan = scan(archive);
            if describe(&scan) != verdict {
                differences += 1;
                if differences < 5 {
                    eprintln!("seed {seed}\ngo:\n{verdict}ours: {scan:?}\n{}", describe(&scan));
                }
            }
        }
    }
    eprintln!("{accepted} of {} archives accepted", seeds.len());
    assert_eq!(differences, 0);
    // Otherwise the generator no longer says anything.
    assert!(accepted * 3 > seeds.len() as u64, "{accepted} accepted");
}
