//! Rules about documents.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{SourceFile, numbered};
use crate::violation::Violation;

const DECISIONS: &str = "docs/adr";

/// The decision that gives each dependency its reason.
const DEPENDENCIES: &str = "docs/adr/0005-dependencies.md";

/// What the project was asked for on: these need no reason.
const GIVEN: [&str; 10] =
    ["bincode", "blake3", "clap", "ed25519-dalek", "hyper", "proptest", "rustls", "serde", "sled", "tokio"];

/// Every decision has a number of its own and is listed in the README beside it.
pub(crate) fn decisions_are_listed(files: &[SourceFile]) -> Vec<Violation> {
    let index = format!("{DECISIONS}/README.md");
    let list = files.iter().find(|file| file.path == index).map_or("", |file| file.text.as_str());
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.is_under(DECISIONS) && file.path != index) {
        let name = file.path.rsplit('/').next().unwrap_or(&file.path);
        let number = name.split('-').next().unwrap_or(name);
        if number.len() != 4 || !number.chars().all(|c| c.is_ascii_digit()) || !file.has_extension("md") {
            violations.push(Violation::of(&file.path, "adr", "a decision is named NNNN-title.md"));
        } else if let Some(other) = numbers.insert(number, name) {
            violations.push(Violation::of(&file.path, "adr", format!("{other} has the same number")));
        }
        if !list.contains(&format!("({name})")) {
            violations.push(Violation::of(&file.path, "adr", format!("not listed in {index}")));
        }
    }
    violations
}

/// Every dependency beyond the given ones has a row with its reason, and every row a dependency.
pub(crate) fn dependencies_have_reasons(files: &[SourceFile]) -> Vec<Violation> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap_or_default();
    let declared = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let declared: BTreeSet<&str> = declared
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(toml::Table::keys)
        .map(String::as_str)
        .filter(|name| !name.starts_with("federation-") && !GIVEN.contains(name))
        .collect();
    let reasoned: BTreeSet<&str> = text(DEPENDENCIES)
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|cell| *cell != "package" && !cell.starts_with('-'))
        .flat_map(|cell| cell.split(", "))
        .collect();
    let missing = declared
        .difference(&reasoned)
        .map(|name| Violation::of("Cargo.toml", "reason", format!("{name} has no row in {DEPENDENCIES}")));
    let stale = reasoned
        .difference(&declared)
        .map(|name| Violation::of(DEPENDENCIES, "reason", format!("{name} is no dependency")));
    missing.chain(stale).collect()
}

/// A link to a file of this repository leads to one.
pub(crate) fn links_lead_to_files(files: &[SourceFile]) -> Vec<Violation> {
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        paths.extend(file.path.match_indices('/').filter_map(|(at, _)| file.path.get(..at)));
        paths.insert(&file.path);
    }
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.has_extension("md")) {
        for (line, text) in numbered(&file.text) {
            for target in targets(text).filter(|target| !is_elsewhere(target)) {
                let target = target.split('#').next().unwrap_or(target);
                let resolved = resolve(&file.path, target);
                if !resolved.is_some_and(|path| path.is_empty() || paths.contains(path.as_str())) {
                    let message = format!("{target} does not exist");
                    violations.push(Violation::at(&file.path, line, "link", message));
                }
            }
        }
    }
    violations
}

/// The document that says which test shows what.
const THREATS: &str = "docs/SECURITY.md";

/// A test that the threats name, as `file::test`, is in that file.
pub(crate) fn named_tests_exist(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.path == THREATS) {
        for (line, text) in numbered(&file.text) {
            for (module, test) in text.split('`').skip(1).step_by(2).filter_map(|code| code.rsplit_once("::"))
            {
                // `net::tls` names code: tests are sentences.
                if test.matches('_').count() < 3 || has_test(files, module, test) {
                    continue;
                }
                violations.push(Violation::at(THREATS, line, "test", format!("no test {test} in {module}")));
            }
        }
    }
    violations
}

