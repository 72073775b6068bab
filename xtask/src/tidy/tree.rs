//! Rules about files as such.

use std::collections::BTreeSet;

use crate::source::{SourceFile, numbered};
use crate::violation::Violation;

/// Files of 2,000 lines are the hard-to-read ones of codebases that are otherwise easy to read; 400 is what is
/// aimed at. Half of the former is where a file is split, whatever it holds.
const LINES_MAX: usize = 1_000;

/// Directories of people and build machines. A path under one of them works nowhere else.
const MACHINE_DIRECTORIES: [&str; 7] = ["home", "root", "Users", "work", "workspace", "builds", "tmp"];

/// A module is `foo.rs`, its children are in `foo/`.
pub(crate) fn no_mod_rs(files: &[SourceFile]) -> Vec<Violation> {
    files
        .iter()
        .filter(|file| file.path == "mod.rs" || file.path.ends_with("/mod.rs"))
        .map(|file| Violation::of(&file.path, "mod-rs", "a module is foo.rs with foo/ beside it"))
        .collect()
}

/// No source file beyond [`LINES_MAX`].
pub(crate) fn file_length(files: &[SourceFile]) -> Vec<Violation> {
    files
        .iter()
        .filter(|file| file.is_rust())
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| {
            Violation::of(&file.path, "length", format!("{lines} lines, at most {LINES_MAX}: split it"))
        })
        .collect()
}

/// No trailing blanks, no carriage returns, a line feed at the end.
pub(crate) fn whitespace(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| is_written_by_people(file)) {
        for (line, text) in file.text.split('\n').enumerate().map(|(index, text)| (index + 1, text)) {
            if text.ends_with([' ', '\t', '\r']) {
                violations.push(Violation::at(
                    &file.path,
                    line,
                    "whitespace",
                    "blanks at the end of the line",
                ));
            }
        }
        if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
            violations.push(Violation::of(
                &file.path,
                "whitespace",
                "the file does not end with one line feed",
            ));
        }
    }
    violations
}

/// No absolute path into a person's or a build machine's directories.
pub(crate) fn no_machine_paths(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| is_written_by_people(file)) {
        for (line, text) in numbered(&file.text) {
            if let Some(directory) = MACHINE_DIRECTORIES.iter().find(|name| names_directory(text, name)) {
                let message = format!("a path under /{directory} exists on one machine only");
                violations.push(Violation::at(&file.path, line, "machine-path", message));
            }
        }
    }
    violations
}

/// Manifests of members name no version: all stand in `[workspace.dependencies]`.
pub(crate) fn versions_in_one_place(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let is_member = |file: &&SourceFile| file.path.ends_with("/Cargo.toml") && !file.is_under("fuzz");
    for file in files.iter().filter(is_member) {
        let Ok(table) = file.text.parse::<toml::Table>() else {
            violations.push(Violation::of(&file.path, "versions", "this is not TOML"));
            continue;
        };
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let dependencies = table.get(section).and_then(toml::Value::as_table);
            for (name, value) in dependencies.into_iter().flatten() {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    let message = format!("{name}: write `{name}.workspace = true`");
                    violations.push(Violation::of(&file.path, "versions", message));
                }
            }
        }
    }
    violations
}

/// Every package comes from the public registry.
pub(crate) fn one_registry(files: &[SourceFile]) -> Vec<Violation> {
    const REGISTRY: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with("Cargo.lock")) {
        for (line, text) in numbered(&file.text) {
            if text.starts_with("source = ") && text != REGISTRY {
                violations.push(Violation::at(&file.path, line, "registry", "not from crates.io"));
            }
        }
    }
    violations
}

/// Every fuzz target has a committed corpus, and every corpus a target.
pub(crate) fn corpora(files: &[SourceFile]) -> Vec<Violation> {
    let targets: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs"))
        .collect();
    let corpora: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix("fuzz/corpus/")?.split_once('/'))
        .map(|(target, _)| target)
        .collect();
    let missing = targets.difference(&corpora).map(|target| {
        Violation::of(&format!("fuzz/corpus/{target}"), "corpus", "the target has no committed corpus")
    });
    let stray = corpora
        .difference(&targets)
        .map(|target| Violation::of(&format!("fuzz/corpus/{target}"), "corpus", "the corpus has no target"));
    missing.chain(stray).collect()
}

