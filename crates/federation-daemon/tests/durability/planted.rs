//! How a process is told to have a known defect.

use std::process::Command;

use crate::support::program;

#[test]
fn a_bug_that_is_not_there_keeps_a_node_from_starting() {
    let mut serve = Command::new(program());
    let output = serve.arg("serve").env("FEDERATION_PLANTED_BUG", "lazy-fsnyc").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["FEDERATION_PLANTED_BUG", "\"lazy-fsnyc\"", "lazy-fsync", "void-lost-seqs"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}
