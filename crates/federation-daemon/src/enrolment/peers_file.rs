//! `peers.toml`: who the peers are. Its model and its rules are in `federation_wire::identity`.

use std::fs;
use std::io;
use std::path::Path;

use federation_wire::identity::{Directory, Enrolment, KeyState, PeersFile};

use crate::enrolment::EnrolError;
use crate::files::{Existing, write_whole};

/// Bytes beyond which a file is no enrolment file: 64 nodes with 32 keys each stay far below.
const PEERS_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads the file. Its entries may still be faulty: [`directory`] tells.
///
/// # Errors
/// If the file is missing, cannot be read, or has another form.
pub fn load(path: &Path) -> Result<PeersFile, EnrolError> {
    let unreadable = |source| EnrolError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > PEERS_FILE_BYTES_MAX {
        return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text)
        .map_err(|error| EnrolError::PeersForm { path: path.to_owned(), message: error.to_string() })
}

/// Reads the file, or begins an empty one where there is none.
pub fn load_or_new(path: &Path) -> Result<PeersFile, EnrolError> {
    match load(path) {
        Err(EnrolError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(PeersFile::default())
        }
        result => result,
    }
}

/// What the file means.
///
/// # Errors
/// [`EnrolError::PeersFaulty`] with every fault of every entry.
pub fn directory(path: &Path, file: &PeersFile) -> Result<Directory, EnrolError> {
    Directory::new(&file.peers).map_err(|faults| EnrolError::PeersFaulty { path: path.to_owned(), faults })
}

/// Writes the file in one step, after checking it.
pub fn save(path: &Path, file: &PeersFile) -> Result<(), EnrolError> {
    directory(path, file)?;
    let body = toml::to_string(file)
        .map_err(|error| EnrolError::PeersForm { path: path.to_owned(), message: error.to_string() })?;
    let text = format!("# Enrolled peers. Written by `federationd peer`; change it with that.\n\n{body}");
    write_whole(path, text.as_bytes(), 0o644, Existing::Replace)
        .map_err(|source| EnrolError::Write { path: path.to_owned(), source })
}

/// Puts an entry in the place of the one of the same id, or behind all.
pub fn replace(file: &mut PeersFile, enrolment: Enrolment) {
    match file.peers.iter_mut().find(|peer| peer.id == enrolment.id) {
        Some(peer) => *peer = enrolment,
        None => file.peers.push(enrolment),
    }
}

/// Retires a node: it no longer calls and is no longer dialled; what it signed is still taken, by relay.
///
/// # Errors
/// [`EnrolError::NotEnrolled`].
pub fn retire(file: &mut PeersFile, id: &str) -> Result<(), EnrolError> {
    let Some(peer) = file.peers.iter_mut().find(|peer| peer.id == id) else {
        return Err(EnrolError::NotEnrolled { id: id.to_owned() });
    };
    peer.url = None;
    for key in &mut peer.keys {
        key.state = KeyState::Retired;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use federation_wire::keys::NodeKey;

    use super::*;

    fn peer(id: &str, port: u16, seed: u8) -> Enrolment {
        Enrolment::full(id, &format!("http://127.0.0.1:{port}"), NodeKey::from_seed(&[seed; 32]).public())
    }

    #[test]
    fn a_file_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.toml");
        let mut file = load_or_new(&path).unwrap();
        replace(&mut file, peer("a", 1, 1));
        replace(&mut file, peer("b", 2, 2));
        replace(&mut file, peer("a", 3, 1));
        save(&path, &file).unwrap();
        let again = load(&path).unwrap();
        assert_eq!(again, file);
        assert_eq!(again.peers.len(), 2);
        assert_eq!(directory(&path, &again).unwrap().nodes().count(), 2);
    }

    #[test]
    fn a_faulty_file_is_not_written_and_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.toml");
        let file = PeersFile { peers: vec![peer("a", 1, 1), peer("b", 1, 2)] };
        assert!(matches!(save(&path, &file), Err(EnrolError::PeersFaulty { .. })));
        assert!(!path.exists());
        fs::write(&path, "[[peer]]\nid = \"a\"\nkeys = []\ncolour = 1\n").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("colour"), "{error}");
    }

    #[test]
    fn a_retired_node_stays_as_an_origin() {
        let mut file = PeersFile { peers: vec![peer("a", 1, 1)] };
        assert!(matches!(retire(&mut file, "b"), Err(EnrolError::NotEnrolled { .. })));
        retire(&mut file, "a").unwrap();
        let directory = Directory::new(&file.peers).unwrap();
        let node = directory.nodes().next().unwrap();
        assert!(node.is_retired() && node.url.is_none());
        assert_eq!(node.keys.len(), 1);
    }
}
