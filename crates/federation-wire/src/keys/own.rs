//! A node's own keys, and the file that holds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use federation_core::dot::Dot;
use federation_core::id::{BootId, KeyId};
use zeroize::Zeroizing;

use super::{KeyError, NodeKey, PublicKey};
use crate::identity::{ACCEPTED_SERIES_MAX, EnrolledKey, KeyRefusal, KeyState};

/// What the line of a key that was rotated away begins with.
const RETIRED_TAG: &str = "retired ";
/// What the line of one that was stolen begins with.
const REVOKED_TAG: &str = "revoked ";
/// Bytes of the longest line of a key file without its series, about.
const LINE_BYTES_MAX: usize = 96;
/// Bytes of the longest series: the epoch, a colon, the number, and a space before.
const SERIES_BYTES_MAX: usize = 38;
/// Keys that a node may have had before: as many as an enrolment has room for, and one that is active.
const FORMER_MAX: usize = 31;

/// A node's own keys: the one it signs with, and the public halves of those it signed with before, which its own
/// older ops are proven by. What a key file holds.
#[derive(Clone, Debug)]
pub struct OwnKeys {
    active: Arc<NodeKey>,
    /// Retired or revoked, oldest first.
    former: Vec<EnrolledKey>,
}

impl OwnKeys {
    /// A node that has had no other key.
    pub fn new(active: Arc<NodeKey>) -> Self {
        Self { active, former: Vec::new() }
    }

    /// The key that it signs with.
    pub fn active(&self) -> &Arc<NodeKey> {
        &self.active
    }

    /// Those before, retired or revoked, oldest first.
    pub fn former(&self) -> &[EnrolledKey] {
        &self.former
    }

    /// The key of this id, if the node has it or has had it.
    pub fn public(&self, id: KeyId) -> Option<&PublicKey> {
        let former = self.former.iter().map(|key| &key.public);
        std::iter::once(self.active.public()).chain(former).find(|key| key.id() == id)
    }

    /// The key of this id, unless it was revoked: what that one signed may be of whoever took it.
    pub fn trusted(&self, id: KeyId) -> Option<&PublicKey> {
        let is_revoked =
            self.former.iter().any(|key| key.public.id() == id && key.state == KeyState::Revoked);
        self.public(id).filter(|_| !is_revoked)
    }

    /// The key under which the node's own op of this dot may be sealed, or may have been: by the same rule as
    /// [`crate::identity::Directory::sealing_key`] for the others.
    ///
    /// # Errors
    /// [`KeyRefusal`].
    pub fn sealing_key(&self, dot: &Dot, id: KeyId) -> Result<&PublicKey, KeyRefusal> {
        match self.former.iter().find(|key| key.public.id() == id) {
            Some(former) => former.sealing(dot),
            None => self.public(id).ok_or(KeyRefusal::Unknown),
        }
    }

    /// The same node with another key to sign with.
    ///
    /// # Errors
    /// [`KeyError::TooManyRetired`].
    pub fn rotated(&self, active: Arc<NodeKey>) -> Result<Self, KeyError> {
        let mut former = self.former.clone();
        former.push(retired(self.active.public().clone()));
        if former.len() > FORMER_MAX {
            return Err(KeyError::TooManyRetired { limit: FORMER_MAX });
        }
        Ok(Self { active, former })
    }

    /// The same node, which takes of what a key of before has sealed only the series named, up to the last number of
    /// each.
    ///
    /// # Errors
    /// [`KeyError::StillActive`], [`KeyError::NotOwn`], [`KeyError::EpochTwice`], [`KeyError::TooManyAccepted`].
    pub fn revoked(&self, id: KeyId, series: &[(BootId, u64)]) -> Result<Self, KeyError> {
        if self.active.id() == id {
            return Err(KeyError::StillActive(id));
        }
        let mut keys = self.clone();
        let found = keys.former.iter_mut().find(|key| key.public.id() == id);
        let found = found.ok_or(KeyError::NotOwn(id))?;
        *found = revoked(found.public.clone(), series.iter().copied().map(Ok))?;
        Ok(keys)
    }

    /// The revoked keys of which `before` takes something else than these do.
    pub fn newly_revoked(&self, before: &Self) -> impl Iterator<Item = KeyId> {
        let revoked = self.former.iter().filter(|key| key.state == KeyState::Revoked);
        revoked.filter(|key| !before.former.contains(key)).map(|key| key.public.id())
    }

