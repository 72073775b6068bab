//! Commands that end by themselves.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{federationd, federationd_in, stderr, stdout};

#[test]
fn keys_and_enrolments_make_the_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ok = |args: &[&str]| {
        let output = federationd_in(dir, args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output)
    };
    let fails = |args: &[&str], said: &str| {
        let output = federationd_in(dir, args);
        assert!(!output.status.success(), "{args:?}");
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    };
    let said = ok(&["keygen", "--key-file", "a.key"]);
    let secret = std::fs::read_to_string(dir.join("a.key")).unwrap();
    assert!(!said.contains(secret.trim().rsplit(':').next().unwrap()), "the secret is not printed");
    assert_eq!(std::fs::metadata(dir.join("a.key")).unwrap().permissions().mode() & 0o777, 0o600);
    fails(&["keygen", "--key-file", "a.key"], "exists");
    assert_eq!(std::fs::read_to_string(dir.join("a.key")).unwrap(), secret);
    fails(&["keygen", "--key-file", "data/a.key", "--data-dir", "data"], "lies in the data directory");
    ok(&["keygen", "--key-file", "b.key"]);

    let line = ok(&["id", "--node-id", "a", "--key-file", "a.key", "--url", "http://127.0.0.1:7001"]);
    assert_eq!(line.lines().count(), 1);
    ok(&["peer", "add", "--from", line.trim(), "--peers-file", "at-b.toml"]);
    fails(&["peer", "add", "--from", line.trim(), "--peers-file", "at-b.toml"], "enrolled already");
    ok(&["peer", "add", "--from", line.trim(), "--peers-file", "at-b.toml", "--replace"]);
    fails(&["peer", "add", "--from", "nothing", "--peers-file", "at-b.toml"], "--id is missing");

    // The line is itself a command that can be pasted.
    let words: Vec<_> = line.split_whitespace().skip(1).collect();
    ok(&[&words[..], &["--peers-file", "pasted.toml"]].concat());
    let at_b = std::fs::read_to_string(dir.join("at-b.toml")).unwrap();
    assert_eq!(std::fs::read_to_string(dir.join("pasted.toml")).unwrap(), at_b);
    assert!(at_b.contains("[[peer]]") && at_b.contains("**"), "{at_b}");

    let shown = ok(&["peer", "show", "--peers-file", "at-b.toml"]);
    assert!(shown.contains("a  http://127.0.0.1:7001") && shown.contains("active"), "{shown}");
    let exported =
        ok(&["peer", "export", "--node-id", "b", "--key-file", "b.key", "--peers-file", "at-b.toml"]);
    assert_eq!(exported.lines().count(), 2);
    assert!(exported.contains("--id b ") && exported.lines().nth(1) == Some(line.trim()), "{exported}");
    ok(&["peer", "remove", "a", "--peers-file", "at-b.toml"]);
    let shown = ok(&["peer", "show", "--peers-file", "at-b.toml"]);
    assert!(shown.contains("(not dialled)") && shown.contains("retired"), "{shown}");
    fails(&["peer", "remove", "nobody", "--peers-file", "at-b.toml"], "not enrolled");
    fails(&["peer", "show", "--peers-file", "missing.toml"], "missing.toml");
}

#[test]
fn bad_enrolments_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let key = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let fails = |id: &str, url: &str, key: &str, said: &str| {
        let output =
            federationd_in(dir.path(), &["peer", "add", "--full", "--id", id, "--url", url, "--key", key]);
        assert!(!output.status.success() && stderr(&output).contains(said), "{said}: {}", stderr(&output));
        assert!(!dir.path().join("peers.toml").exists());
    };
    fails("a b", "http://127.0.0.1:1", key, "node id");
    fails("a", "127.0.0.1:1", key, "http://");
    fails("a", "http://127.0.0.1:1/path", key, "no path");
    fails("a", "http://127.0.0.1:1", "ed25519:short", "43 characters");
    fails("a", "http://127.0.0.1:1", &key.replace("ed25519", "rsa"), "ed25519:");
}

#[test]
fn the_demo_is_as_told() {
    let output = federationd(&["demo"]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("All as told"), "{}", stdout(&output));
}

#[test]
fn config_prints_every_setting() {
    let text = stdout(&federationd(&["config"]));
    assert!(text.contains("# quorum_timeout_ms = 2000"), "{text}");
    let help = stdout(&federationd(&["serve", "--help"]));
    assert!(help.contains("--quorum-timeout-ms") && help.contains("[default: 2000]"), "{help}");
    assert!(!help.contains("exit-with-parent"), "{help}");
}