fn has_test(files: &[SourceFile], module: &str, test: &str) -> bool {
    let (name, function) = (format!("/{module}.rs"), format!("fn {test}("));
    files.iter().filter(|file| file.path.ends_with(&name)).any(|file| {
        let tests = file.test_lines();
        numbered(&file.code).any(|(line, text)| tests.contains(&line) && text.contains(&function))
    })
}

/// Documents and code are plain text: no pictographs.
pub(crate) fn plain_text(files: &[SourceFile]) -> Vec<Violation> {
    let is_pictograph = |c: char| matches!(u32::from(c), 0x2600..=0x27bf | 0x1f000..=0x1faff);
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.has_extension("md") || file.is_rust()) {
        for (line, text) in numbered(&file.text) {
            if text.contains(is_pictograph) {
                violations.push(Violation::at(&file.path, line, "plain", "a pictograph: say it in words"));
            }
        }
    }
    violations
}

/// Targets of the Markdown links in a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

fn is_elsewhere(target: &str) -> bool {
    target.starts_with('#') || target.contains("://") || target.starts_with("mailto:")
}

/// The path from the root of `target` as seen from `file`; none if it leaves the repository.
fn resolve(file: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::found;

    #[test]
    fn a_decision_that_is_not_listed_is_seen() {
        let files = [
            ("docs/adr/README.md", "- [one](0001-one.md)\n- [three](0001-three.md)\n- [x](four.md)\n"),
            ("docs/adr/0001-one.md", ""),
            ("docs/adr/0001-three.md", ""),
            ("docs/adr/0002-two.md", ""),
            ("docs/adr/four.md", ""),
        ];
        assert_eq!(
            found(decisions_are_listed, &files),
            ["docs/adr/0001-three.md:0", "docs/adr/0002-two.md:0", "docs/adr/four.md:0"]
        );
    }

    #[test]
    fn a_dependency_without_a_reason_is_seen() {
        let manifest = "[workspace.dependencies]\ntokio = \"1\"\nfederation-core.path = \"x\"\n\
                        bytes = \"1\"\nhttp = \"1\"\nnew = \"1\"\n";
        let table = "| package | used in |\n| --- | --- |\n| bytes, http | net |\n| gone | net |\n";
        let files = [("Cargo.toml", manifest), (DEPENDENCIES, table)];
        assert_eq!(
            found(dependencies_have_reasons, &files),
            ["Cargo.toml:0", "docs/adr/0005-dependencies.md:0"]
        );
    }

    #[test]
    fn a_link_to_nothing_is_seen() {
        let text = "[a](../README.md) [b](gone.md)\n[c](https://x.y) [d](#e) [f](adr/) [g](../../out.md)\n[h](b.md#i)\n";
        let files =
            [("docs/a.md", text), ("docs/b.md", ""), ("docs/adr/1.md", ""), ("README.md", "[x](docs)\n")];
        assert_eq!(found(links_lead_to_files, &files), ["docs/a.md:1", "docs/a.md:2"]);
    }

    #[test]
    fn a_test_that_is_named_and_not_there_is_seen() {
        let text = "`net::tls` `t/a::what_is_there_is_found`\n`t/a::what_is_not_there_is_seen`\n`b::what_is_there_is_found`\n";
        let files = [
            (THREATS, text),
            ("x/tests/t/a.rs", "fn what_is_there_is_found() {}\n// fn what_is_not_there_is_seen()\n"),
            ("src/b.rs", "fn what_is_there_is_found() {}\n#[cfg(test)]\nmod tests {}\n"),
        ];
        assert_eq!(found(named_tests_exist, &files), ["docs/SECURITY.md:2", "docs/SECURITY.md:3"]);
    }

    #[test]
    fn a_pictograph_is_seen() {
        let text = "plain -> text, \u{b7} too\n\u{1f680}\n\u{2714}\n";
        assert_eq!(found(plain_text, &[("a.md", text)]), ["a.md:2", "a.md:3"]);
    }
}
