//! A text file as the rules see it: for Rust, what is code and what is comment, told apart.

use std::ops::Range;

/// A text file.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// For Rust: the text with comments and the insides of literals blanked. Else the text.
    pub(crate) code: String,
    /// For Rust: the text with all but comments blanked. Else nothing.
    pub(crate) comments: String,
}

impl SourceFile {
    /// The file of that path and text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) =
            if extension(path) == Some("rs") { split(text) } else { (text.to_owned(), String::new()) };
        Self { path: path.to_owned(), text: text.to_owned(), code, comments }
    }

    /// Whether the name ends so.
    pub(crate) fn has_extension(&self, wanted: &str) -> bool {
        extension(&self.path) == Some(wanted)
    }

    /// Whether it is a Rust file.
    pub(crate) fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    /// Whether the path lies under a directory.
    pub(crate) fn is_under(&self, directory: &str) -> bool {
        self.path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The lines that are tests: all of an integration test, else what follows `#[cfg(test)]`, which stands last.
    pub(crate) fn test_lines(&self) -> Range<usize> {
        if !self.is_rust() {
            return 0..0;
        }
        let count = self.text.lines().count();
        let is_integration_test =
            self.path.split('/').rev().nth(1) == Some("tests") || self.path.contains("/tests/");
        if is_integration_test {
            return 1..count + 1;
        }
        let from = self.code.lines().position(|line| line.trim() == "#[cfg(test)]");
        from.map_or(0..0, |index| index + 1..count + 1)
    }

    /// Numbers (from 1) and texts of the code lines that contain `needle`, not as a part of a longer word.
    pub(crate) fn code_lines_with<'a>(&'a self, needle: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        numbered(&self.code).filter(move |(_, line)| contains_word(line, needle))
    }
}

/// What follows the last dot of the last part of a path.
fn extension(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.rsplit_once('.').map(|(_, extension)| extension)
}

/// Lines with their numbers, from 1.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether `needle` occurs in `line` with no letter, digit or underscore before or after it.
pub(crate) fn contains_word(line: &str, needle: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts_as_word = needle.starts_with(is_word);
    let ends_as_word = needle.ends_with(is_word);
    line.match_indices(needle).any(|(at, found)| {
        let before = line.get(..at).and_then(|s| s.chars().next_back());
        let after = line.get(at + found.len()..).and_then(|s| s.chars().next());
        let joined =
            starts_as_word && before.is_some_and(is_word) || ends_as_word && after.is_some_and(is_word);
        !joined
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text { raw_hashes: Option<usize> },
    Character,
}

/// Splits Rust source into code and comments, both with the lines and columns of the original.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::new());
    let mut state = State::Code;
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let (length, next) = step(state, chars.get(at..).unwrap_or_default());
        let in_comment = is_comment(state) || is_comment(next);
        for &c in chars.get(at..at + length).unwrap_or(&[c]) {
            let kept = if c == '\n' { '\n' } else { ' ' };
            code.push(if state == State::Code && !in_comment { c } else { kept });
            comments.push(if in_comment { c } else { kept });
        }
        at += length;
        state = next;
    }
    (code, comments)
}

fn is_comment(state: State) -> bool {
    matches!(state, State::LineComment | State::BlockComment { .. })
}

/// How many characters belong together here, and the state after them.
fn step(state: State, rest: &[char]) -> (usize, State) {
    let starts = |with: &str| rest.iter().zip(with.chars()).filter(|(a, b)| **a == *b).count() == with.len();
    match state {
        State::Code => step_code(rest),
        State::LineComment if starts("\n") => (1, State::Code),
        State::BlockComment { depth } if starts("/*") => (2, State::BlockComment { depth: depth + 1 }),
        State::BlockComment { depth: 1 } if starts("*/") => (2, State::Code),
        State::BlockComment { depth } if starts("*/") => (2, State::BlockComment { depth: depth - 1 }),
        State::Text { raw_hashes: None } | State::Character if starts("\\") => (2, state),
        State::Text { raw_hashes: None } if starts("\"") => (1, State::Code),
        State::Text { raw_hashes: Some(hashes) } if starts(&format!("\"{}", "#".repeat(hashes))) => {
            (1 + hashes, State::Code)
        }
        State::Character if starts("'") => (1, State::Code),
        other => (1, other),
    }
}

fn step_code(rest: &[char]) -> (usize, State) {
    match rest {
        ['/', '/', ..] => (2, State::LineComment),
        ['/', '*', ..] => (2, State::BlockComment { depth: 1 }),
        ['"', ..] => (1, State::Text { raw_hashes: None }),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => (1, State::Character),
        ['r', '"' | '#', ..] => {
            let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
            if rest.get(1 + hashes) == Some(&'"') {
                (2 + hashes, State::Text { raw_hashes: Some(hashes) })
            } else {
                (1, State::Code)
            }
        }
        // A word is taken whole, so that its last letter does not begin a raw literal.
        [first, ..] if first.is_alphanumeric() || *first == '_' => {
            let word = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            let is_prefix = matches!(rest.get(..word), Some(['b' | 'c', 'r']))
                && matches!(rest.get(word), Some('"' | '#'));
            (if is_prefix { 1 } else { word }, State::Code)
        }
        _ => (1, State::Code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rust: &str, code: &str, comments: &str) {
        let file = SourceFile::new("a.rs", rust);
        assert_eq!(file.code, code, "code of {rust:?}");
        assert_eq!(file.comments.trim_end(), comments, "comments of {rust:?}");
        assert_eq!(file.code.lines().count(), rust.lines().count());
    }

    #[test]
    fn code_and_comments_are_told_apart() {
        check("a // b\nc", "a     \nc", "  // b");
        check("a /* b /* c */ d */ e", "a                   e", "  /* b /* c */ d */");
        check("f(\"x // y\") // z", "f(\"       )     ", "            // z");
        check("\"a\\\"b\" c", "\"      c", "");
    }

    #[test]
    fn raw_texts_lifetimes_and_characters() {
        let file = SourceFile::new(
            "a.rs",
            "r#\"todo!() \"x\" // no\"# ; let c = '\"'; fn f<'a>(x: &'a str) {} // yes",
        );
        assert!(!file.code.contains("todo"));
        assert!(file.code.contains("fn f<'a>(x: &'a str) {}"), "{}", file.code);
        assert_eq!(file.comments.trim(), "// yes");
        let file = SourceFile::new("a.rs", "br\"no\" var\"x\" '\\'' b'/' end");
        assert!(!file.code.contains("no") && file.code.ends_with("end"), "{}", file.code);
    }

    #[test]
    fn words_are_whole() {
        assert!(contains_word("use bincode::x;", "bincode"));
        assert!(!contains_word("use my_bincode::x;", "bincode"));
        assert!(!contains_word("Instant::nowhere()", "Instant::now"));
        assert!(contains_word("#[ignore]", "#[ignore"));
    }

    #[test]
    fn tests_are_found() {
        assert_eq!(SourceFile::new("crates/a/tests/b.rs", "x\ny\n").test_lines(), 1..3);
        assert_eq!(SourceFile::new("tests/src/b.rs", "x\n").test_lines(), 0..0);
        assert_eq!(SourceFile::new("a.rs", "x\n#[cfg(test)]\nmod tests {}\n").test_lines(), 2..4);
        assert_eq!(SourceFile::new("a.md", "x\n#[cfg(test)]\n").test_lines(), 0..0);
    }
}
