//! Rules about Rust code.

use crate::source::{SourceFile, contains_word, numbered};
use crate::violation::Violation;

/// The one module that names bincode, and where it may be declared.
const CODEC: &str = "crates/federation-wire/src/codec";

/// How many lines around a pause in a test must name the bound of the poll that it belongs to.
const POLL_LINES: usize = 12;
/// Words by which such a bound shows.
const POLL_BOUNDS: [&str; 3] = ["deadline", "elapsed", "timeout"];

/// Nothing is left for later in the code: what is missing is an issue.
pub(crate) fn nothing_unfinished(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in rust(files) {
        for needle in ["todo!", "unimplemented!"] {
            for (line, _) in file.code_lines_with(needle) {
                violations.push(Violation::at(
                    &file.path,
                    line,
                    "unfinished",
                    format!("{needle} stands in the code"),
                ));
            }
        }
        for (line, text) in numbered(&file.comments) {
            if let Some(word) = ["FIXME", "XXX", "TODO", "HACK"].iter().find(|word| contains_word(text, word))
            {
                let message = format!("{word} in a comment: do it, or open an issue");
                violations.push(Violation::at(&file.path, line, "unfinished", message));
            }
        }
    }
    violations
}

/// A test is run and asserts; one that cannot is deleted.
pub(crate) fn no_skipped_tests(files: &[SourceFile]) -> Vec<Violation> {
    let needles = ["#[ignore", "should_panic"];
    each(files, &needles, |_, _| true, "skipped-test", "tests are neither ignored nor meant to panic")
}

/// A lint is silenced by `expect`, with a reason, so that the exception ends with its cause.
pub(crate) fn lints_are_expected_not_allowed(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in rust(files) {
        for (line, text) in numbered(&file.code) {
            let is_attribute = text.contains("#[") || text.contains("#![");
            if is_attribute && contains_word(text, "allow(") {
                let message = "write #[expect(lint, reason = \"...\")]";
                violations.push(Violation::at(&file.path, line, "allow", message));
            }
            if is_attribute && contains_word(text, "expect(") && !has_reason(&file.code, line) {
                violations.push(Violation::at(&file.path, line, "allow", "the expect has no reason"));
            }
        }
    }
    violations
}

