//! House rules that neither the compiler nor clippy knows. Each rule is a function from files to violations.

mod docs;
mod rust;
mod tree;

use anyhow::Result;

use crate::repository::Repository;
use crate::source::SourceFile;
use crate::violation::Violation;

type Rule = fn(&[SourceFile]) -> Vec<Violation>;

const RULES: [Rule; 18] = [
    tree::no_mod_rs,
    tree::file_length,
    tree::whitespace,
    tree::no_machine_paths,
    tree::versions_in_one_place,
    tree::one_registry,
    tree::corpora,
    rust::nothing_unfinished,
    rust::no_skipped_tests,
    rust::lints_are_expected_not_allowed,
    rust::bincode_in_the_codec_alone,
    rust::clocks_at_their_seams,
    rust::tests_poll,
    docs::decisions_are_listed,
    docs::dependencies_have_reasons,
    docs::links_lead_to_files,
    docs::named_tests_exist,
    docs::plain_text,
];

/// Checks the tree.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn check(repository: &Repository) -> Result<Vec<Violation>> {
    let files = repository.files()?;
    let mut violations: Vec<Violation> = RULES.iter().flat_map(|rule| rule(&files)).collect();
    violations.sort();
    Ok(violations)
}

/// A tree of files, given as (path, text), and the places that a rule finds in it, as `path:line`.
#[cfg(test)]
fn found(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<SourceFile> = files.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
    rule(&files).into_iter().map(|violation| format!("{}:{}", violation.path, violation.line)).collect()
}
