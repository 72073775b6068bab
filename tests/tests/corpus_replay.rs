//! Runs the committed fuzz corpora through the decoders, on the stable toolchain.

#![expect(clippy::panic, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/targets.rs"]
mod targets;

use targets::TARGETS;

#[test]
fn every_committed_input_is_decoded_without_a_panic() {
    for (name, run) in TARGETS {
        let inputs = inputs(&corpus().join(name));
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for path in inputs {
            let input = fs::read(&path).unwrap();
            // A panic names the line that broke; this names the input.
            let result = std::panic::catch_unwind(|| run(&input));
            assert!(result.is_ok(), "{name} panicked on {}", path.display());
        }
    }
}

#[test]
fn every_input_cut_short_or_flipped_is_decoded_without_a_panic() {
    for (name, run) in TARGETS {
        for path in inputs(&corpus().join(name)) {
            let input = fs::read(&path).unwrap();
            let step = (input.len() / 64).max(1);
            for at in (0..input.len()).step_by(step) {
                let mut flipped = input.clone();
                flipped[at] ^= 0x81;
                let result = std::panic::catch_unwind(|| {
                    run(&input[..at]);
                    run(&flipped);
                });
                assert!(result.is_ok(), "{name} panicked on {} changed at byte {at}", path.display());
            }
        }
    }
}

#[test]
fn every_target_is_fuzzed_and_every_fuzzed_target_is_replayed() {
    let replayed: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let fuzzed: BTreeSet<String> = inputs(&fuzz().join("fuzz_targets"))
        .iter()
        .filter_map(|path| path.file_stem()?.to_str().map(str::to_owned))
        .collect();
    assert_eq!(replayed, fuzzed);
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn corpus() -> PathBuf {
    fuzz().join("corpus")
}

/// The files of a directory, in order.
fn inputs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}