fn is_written_by_people(file: &SourceFile) -> bool {
    let by_extension = ["rs", "md", "toml", "sh", "py", "yml", "yaml"];
    by_extension.iter().any(|extension| file.has_extension(extension)) || file.is_under(".ci")
}

/// Whether `text` has the absolute path of something under `/name/`.
fn names_directory(text: &str, name: &str) -> bool {
    let needle = format!("/{name}/");
    text.match_indices(&needle).any(|(at, _)| {
        let before = text.get(..at).and_then(|s| s.chars().next_back());
        let after = text.get(at + needle.len()..).and_then(|s| s.chars().next());
        let begins = before.is_none_or(|c| c.is_whitespace() || "\"'`(=[<:".contains(c));
        begins && after.is_some_and(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::found;

    #[test]
    fn mod_rs_is_seen() {
        assert_eq!(found(no_mod_rs, &[("a/src/b/mod.rs", ""), ("a/src/b.rs", "")]), ["a/src/b/mod.rs:0"]);
    }

    #[test]
    fn a_file_that_is_too_long_is_seen() {
        let (short, long) = ("x\n".repeat(LINES_MAX), "x\n".repeat(LINES_MAX + 1));
        assert_eq!(found(file_length, &[("a.rs", &short), ("b.rs", &long), ("c.md", &long)]), ["b.rs:0"]);
    }

    #[test]
    fn blanks_at_the_end_are_seen() {
        let files =
            [("a.rs", "x \n"), ("b.md", "a\nb\r\n"), ("c.toml", "a"), ("d.sh", "a\n\n"), ("e.rs", "a\n")];
        assert_eq!(found(whitespace, &files), ["a.rs:1", "b.md:2", "c.toml:0", "d.sh:0"]);
    }

    #[test]
    fn machine_paths_are_seen() {
        let path = format!("let a = \"/{}/someone/x\";\n", "home");
        let prose = format!("see /{}/x\n", "tmp");
        let fine = "a /home page, corpus/*/work/x and target/tmp/x\n";
        let files = [("a.rs", path.as_str()), ("b.md", &prose), ("c.md", fine), ("d.ndjson", &path)];
        assert_eq!(found(no_machine_paths, &files), ["a.rs:1", "b.md:1"]);
    }

    #[test]
    fn a_version_in_a_member_is_seen() {
        let files = [
            ("a/Cargo.toml", "[dependencies]\nx.workspace = true\n"),
            ("b/Cargo.toml", "[dependencies]\nx = \"1\"\n[dev-dependencies]\ny = { path = \"../y\" }\n"),
            ("c/Cargo.toml", "[dependencies\n"),
            ("Cargo.toml", "[workspace.dependencies]\nx = \"1\"\n"),
            ("fuzz/Cargo.toml", "[dependencies]\nx = \"1\"\n"),
        ];
        assert_eq!(
            found(versions_in_one_place, &files),
            ["b/Cargo.toml:0", "b/Cargo.toml:0", "c/Cargo.toml:0"]
        );
    }

    #[test]
    fn another_registry_is_seen() {
        let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nsource = \"git+https://x\"\n";
        assert_eq!(found(one_registry, &[("Cargo.lock", lock)]), ["Cargo.lock:2"]);
    }

    #[test]
    fn a_target_without_corpus_and_a_corpus_without_target_are_seen() {
        let files = [
            ("fuzz/fuzz_targets/frame.rs", ""),
            ("fuzz/fuzz_targets/op.rs", ""),
            ("fuzz/corpus/op/1", ""),
            ("fuzz/corpus/gone/1", ""),
        ];
        assert_eq!(found(corpora, &files), ["fuzz/corpus/frame:0", "fuzz/corpus/gone:0"]);
    }
}
