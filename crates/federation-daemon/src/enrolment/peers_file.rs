//! `peers.toml`: who the peers are. Its model and its rules are in `federation_wire::identity`.

use std::fs;
use std::io;
use std::path::Path;

use federation_core::id::KeyId;
use federation_wire::identity::{AcceptedSeries, Directory, Enrolment, KeyEntry, KeyState, PeersFile};
use federation_wire::keys::PublicKey;

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
    let peer = enrolled(file, id)?;
    peer.url = None;
    // A revoked key stays one: retired, it would prove again what it no longer may.
    for key in peer.keys.iter_mut().filter(|key| key.state == KeyState::Active) {
        key.state = KeyState::Retired;
    }
    Ok(())
}

/// Adds a key that a node connects and seals with, beside those it has.
///
/// # Errors
/// [`EnrolError::NotEnrolled`], or [`EnrolError::KeyEnrolled`] if the node has it, in whatever state.
pub fn add_key(file: &mut PeersFile, id: &str, key: &PublicKey) -> Result<(), EnrolError> {
    let peer = enrolled(file, id)?;
    if peer.keys.iter().any(|known| is_key(known, key.id())) {
        return Err(EnrolError::KeyEnrolled { id: id.to_owned(), key: key.id() });
    }
    peer.keys.push(KeyEntry::active(key));
    Ok(())
}

/// Retires one key of a node: what it sealed is still taken, and it connects no more.
///
/// # Errors
/// [`EnrolError::NotEnrolled`], [`EnrolError::KeyNotEnrolled`], [`EnrolError::KeyRevoked`], or
/// [`EnrolError::LastKey`] if no active one would be left.
pub fn retire_key(file: &mut PeersFile, id: &str, key: KeyId) -> Result<(), EnrolError> {
    let peer = enrolled(file, id)?;
    let others = peer.keys.iter().filter(|other| other.state == KeyState::Active && !is_key(other, key));
    if others.count() == 0 {
        return Err(EnrolError::LastKey { id: id.to_owned(), key });
    }
    match peer.keys.iter_mut().find(|known| is_key(known, key)) {
        None => Err(EnrolError::KeyNotEnrolled { id: id.to_owned(), key }),
        Some(known) if known.state == KeyState::Revoked => {
            Err(EnrolError::KeyRevoked { id: id.to_owned(), key })
        }
        Some(known) => {
            known.state = KeyState::Retired;
            Ok(())
        }
    }
}

/// Revokes one key of a node, or all of them: of what it sealed only the accepted series are taken from here on.
///
/// # Errors
/// [`EnrolError::NotEnrolled`] or [`EnrolError::KeyNotEnrolled`].
pub fn revoke(
    file: &mut PeersFile,
    id: &str,
    key: Option<KeyId>,
    accepted: &[AcceptedSeries],
) -> Result<(), EnrolError> {
    let peer = enrolled(file, id)?;
    let mut found = false;
    for known in peer.keys.iter_mut().filter(|known| key.is_none_or(|key| is_key(known, key))) {
        found = true;
        known.state = KeyState::Revoked;
        known.accepted = accepted.to_vec();
    }
    match key {
        Some(key) if !found => return Err(EnrolError::KeyNotEnrolled { id: id.to_owned(), key }),
        _ => {}
    }
    if peer.keys.iter().all(|key| key.state != KeyState::Active) {
        peer.url = None;
    }
    Ok(())
}

fn enrolled<'a>(file: &'a mut PeersFile, id: &str) -> Result<&'a mut Enrolment, EnrolError> {
    let not_enrolled = || EnrolError::NotEnrolled { id: id.to_owned() };
    file.peers.iter_mut().find(|peer| peer.id == id).ok_or_else(not_enrolled)
}

fn is_key(entry: &KeyEntry, id: KeyId) -> bool {
    entry.key.parse::<PublicKey>().is_ok_and(|key| key.id() == id)
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
    fn a_key_is_added_and_then_another_one_retired() {
        let key = |seed| NodeKey::from_seed(&[seed; 32]);
        let mut file = PeersFile { peers: vec![peer("a", 1, 1)] };
        let last = retire_key(&mut file, "a", key(1).id());
        assert!(matches!(last, Err(EnrolError::LastKey { .. })));
        add_key(&mut file, "a", key(2).public()).unwrap();
        assert!(matches!(add_key(&mut file, "a", key(1).public()), Err(EnrolError::KeyEnrolled { .. })));
        let unknown = retire_key(&mut file, "a", key(3).id());
        assert!(matches!(unknown, Err(EnrolError::KeyNotEnrolled { .. })));
        retire_key(&mut file, "a", key(1).id()).unwrap();
        let states: Vec<_> = file.peers[0].keys.iter().map(|key| key.state).collect();
        assert_eq!(states, [KeyState::Retired, KeyState::Active]);
        assert!(file.peers[0].url.is_some());
    }

    #[test]
    fn a_revoked_key_is_never_good_again() {
        let key = NodeKey::from_seed(&[1; 32]).id();
        let mut file = PeersFile { peers: vec![peer("a", 1, 1)] };
        let accepted = [AcceptedSeries { epoch: "0000000000000005".into(), last_seq: 3 }];
        let other = revoke(&mut file, "a", Some(NodeKey::from_seed(&[2; 32]).id()), &accepted);
        assert!(matches!(other, Err(EnrolError::KeyNotEnrolled { .. })));
        revoke(&mut file, "a", Some(key), &accepted).unwrap();
        assert_eq!((file.peers[0].url.as_ref(), &file.peers[0].keys[0].accepted[..]), (None, &accepted[..]));
        add_key(&mut file, "a", NodeKey::from_seed(&[2; 32]).public()).unwrap();
        assert!(matches!(retire_key(&mut file, "a", key), Err(EnrolError::KeyRevoked { .. })));
        retire(&mut file, "a").unwrap();
        let states: Vec<_> = file.peers[0].keys.iter().map(|key| key.state).collect();
        assert_eq!(states, [KeyState::Revoked, KeyState::Retired]);
        assert!(Directory::new(&file.peers).is_ok());
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
