//! Compares the tar readers with Go's `archive/tar`, the tar reader of the reference indexer and of
//! containerd.
//!
//! Skipped if Go is not installed.
#![allow(clippy::expect_used, clippy::print_stderr, reason = "tests may panic and print")]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use crate::gotar::GoTar;
use crate::tar_blocks::{describe, describe_with, scan_for};
use crate::tar_features::{self, FEATURES, FORMATS, Feature};
use crate::tar_generator::{Random, archive, damage};
use crate::tar_reading::{HeaderWalk, describe_data};
use tocsin_core::tar::Purpose;

/// Default number of archives per run; overridden by `TOCSIN_TAR_ROUNDS`.
const ROUNDS: u64 = 4_000;
const PURPOSES: [Purpose; 3] = [Purpose::Index, Purpose::Read, Purpose::Archive];

#[test]
fn scanner_when_archives_come_from_real_tools_then_agrees_with_go() {
    let Some(go) = GoTar::build() else {
        eprintln!("skipped: Go is not installed");
        return;
    };
    let mut archives = made_archives();
    archives.extend(go.own_test_archives());
    compare(&go, &archives, &PURPOSES);
    // Compare damaged copies of each, and copies cut at and near some block boundaries.
    let mut random = Random::new(0);
    for (name, archive) in &archives {
        let damaged = (0..50).map(|round| {
            let mut damaged = archive.clone();
            damage(&mut damaged, &mut random);
            (format!("{name} damaged {round}"), damaged)
        });
        compare(&go, &damaged.collect::<Vec<_>>(), &[Purpose::Read]);
        let step = (archive.len() / 20).next_multiple_of(512).max(512);
        let ends = (0..archive.len()).step_by(step).flat_map(|end| [end, end + 1, end + 511]);
        let cut = |end| Some((format!("{name} up to {end}"), archive.get(..end)?.to_vec()));
        compare(&go, &ends.filter_map(cut).collect::<Vec<_>>(), &[Purpose::Read]);
    }
}

/// Checks that our verdicts equal Go's. Returns the number of archives that Go accepts, counted
/// once for each purpose.
fn compare(go: &GoTar, archives: &[(String, Vec<u8>)], purposes: &[Purpose]) -> usize {
    let bytes: Vec<Vec<u8>> = archives.iter().map(|(_, archive)| archive.clone()).collect();
    let mut accepted = 0;
    for &purpose in purposes {
        for ((name, archive), verdict) in archives.iter().zip(go.judge(&bytes, purpose)) {
            assert_eq!(our_verdict(archive, purpose), verdict, "{purpose:?} {name}");
            accepted += usize::from(verdict != "error\n");
        }
    }
    accepted
}

/// Our verdict in the format of `tests/support/gotar`. For `Purpose::Read`, each entry's headers
/// are also read on their own, and its data is read accordingly.
fn our_verdict(archive: &[u8], purpose: Purpose) -> String {
    let scan = scan_for(archive, purpose);
    if purpose != Purpose::Read {
        return describe(&scan);
    }
    let mut walk = HeaderWalk::new(archive);
    describe_with(&scan, |entry| match walk.next(entry) {
        Ok(found) if found.entry == *entry => {
            format!(" data={}", describe_data(archive, &found))
        }
        other => format!(" headers={other:?}"),
    })
}

#[test]
fn reader_when_entries_have_one_or_two_features_then_agrees_with_go() {
    let Some(go) = GoTar::build() else {
        eprintln!("skipped: Go is not installed");
        return;
    };
    let mut archives = Vec::new();
    let mut add = |(format, make): &(&str, _), features: &[&Feature]| {
        let names: Vec<&str> = features.iter().map(|feature| feature.0).collect();
        let name = format!("{format}: {}", names.join(", "));
        archives.push((name, tar_features::archive(*make, features)));
    };
    for (at, first) in FEATURES.iter().enumerate() {
        FORMATS.iter().for_each(|format| add(format, &[first]));
        // Each pair occurs in both orders, and so in two formats.
        for (second, format) in FEATURES.iter().zip(FORMATS.iter().cycle().skip(at)) {
            add(format, &[first, second]);
        }
    }
    let accepted = compare(&go, &archives, &PURPOSES);
    let all = archives.len() * PURPOSES.len();
    eprintln!("{accepted} of {all} readings accepted");
    assert!(accepted * 2 > all, "{accepted} of {all} readings accepted");
}

/// Archives made with the installed tools.
fn made_archives() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tar_go");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("temporary directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/support/make_tars.sh");
    let made = Command::new("sh").arg(script).current_dir(&directory).output();
    let skipped = made.map_or_else(
        |failure| failure.to_string(),
        |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    );
    if !skipped.is_empty() {
        eprintln!("skipped: {skipped}");
    }
    let archives: Vec<(String, Vec<u8>)> = fs::read_dir(&directory)
        .expect("temporary directory")
        .map(|file| file.expect("temporary directory").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "tar"))
        .map(|path| (path.display().to_string(), fs::read(path).expect("archive was made")))
        .collect();
    eprintln!("{} archives made", archives.len());
    archives
}

#[test]
fn scanner_when_archives_are_nearly_valid_then_agrees_with_go() {
    let Some(go) = GoTar::build() else {
        eprintln!("skipped: Go is not installed");
        return;
    };
    let rounds = env::var("TOCSIN_TAR_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let seeds: Vec<u64> = (0..rounds.unwrap_or(ROUNDS)).collect();
    let mut accepted = 0;
    let mut differences = 0;
    for batch in seeds.chunks(1_000) {
        let archives: Vec<Vec<u8>> =
            batch.iter().map(|seed| archive(&mut Random::new(*seed))).collect();
        for purpose in PURPOSES {
            let verdicts = go.judge(&archives, purpose);
            for ((seed, archive), verdict) in batch.iter().zip(&archives).zip(verdicts) {
                accepted += u64::from(verdict != "error\n");
                let ours = our_verdict(archive, purpose);
                if ours != verdict {
                    differences += 1;
                    if differences < 5 {
                        eprintln!("seed {seed} {purpose:?}\ngo:\n{verdict}ours:\n{ours}");
                    }
                }
            }
        }
    }
    let all = (seeds.len() * PURPOSES.len()) as u64;
    eprintln!("{accepted} of {all} readings accepted");
    assert_eq!(differences, 0);
    // Otherwise the generator is no longer useful.
    assert!(accepted * 3 > all, "{accepted} accepted");
}