    /// The keys that a key file holds.
    ///
    /// # Errors
    /// [`KeyError`] if `text` has not the form of [`OwnKeys::to_file_text`].
    pub fn from_file_text(text: &str) -> Result<Self, KeyError> {
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let active = Arc::new(NodeKey::from_file_line(lines.next().ok_or(KeyError::File)?)?);
        let mut former = Vec::new();
        for line in lines {
            if former.len() == FORMER_MAX {
                return Err(KeyError::TooManyRetired { limit: FORMER_MAX });
            }
            former.push(from_line(line)?);
        }
        Ok(Self { active, former })
    }

    /// The text of a key file, versioned. Its first line is the secret itself: mode 0600 and nowhere else.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let series: usize = self.former.iter().map(|key| key.accepted.len()).sum();
        // Room for all at once: a text that grows leaves copies of the secret behind.
        let room = (1 + self.former.len()) * LINE_BYTES_MAX + series * SERIES_BYTES_MAX;
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str(&self.active.to_file_line());
        for EnrolledKey { public, state, accepted } in &self.former {
            let tag = if *state == KeyState::Revoked { REVOKED_TAG } else { RETIRED_TAG };
            text.extend([tag, &public.to_string()]);
            text.extend(accepted.iter().map(|(epoch, last)| format!(" {epoch}:{last}")));
            text.push('\n');
        }
        text
    }
}

fn retired(public: PublicKey) -> EnrolledKey {
    EnrolledKey { public, state: KeyState::Retired, accepted: BTreeMap::new() }
}

fn revoked(
    public: PublicKey,
    series: impl Iterator<Item = Result<(BootId, u64), KeyError>>,
) -> Result<EnrolledKey, KeyError> {
    let mut accepted = BTreeMap::new();
    for series in series {
        let (epoch, last) = series?;
        if accepted.len() == ACCEPTED_SERIES_MAX {
            return Err(KeyError::TooManyAccepted { limit: ACCEPTED_SERIES_MAX });
        }
        if accepted.insert(epoch, last).is_some() {
            return Err(KeyError::EpochTwice(epoch));
        }
    }
    Ok(EnrolledKey { public, state: KeyState::Revoked, accepted })
}

