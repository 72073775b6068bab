//! `tokens.toml`: who the clients are. Its model and its rules are in `federation_wire::api::token`.

use std::io;
use std::path::{Path, PathBuf};

use federation_wire::api::token::{TokenFault, Tokens, TokensFile};

use crate::files::{Existing, OpenTo, PrivateFileError, is_within, read_whole, write_whole};

/// Bytes beyond which a file is no tokens file: as many tokens as there may be, with some 500 bytes each.
const TOKENS_FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// The mode of a tokens file.
const TOKENS_FILE_MODE: u32 = 0o600;

/// Bytes of a word that is shown of what the parser says: all our keys are shorter, all secrets longer.
const WORD_BYTES_MAX: usize = 24;

/// Why the tokens could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// There is no file.
    #[error(
        "tokens file {}: missing; a file that is named must exist: make a token with \
         `federationd token create --tokens-file {}`",
        path.display(),
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may use it.
    #[error("tokens file {}: its mode is {mode:04o}, open to others; run `chmod 600 {}`", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is larger than such a file can be.
    #[error("tokens file {}: larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// It is not UTF-8.
    #[error("tokens file {}: is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// It could not be read.
    #[error("tokens file {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: PrivateFileError,
    },
    /// It has another form. The line itself is not shown: a secret may have been put there by mistake.
    #[error("tokens file {}, line {line}: {message}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// Entries are faulty.
    #[error("tokens file {}: {}", path.display(), listed(faults))]
    Faulty {
        /// The file.
        path: PathBuf,
        /// Each fault, with its entry and field.
        faults: Vec<TokenFault>,
    },
    /// The file would lie in the data directory.
    #[error(
        "tokens file {}: lies in the data directory {}; a lost or restored disk must not change who is let in: put it \
         beside the config",
        path.display(),
        data_dir.display()
    )]
    InDataDir {
        /// The file.
        path: PathBuf,
        /// The directory.
        data_dir: PathBuf,
    },
    /// It could not be written.
    #[error("tokens file {}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads the file. Its entries may still be faulty: [`tokens`] tells.
///
/// # Errors
/// If the file is missing, in the data directory, open to others than its owner, or has another form.
pub fn load(path: &Path, data_dir: &Path) -> Result<TokensFile, TokensError> {
    if is_within(path, data_dir) {
        return Err(TokensError::InDataDir { path: path.to_owned(), data_dir: data_dir.to_owned() });
    }
    // One byte more than there may be tells a file that is too large from one that is not.
    let bytes = read_whole(path, OpenTo::Owner, TOKENS_FILE_BYTES_MAX + 1).map_err(|error| match error {
        PrivateFileError::Missing => TokensError::Missing { path: path.to_owned() },
        PrivateFileError::TooOpen { mode } => TokensError::TooOpen { path: path.to_owned(), mode },
        why => TokensError::Unreadable { path: path.to_owned(), why },
    })?;
    if bytes.len() as u64 > TOKENS_FILE_BYTES_MAX {
        return Err(TokensError::TooLarge { path: path.to_owned(), limit_bytes: TOKENS_FILE_BYTES_MAX });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| TokensError::NotText { path: path.to_owned() })?;
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        TokensError::Form { path: path.to_owned(), line, message: without_secrets(error.message()) }
    })
}

/// Reads the file, or begins an empty one where there is none.
///
/// # Errors
/// As [`load`], a missing file aside.
pub fn load_or_new(path: &Path, data_dir: &Path) -> Result<TokensFile, TokensError> {
    match load(path, data_dir) {
        Err(TokensError::Missing { .. }) => Ok(TokensFile::default()),
        result => result,
    }
}

/// What the file means.
///
/// # Errors
/// [`TokensError::Faulty`] with every fault of every entry.
pub fn tokens(path: &Path, file: &TokensFile) -> Result<Tokens, TokensError> {
    Tokens::new(&file.tokens).map_err(|faults| TokensError::Faulty { path: path.to_owned(), faults })
}

/// Writes the file in one step, after checking it.
///
/// # Errors
/// If an entry is faulty, or the file cannot be written.
pub fn save(path: &Path, file: &TokensFile) -> Result<(), TokensError> {
    tokens(path, file)?;
    let failed = |source| TokensError::Write { path: path.to_owned(), source };
    let body = toml::to_string(file).map_err(|error| failed(io::Error::other(error)))?;
    let text = format!("# Client tokens. Written by `federationd token`; change it with that.\n\n{body}");
    write_whole(path, text.as_bytes(), TOKENS_FILE_MODE, Existing::Replace).map_err(failed)
}

/// The parser's message without what may be a secret or a part of one: any word that is longer than our own are.
fn without_secrets(message: &str) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let words = message.split_inclusive(|c: char| !is_of_word(c));
    words.map(|word| if word.len() > WORD_BYTES_MAX { ".. " } else { word }).collect()
}

fn listed(faults: &[TokenFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use federation_wire::api::token::{ClientSecret, Right, TokenEntry};

    use super::*;
    use crate::random::system_rng;

    fn entry(id: &str) -> TokenEntry {
        TokenEntry {
            id: id.to_owned(),
            hash: ClientSecret::generate(&mut system_rng()).hash().to_string(),
            agents: vec!["ai:a".to_owned()],
            namespaces: vec!["**".to_owned()],
            rights: vec![Right::Read],
            created: "2026-01-01T00:00:00Z".to_owned(),
            expires: None,
        }
    }

    #[test]
    fn a_file_comes_back_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, data) = (dir.path().join("tokens.toml"), dir.path().join("data"));
        assert!(matches!(load(&path, &data), Err(TokensError::Missing { .. })));
        assert_eq!(load_or_new(&path, &data).unwrap(), TokensFile::default());
        let file = TokensFile { tokens: vec![entry("a"), entry("b")] };
        save(&path, &file).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(load(&path, &data).unwrap(), file);
        assert_eq!(tokens(&path, &file).unwrap().iter().count(), 2);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&path, &data), Err(TokensError::TooOpen { mode: 0o640, .. })));
        assert!(matches!(load(&path, dir.path()), Err(TokensError::InDataDir { .. })));
        assert!(matches!(load(dir.path(), &data), Err(TokensError::Unreadable { .. })));
    }

    #[test]
    fn a_faulty_file_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        let file = TokensFile { tokens: vec![entry("a"), entry("a")] };
        assert!(matches!(save(&path, &file), Err(TokensError::Faulty { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn a_secret_in_a_wrong_place_is_not_repeated_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let (path, data) = (dir.path().join("tokens.toml"), dir.path().join("data"));
        let secret = ClientSecret::generate(&mut system_rng()).to_text();
        let good = toml::to_string(&TokensFile { tokens: vec![entry("a")] }).unwrap();
        let check = |text: String, said: &str| {
            save(&path, &TokensFile::default()).unwrap();
            fs::write(&path, text).unwrap();
            let error = load(&path, &data).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(matches!(error, TokensError::Form { .. }) && told.contains(said), "{told}");
            assert!(!told.contains(&secret[5..15]), "{told}");
        };
        check(format!("{good}secret = \"{}\"\n", *secret), "secret");
        check(format!("{good}{} = 1\n", *secret), "line");
        check(good.replace("\"read\"", &format!("\"{}\"", *secret)), "line");
        check(format!("{good}expires = {}\n", *secret), "line");
        check(good.replace("[\"ai:a\"]", &format!("\"{}\"", *secret)), "line");
    }
}