/// bincode stands behind one module, so that it can be replaced there.
pub(crate) fn bincode_in_the_codec_alone(files: &[SourceFile]) -> Vec<Violation> {
    let is_elsewhere = |file: &SourceFile, _: usize| {
        !file.path.strip_prefix(CODEC).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    each(files, &["bincode"], is_elsewhere, "codec", "bincode is named in the codec of federation-wire alone")
}

/// Core reads no clock at all. Net reads wall-clock time through the port, and monotonic time as tokio tells it,
/// which a simulation can hold and move.
pub(crate) fn clocks_at_their_seams(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in rust(files) {
        let is_core = file.is_under("crates/federation-core");
        if !is_core && !file.is_under("crates/federation-net/src") {
            continue;
        }
        let tests = file.test_lines();
        for (line, text) in numbered(&file.code).filter(|(line, _)| !tests.contains(line)) {
            let is_read = contains_word(text, "SystemTime")
                || contains_word(text, "Instant") && (is_core || text.contains("std::time"));
            if is_read {
                let message = "time comes from the injected clock, or from tokio's in net";
                violations.push(Violation::at(&file.path, line, "clock", message));
            }
        }
    }
    violations
}

/// A test that waits polls a level with a deadline: a fixed pause is too long or too short.
pub(crate) fn tests_poll(files: &[SourceFile]) -> Vec<Violation> {
    let is_fixed = |file: &SourceFile, line: usize| {
        let around = file.code.lines().skip(line.saturating_sub(POLL_LINES + 1)).take(2 * POLL_LINES + 1);
        file.test_lines().contains(&line)
            && !around.into_iter().any(|text| POLL_BOUNDS.iter().any(|bound| text.contains(bound)))
    };
    let needles = ["thread::sleep", "time::sleep"];
    each(files, &needles, is_fixed, "sleep", "a pause without a deadline near it: poll a level instead")
}

fn rust(files: &[SourceFile]) -> impl Iterator<Item = &SourceFile> {
    files.iter().filter(|file| file.is_rust())
}

/// The lines of code with one of `needles` for which `is_wrong` holds.
fn each(
    files: &[SourceFile],
    needles: &[&str],
    is_wrong: impl Fn(&SourceFile, usize) -> bool,
    rule: &'static str,
    message: &str,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in rust(files) {
        for needle in needles {
            let lines = file.code_lines_with(needle).filter(|(line, _)| is_wrong(file, *line));
            violations.extend(lines.map(|(line, _)| Violation::at(&file.path, line, rule, message)));
        }
    }
    violations
}

/// Whether the attribute that begins on `line` gives a reason before it ends.
fn has_reason(code: &str, line: usize) -> bool {
    let rest: String = code.lines().skip(line - 1).take(8).collect::<Vec<_>>().join("\n");
    let attribute = rest.find(")]").and_then(|end| rest.get(..end)).unwrap_or(&rest);
    attribute.contains("reason")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::found;

    #[test]
    fn unfinished_code_is_seen() {
        let text = "fn f() {\n    todo!()\n}\n// FIXME later\n// a todo! in prose, XXXL\nlet s = \"todo!()\"; // XXX\n";
        assert_eq!(found(nothing_unfinished, &[("a.rs", text)]), ["a.rs:2", "a.rs:4", "a.rs:6"]);
    }

    #[test]
    fn skipped_tests_are_seen() {
        let text = "#[ignore]\n#[ignore = \"slow\"]\n#[should_panic]\n// should_panic\n";
        assert_eq!(found(no_skipped_tests, &[("a.rs", text)]), ["a.rs:1", "a.rs:2", "a.rs:3"]);
    }

    #[test]
    fn an_allowed_lint_is_seen() {
        let text = "#[allow(x)]\n#![allow(x)]\n#[cfg_attr(test, allow(x))]\n#[expect(x)]\n#[expect(x, reason = \"y\")]\n\
                    #[expect(\n    x,\n    reason = \"y\"\n)]\nlet x = y.expect(\"z\");\n";
        assert_eq!(
            found(lints_are_expected_not_allowed, &[("a.rs", text)]),
            ["a.rs:1", "a.rs:2", "a.rs:3", "a.rs:4"]
        );
    }

    #[test]
    fn bincode_elsewhere_is_seen() {
        let files = [
            ("crates/federation-wire/src/codec.rs", "use bincode::x;\n"),
            ("crates/federation-wire/src/codec/config.rs", "use bincode::x;\n"),
            ("crates/federation-wire/src/codecs.rs", "use bincode::x;\n"),
            ("crates/federation-store/src/a.rs", "use bincode::x; // bincode\n"),
            ("crates/federation-store/src/b.rs", "// bincode\n"),
        ];
        assert_eq!(
            found(bincode_in_the_codec_alone, &files),
            ["crates/federation-wire/src/codecs.rs:1", "crates/federation-store/src/a.rs:1"]
        );
    }

    #[test]
    fn a_clock_beside_the_seam_is_seen() {
        let wall = "use std::time::{Duration, SystemTime};\n#[cfg(test)]\nuse std::time::SystemTime;\n";
        let monotonic = "use std::time::{Duration, Instant};\nfn f() { Instant::now(); }\n";
        let tokio = "use tokio::time::Instant;\nfn f() { Instant::now(); }\n";
        let files = [
            ("crates/federation-net/src/a.rs", wall),
            ("crates/federation-net/src/b.rs", monotonic),
            ("crates/federation-net/src/c.rs", tokio),
            ("crates/federation-core/src/d.rs", tokio),
            ("crates/federation-daemon/src/e.rs", wall),
        ];
        assert_eq!(
            found(clocks_at_their_seams, &files),
            [
                "crates/federation-net/src/a.rs:1",
                "crates/federation-net/src/b.rs:1",
                "crates/federation-core/src/d.rs:1",
                "crates/federation-core/src/d.rs:2"
            ]
        );
    }

    #[test]
    fn a_pause_without_a_deadline_is_seen() {
        let files = [
            ("crates/a/tests/t.rs", "fn t() {\n    std::thread::sleep(x);\n}\n"),
            ("crates/a/tests/u.rs", "while now() < deadline {\n    tokio::time::sleep(x).await;\n}\n"),
            (
                "crates/a/src/v.rs",
                "fn f() { thread::sleep(x); }\n#[cfg(test)]\nfn t() { thread::sleep(x); }\n",
            ),
        ];
        assert_eq!(found(tests_poll, &files), ["crates/a/tests/t.rs:2", "crates/a/src/v.rs:3"]);
    }
}
