//! The bytes of version 1, fixed in `tests/golden/`: hexadecimal, 32 bytes a line.
//!
//! A difference means that nodes of two builds no longer understand each other, and that stored proofs no longer
//! verify: version 1 does not change. Where it has to before its first release, write the present bytes
//! somewhere else, look at the difference, and copy what is meant:
//!
//! ```text
//! FEDERATION_GOLDEN_OUT=/some/directory cargo test -p federation-wire --test wire golden
//! diff -r crates/federation-wire/tests/golden /some/directory
//! ```

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use federation_wire::keys::{NodeKey, OwnKeys};
use federation_wire::slug::Slug;

use crate::samples::samples;

fn files() -> Vec<(String, String)> {
    let mut files: Vec<_> =
        samples().into_iter().map(|sample| (format!("{}.hex", sample.name), hex(&sample.bytes))).collect();
    let keys = OwnKeys::new(Arc::new(NodeKey::from_seed(&[1; 32])));
    files.push(("node-key.txt".into(), keys.to_file_text().to_string()));
    let public = keys.active().public();
    files.push(("public-key.txt".into(), format!("{public} {}\n", public.id())));
    // Its signatures fix the bytes that were signed.
    let receipt = serde_json::to_string_pretty(&crate::receipts::receipt()).unwrap();
    files.push(("receipt.json".into(), receipt + "\n"));
    let slugs: Vec<_> = Slug::ALL.iter().map(|slug| format!("{} {slug}\n", *slug as u32)).collect();
    files.push(("slugs.txt".into(), slugs.concat()));
    files
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(out, "{byte:02x}").unwrap();
        }
        out.push('\n');
    }
    out
}

#[test]
fn golden_bytes_are_as_they_were() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let out = std::env::var_os("FEDERATION_GOLDEN_OUT");
    let files = files();
    for (name, found) in &files {
        if let Some(out) = &out {
            std::fs::write(Path::new(out).join(name), found).unwrap();
        }
        let expect = std::fs::read_to_string(golden.join(name)).unwrap_or_default();
        assert!(out.is_some() || *found == expect, "{name} differs from tests/golden");
    }
    let kept = std::fs::read_dir(&golden).unwrap().count();
    assert!(out.is_some() || kept == files.len(), "tests/golden has files that nothing compares");
}

#[test]
fn golden_bytes_are_read_and_written_again() {
    for sample in samples() {
        assert_eq!((sample.again)(&sample.bytes), Some(sample.bytes), "{}", sample.name);
    }
}