fn from_line(line: &str) -> Result<EnrolledKey, KeyError> {
    if let Some(key) = line.strip_prefix(RETIRED_TAG) {
        return Ok(retired(key.parse()?));
    }
    let mut words = line.strip_prefix(REVOKED_TAG).ok_or(KeyError::File)?.split(' ');
    let public = words.next().ok_or(KeyError::File)?.parse()?;
    let series = |word: &str| {
        let (epoch, last) = word.split_once(':')?;
        Some((epoch.parse().ok()?, last.parse().ok()?))
    };
    revoked(public, words.map(|word| series(word).ok_or(KeyError::File)))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use federation_core::dot::Origin;
    use federation_core::id::NodeId;

    use super::*;

    #[test]
    fn a_key_file_holds_the_key_and_debug_does_not_show_it() {
        let key = own(7);
        let text = key.to_file_text();
        let again = OwnKeys::from_file_text(&text).unwrap();
        assert_eq!(again.active().public(), key.active().public());
        assert_eq!(OwnKeys::from_file_text(text.trim_end()).unwrap().active().id(), key.active().id());
        let secret = URL_SAFE_NO_PAD.encode([7; 32]);
        assert!(text.contains(&secret));
        assert!(!format!("{key:?} {again:#?}").contains(&secret));
        assert!(!format!("{key:?}").contains("[7, 7"));
    }

    fn own(seed: u8) -> OwnKeys {
        OwnKeys::new(Arc::new(NodeKey::from_seed(&[seed; 32])))
    }

    #[test]
    fn a_rotated_key_stays_as_a_public_one_alone() {
        let keys = own(1)
            .rotated(Arc::clone(own(2).active()))
            .unwrap()
            .rotated(Arc::clone(own(3).active()))
            .unwrap();
        let text = keys.to_file_text();
        let again = OwnKeys::from_file_text(&text).unwrap();
        assert_eq!(again.active().id(), own(3).active().id());
        let ids: Vec<_> = again.former().iter().map(|key| key.public.id()).collect();
        assert_eq!(ids, [own(1).active().id(), own(2).active().id()]);
        assert_eq!(again.public(own(2).active().id()), Some(own(2).active().public()));
        assert_eq!(again.public(own(4).active().id()), None);
        for seed in [1, 2] {
            assert!(!text.contains(&URL_SAFE_NO_PAD.encode([seed; 32])));
        }
        let mut many = own(1);
        for seed in 2..=32 {
            many = many.rotated(Arc::clone(own(seed).active())).unwrap();
        }
        assert!(OwnKeys::from_file_text(&many.to_file_text()).is_ok());
        let limit = KeyError::TooManyRetired { limit: FORMER_MAX };
        assert_eq!(many.rotated(Arc::clone(own(33).active())).err(), Some(limit));
        let one_more = format!("{}retired {}\n", *many.to_file_text(), own(40).active().public());
        assert_eq!(OwnKeys::from_file_text(&one_more).err(), Some(limit));
    }

    #[test]
    fn a_revoked_key_proves_what_is_named_and_stays_so_in_the_file() {
        let (old, new) = (own(1), own(2));
        let keys = old.rotated(Arc::clone(new.active())).unwrap();
        let (old, new) = (old.active(), new.active());
        let dot = |epoch, seq| {
            let node = NodeId::new("a").unwrap();
            Dot { origin: Origin { node, epoch: BootId(epoch) }, seq }
        };
        assert_eq!(keys.sealing_key(&dot(5, 9), old.id()), Ok(old.public()));
        let series = [(BootId(5), 3), (BootId(7), u64::MAX)];
        let keys = keys.revoked(old.id(), &series).unwrap();
        let text = keys.to_file_text();
        assert!(
            text.capacity() >= text.len()
                && text.ends_with(" 0000000000000005:3 0000000000000007:18446744073709551615\n")
        );
        for keys in [&keys, &OwnKeys::from_file_text(&text).unwrap()] {
            assert_eq!(keys.sealing_key(&dot(5, 3), old.id()), Ok(old.public()));
            assert_eq!(keys.sealing_key(&dot(5, 4), old.id()), Err(KeyRefusal::Revoked));
            assert_eq!(keys.sealing_key(&dot(6, 1), old.id()), Err(KeyRefusal::Revoked));
            assert_eq!(keys.sealing_key(&dot(5, 4), new.id()), Ok(new.public()));
            assert_eq!(keys.sealing_key(&dot(5, 4), own(3).active().id()), Err(KeyRefusal::Unknown));
        }
        let nothing = keys.revoked(old.id(), &[]).unwrap();
        let nothing = OwnKeys::from_file_text(&nothing.to_file_text()).unwrap();
        assert_eq!(nothing.sealing_key(&dot(5, 1), old.id()), Err(KeyRefusal::Revoked));
        let fault = |id, series: &[_]| keys.revoked(id, series).err();
        assert_eq!(fault(new.id(), &[]), Some(KeyError::StillActive(new.id())));
        assert_eq!(fault(own(3).active().id(), &[]), Some(KeyError::NotOwn(own(3).active().id())));
        let twice = [(BootId(5), 3), (BootId(5), 4)];
        assert_eq!(fault(old.id(), &twice), Some(KeyError::EpochTwice(BootId(5))));
        let many: Vec<_> = (0..=ACCEPTED_SERIES_MAX as u64).map(|epoch| (BootId(epoch), 1)).collect();
        let limit = KeyError::TooManyAccepted { limit: ACCEPTED_SERIES_MAX };
        assert_eq!(fault(old.id(), &many), Some(limit));
        assert!(fault(old.id(), &many[1..]).is_none());
    }

    #[test]
    fn other_key_files_are_refused() {
        let good = own(7).to_file_text();
        for bad in [
            "",
            "\n",
            "federation-node-key-v1",
            "federation-node-key-v1 ",
            &good.replace("v1", "v2"),
            &good.replace(' ', "  "),
            &good.replace("ed25519:", ""),
            &format!("{}\n", &*good),
            &format!(" {}", &*good),
            &good.replace("BwcHBwcHBwc", "BwcHBwcHBw"),
            &format!("{0}{0}", &*good),
            &format!("{}retired\n", &*good),
            &format!("{}retired  {}\n", &*good, own(1).active().public()),
            &format!("{}active {}\n", &*good, own(1).active().public()),
            &format!("{}retired {} 0000000000000005:1\n", &*good, own(1).active().public()),
            &format!("{}revoked {} \n", &*good, own(1).active().public()),
            &format!("{}revoked {} 5:1\n", &*good, own(1).active().public()),
            &format!("{}revoked {} 0000000000000005:-1\n", &*good, own(1).active().public()),
        ] {
            assert!(OwnKeys::from_file_text(bad).is_err(), "{bad:?}");
        }
    }
}
