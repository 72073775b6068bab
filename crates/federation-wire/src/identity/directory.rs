//! What the enrolments mean.

use std::collections::BTreeMap;
use std::fmt;

use federation_core::attest::{Authors, Kinds, ListError, Trust};
use federation_core::dot::Dot;
use federation_core::id::{BootId, IdError, KeyId, NodeId};
use federation_core::limits::NODES_MAX;
use federation_core::planted::{Defect, is_planted};
use federation_core::scope::{Scope, ScopeError};

use super::url::{PeerUrl, UrlError};
use super::{Enrolment, KeyEntry, KeyState, ProtocolChoice};
use crate::codec;
use crate::hex;
use crate::keys::{KeyError, PublicKey};
use crate::v1::types::Wire;

const CONFIG_DOMAIN: &[u8] = b"federation/v1/config\0";
const ACCEPTANCE_DOMAIN: &[u8] = b"federation/v1/acceptance\0";
/// Keys of one node: two while one is rotated, the retired ones beside them.
const KEYS_PER_NODE_MAX: usize = 32;
/// Series that are named of one revoked key: each is a start of its node without an orderly end before it.
pub(crate) const ACCEPTED_SERIES_MAX: usize = 1_024;

/// The enrolled nodes, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    nodes: BTreeMap<NodeId, EnrolledNode>,
}

/// A node that is enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledNode {
    /// Its node id.
    pub id: NodeId,
    /// Where it is dialled, if at all.
    pub url: Option<PeerUrl>,
    /// Its keys, by id.
    pub keys: BTreeMap<KeyId, EnrolledKey>,
    /// What it is trusted with.
    pub trust: Trust,
    /// SHA-256 of its certificate, where an operator brings a PKI.
    pub tls_fingerprint: Option<[u8; 32]>,
    /// What it speaks.
    pub protocol: ProtocolChoice,
}

/// A key and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledKey {
    /// The key.
    pub public: PublicKey,
    /// What it is good for.
    pub state: KeyState,
    /// Of a revoked key: the last number of each series that is still taken.
    pub accepted: BTreeMap<BootId, u64>,
}

/// Why a key does not prove an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// The origin has no key of that id.
    Unknown,
    /// The key is revoked, and the op is not among those that are still taken under it.
    Revoked,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryFault {
    /// Place of the entry in the file, from 1.
    pub entry: usize,
    /// The id that the entry gives.
    pub id: String,
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub kind: FaultKind,
}

/// What is wrong with a field of an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// The id is not a node id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Two entries have this id.
    #[error("another entry has the same id")]
    DuplicateId,
    /// The URL is not one.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Two entries have this URL.
    #[error("another entry has the same URL")]
    DuplicateUrl,
    /// A key is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key's id is another than the one that stands beside it.
    #[error("the key's id is {0}")]
    KeyId(KeyId),
    /// The key stands twice, here or at another node.
    #[error("the key {0} stands twice")]
    DuplicateKey(KeyId),
    /// There is no key, or there are too many.
    #[error("a node has 1 to {limit} keys, this one has {count}")]
    KeyCount {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A scope is not one.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A list of authors or kinds is not one.
    #[error(transparent)]
    List(#[from] ListError),
    /// The fingerprint is not 64 hexadecimal digits.
    #[error("a fingerprint is 64 hexadecimal digits")]
    Fingerprint,
    /// An epoch is not one.
    #[error("an epoch is 16 hexadecimal digits, not {0:?}")]
    Epoch(String),
    /// An epoch stands twice.
    #[error("the epoch {0} stands twice")]
    DuplicateEpoch(BootId),
    /// A key that is not revoked says what is still taken under it.
    #[error("only a revoked key has accepted series, and this one is {}", .0.as_str())]
    AcceptedOfUnrevoked(KeyState),
    /// Too many series are accepted.
    #[error("a revoked key has at most {limit} accepted series, this one has {count}")]
    AcceptedCount {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Two entries have this fingerprint.
    #[error("another entry has the same fingerprint: a certificate is of one node")]
    DuplicateFingerprint,
    /// There are too many entries.
    #[error("a mesh has at most {limit} nodes")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for DirectoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {} ({:?}), {}: {}", self.entry, self.id, self.field, self.kind)
    }
}

impl std::error::Error for DirectoryFault {}

impl Directory {
    /// What these entries mean.
    ///
    /// # Errors
    /// Every fault of every entry.
    pub fn new(enrolments: &[Enrolment]) -> Result<Self, Vec<DirectoryFault>> {
        let mut directory = Self::default();
        let mut faults = Vec::new();
        for (index, enrolment) in enrolments.iter().enumerate() {
            let mut report = Report { entry: index + 1, id: &enrolment.id, faults: &mut faults };
            if index >= NODES_MAX {
                report.add("id", FaultKind::TooMany { limit: NODES_MAX });
                break;
            }
            if let Some(node) = read_entry(enrolment, &directory, &mut report) {
                directory.nodes.insert(node.id.clone(), node);
            }
        }
        if faults.is_empty() { Ok(directory) } else { Err(faults) }
    }

    /// The node of that id.
    pub fn node(&self, id: &NodeId) -> Option<&EnrolledNode> {
        self.nodes.get(id)
    }

    /// All nodes, in order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = &EnrolledNode> {
        self.nodes.values()
    }

    /// The node that is dialled there.
    pub fn at(&self, url: &PeerUrl) -> Option<&EnrolledNode> {
        self.nodes.values().find(|node| node.url.as_ref() == Some(url))
    }

    /// The key under which the op of this dot may be sealed, or may have been: of its origin, active or retired, or
    /// revoked where the op is among those still taken.
    ///
    /// # Errors
    /// [`KeyRefusal`].
    pub fn sealing_key(&self, dot: &Dot, key: KeyId) -> Result<&PublicKey, KeyRefusal> {
        let node = self.nodes.get(&dot.origin.node).ok_or(KeyRefusal::Unknown)?;
        node.keys.get(&key).ok_or(KeyRefusal::Unknown)?.sealing(dot)
    }

    /// A key of `node`, and what it is good for.
    pub fn key(&self, node: &NodeId, key: KeyId) -> Option<&EnrolledKey> {
        self.nodes.get(node)?.keys.get(&key)
    }

    /// The key under which `node` may call and answer: an active one.
    pub fn calling_key(&self, node: &NodeId, key: KeyId) -> Option<&PublicKey> {
        let enrolled = self.key(node, key)?;
        (enrolled.state == KeyState::Active).then_some(&enrolled.public)
    }

    /// A key of `node` under which its word counts: active or retired. What a revoked one signed may be of whoever took it.
    pub fn trusted_key(&self, node: &NodeId, key: KeyId) -> Option<&PublicKey> {
        let enrolled = self.key(node, key)?;
        (enrolled.state != KeyState::Revoked).then_some(&enrolled.public)
    }

    /// The node of which this is an active key, and the key's id.
    pub fn caller(&self, public: &PublicKey) -> Option<(&NodeId, KeyId)> {
        let id = public.id();
        let node = self.nodes.values().find(|node| {
            node.keys.get(&id).is_some_and(|key| key.state == KeyState::Active && key.public == *public)
        })?;
        Some((&node.id, id))
    }

    /// Version of the configuration: a hash over the enrolled ids and what they replicate, this node included.
    /// Equal on all nodes that agree on who is enrolled.
    pub fn config_version(&self, own: &NodeId, own_scope: &Scope) -> [u8; 32] {
        let mut nodes: BTreeMap<&NodeId, &Scope> = self
            .nodes
            .values()
            .filter(|node| !node.is_retired())
            .map(|node| (&node.id, &node.trust.replicates))
            .collect();
        nodes.insert(own, own_scope);
        let mut bytes = CONFIG_DOMAIN.to_vec();
        for node in nodes {
            codec::encode_into(&(Wire(node.0), Wire(node.1)), &mut bytes);
        }
        *blake3::hash(&bytes).as_bytes()
    }

    /// Version of what is taken, and believed, by a node that keeps `own_scope`, after so many changes within this boot: once
    /// it is another, what was refused may be taken.
    pub fn acceptance(&self, own_scope: &Scope, boot: BootId, changes: u64) -> [u8; 32] {
        let mut bytes = ACCEPTANCE_DOMAIN.to_vec();
        codec::encode_into(&(Wire(own_scope), Wire(boot), changes), &mut bytes);
        for node in self.nodes.values() {
            let Trust { accept, relay, authors, kinds, .. } = &node.trust;
            let keys: Vec<String> = node.keys.keys().map(ToString::to_string).collect();
            let lists = (keys, authors.patterns().collect::<Vec<_>>(), kinds.names());
            codec::encode_into(&(Wire(&node.id), Wire(accept), Wire(relay), lists), &mut bytes);
        }
        *blake3::hash(&bytes).as_bytes()
    }
}

impl EnrolledNode {
    /// Whether it was removed or revoked: no key of it is active, only what it sealed before is taken.
    pub fn is_retired(&self) -> bool {
        self.keys.values().all(|key| key.state != KeyState::Active)
    }
}

impl EnrolledKey {
    /// The key, if the op of this dot is taken under it.
    pub(crate) fn sealing(&self, dot: &Dot) -> Result<&PublicKey, KeyRefusal> {
        let is_taken = self.state != KeyState::Revoked
            || self.accepted.get(&dot.origin.epoch).is_some_and(|last| dot.seq <= *last)
            || is_planted(Defect::BelieveRevokedKeys);
        if is_taken { Ok(&self.public) } else { Err(KeyRefusal::Revoked) }
    }
}

struct Report<'a> {
    entry: usize,
    id: &'a str,
    faults: &'a mut Vec<DirectoryFault>,
}

impl Report<'_> {
    fn add(&mut self, field: &'static str, kind: FaultKind) {
        self.faults.push(DirectoryFault { entry: self.entry, id: self.id.to_owned(), field, kind });
    }

    fn take<T>(&mut self, field: &'static str, read: Result<T, impl Into<FaultKind>>) -> Option<T> {
        read.map_err(|kind| self.add(field, kind.into())).ok()
    }
}

fn read_entry(raw: &Enrolment, before: &Directory, report: &mut Report<'_>) -> Option<EnrolledNode> {
    let id = report.take("id", NodeId::new(&raw.id));
    if id.as_ref().is_some_and(|id| before.nodes.contains_key(id)) {
        report.add("id", FaultKind::DuplicateId);
    }
    let url = raw.url.as_deref().and_then(|text| report.take("url", PeerUrl::parse(text)));
    if url.as_ref().is_some_and(|url| before.at(url).is_some()) {
        report.add("url", FaultKind::DuplicateUrl);
    }
    let keys = read_keys(&raw.keys, before, report);
    let trust = read_trust(raw, report);
    let tls_fingerprint = raw
        .tls_fingerprint
        .as_deref()
        .and_then(|text| report.take("tls_fingerprint", hex::read(text).ok_or(FaultKind::Fingerprint)));
    let is_theirs = |node: &EnrolledNode| node.tls_fingerprint == tls_fingerprint;
    if tls_fingerprint.is_some() && before.nodes.values().any(is_theirs) {
        report.add("tls_fingerprint", FaultKind::DuplicateFingerprint);
    }
    let protocol = raw.protocol;
    Some(EnrolledNode { id: id?, url, keys, trust, tls_fingerprint, protocol })
}

fn read_trust(raw: &Enrolment, report: &mut Report<'_>) -> Trust {
    fn texts(list: &[String]) -> impl Iterator<Item = &str> {
        list.iter().map(String::as_str)
    }
    let mut scope =
        |field, globs: &[String]| report.take(field, Scope::parse(texts(globs))).unwrap_or_default();
    Trust {
        replicates: scope("replicates", &raw.replicates),
        grant: scope("grant", &raw.grant),
        accept: scope("accept", &raw.accept),
        relay: scope("relay", &raw.relay),
        authors: report.take("authors", Authors::parse(texts(&raw.authors))).unwrap_or_default(),
        kinds: report.take("kinds", Kinds::parse(texts(&raw.kinds))).unwrap_or_default(),
    }
}

fn read_keys(raw: &[KeyEntry], before: &Directory, report: &mut Report<'_>) -> BTreeMap<KeyId, EnrolledKey> {
    let mut keys = BTreeMap::new();
    if raw.is_empty() || raw.len() > KEYS_PER_NODE_MAX {
        report.add("keys", FaultKind::KeyCount { count: raw.len(), limit: KEYS_PER_NODE_MAX });
        return keys;
    }
    for entry in raw {
        let Some(public) = report.take("keys", entry.key.parse::<PublicKey>()) else { continue };
        let id = public.id();
        if entry.id.as_ref().is_some_and(|said| *said != id.to_string()) {
            report.add("keys", FaultKind::KeyId(id));
        }
        let elsewhere = before.nodes.values().any(|node| node.keys.contains_key(&id));
        let (state, accepted) = (entry.state, read_accepted(entry, report));
        if elsewhere || keys.insert(id, EnrolledKey { public, state, accepted }).is_some() {
            report.add("keys", FaultKind::DuplicateKey(id));
        }
    }
    keys
}

fn read_accepted(entry: &KeyEntry, report: &mut Report<'_>) -> BTreeMap<BootId, u64> {
    let mut accepted = BTreeMap::new();
    let count = entry.accepted.len();
    if count > 0 && entry.state != KeyState::Revoked {
        report.add("keys", FaultKind::AcceptedOfUnrevoked(entry.state));
    }
    if count > ACCEPTED_SERIES_MAX {
        report.add("keys", FaultKind::AcceptedCount { count, limit: ACCEPTED_SERIES_MAX });
        return accepted;
    }
    for series in &entry.accepted {
        match series.epoch.parse::<BootId>() {
            Err(_) => report.add("keys", FaultKind::Epoch(series.epoch.clone())),
            Ok(epoch) => {
                if accepted.insert(epoch, series.last_seq).is_some() {
                    report.add("keys", FaultKind::DuplicateEpoch(epoch));
                }
            }
        }
    }
    accepted
}

#[cfg(test)]
mod tests {
    use federation_core::dot::Origin;

    use super::*;
    use crate::identity::AcceptedSeries;
    use crate::keys::NodeKey;

    fn entry(id: &str, port: u16, seed: u8) -> Enrolment {
        Enrolment::full(id, &format!("http://127.0.0.1:{port}"), NodeKey::from_seed(&[seed; 32]).public())
    }

    fn faults(entries: &[Enrolment]) -> Vec<(usize, &'static str, FaultKind)> {
        let faults = Directory::new(entries).expect_err("faults");
        faults.into_iter().map(|fault| (fault.entry, fault.field, fault.kind)).collect()
    }

    #[test]
    fn full_entries_make_a_directory() {
        let directory = Directory::new(&[entry("a", 1, 1), entry("b", 2, 2)]).unwrap();
        let key = NodeKey::from_seed(&[2; 32]);
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        assert_eq!(directory.calling_key(&b, key.id()), Some(key.public()));
        assert_eq!(directory.calling_key(&a, key.id()), None);
        let at = directory.at(&PeerUrl::parse("http://127.0.0.1:2/").unwrap()).unwrap();
        assert_eq!((&at.id, &at.trust), (&b, &Trust::full()));
    }

    #[test]
    fn a_retired_key_verifies_and_does_not_call() {
        let mut retired = entry("a", 1, 1);
        retired.keys[0].state = KeyState::Retired;
        let directory = Directory::new(&[retired]).unwrap();
        let (a, key) = (NodeId::new("a").unwrap(), NodeKey::from_seed(&[1; 32]));
        assert!(directory.node(&a).unwrap().is_retired());
        assert_eq!(directory.sealing_key(&dot("a", 1, 9), key.id()), Ok(key.public()));
        assert_eq!(directory.calling_key(&a, key.id()), None);
    }

    fn dot(node: &str, epoch: u64, seq: u64) -> Dot {
        Dot { origin: Origin { node: NodeId::new(node).unwrap(), epoch: BootId(epoch) }, seq }
    }

    fn series(epoch: &str, last_seq: u64) -> AcceptedSeries {
        AcceptedSeries { epoch: epoch.into(), last_seq }
    }

    #[test]
    fn a_revoked_key_proves_what_is_named_and_nothing_else() {
        let mut revoked = entry("a", 1, 1);
        revoked.keys[0].state = KeyState::Revoked;
        revoked.keys[0].accepted = vec![series("0000000000000005", 7)];
        let directory = Directory::new(&[revoked, entry("b", 2, 2)]).unwrap();
        let (a, key) = (NodeId::new("a").unwrap(), NodeKey::from_seed(&[1; 32]));
        let check =
            |dot: Dot, expect| assert_eq!(directory.sealing_key(&dot, key.id()).err(), expect, "{dot}");
        check(dot("a", 5, 1), None);
        check(dot("a", 5, 7), None);
        check(dot("a", 5, 8), Some(KeyRefusal::Revoked));
        check(dot("a", 6, 1), Some(KeyRefusal::Revoked));
        check(dot("b", 5, 1), Some(KeyRefusal::Unknown));
        check(dot("c", 5, 1), Some(KeyRefusal::Unknown));
        assert_eq!(directory.calling_key(&a, key.id()), None);
        assert!(directory.node(&a).unwrap().is_retired());
    }

    #[test]
    fn accepted_series_are_checked() {
        let with = |state, accepted: Vec<AcceptedSeries>| {
            let mut node = entry("a", 1, 1);
            (node.keys[0].state, node.keys[0].accepted) = (state, accepted);
            faults(&[node]).into_iter().map(|(_, _, kind)| kind).collect::<Vec<_>>()
        };
        let one = || series("0000000000000005", 7);
        for state in [KeyState::Active, KeyState::Retired] {
            assert_eq!(with(state, vec![one()]), [FaultKind::AcceptedOfUnrevoked(state)]);
        }
        assert_eq!(with(KeyState::Revoked, vec![one(), one()]), [FaultKind::DuplicateEpoch(BootId(5))]);
        assert_eq!(with(KeyState::Revoked, vec![series("5", 7)]), [FaultKind::Epoch("5".into())]);
        let count = ACCEPTED_SERIES_MAX + 1;
        let many = (0..count).map(|epoch| series(&format!("{epoch:016x}"), 1)).collect();
        let limit = ACCEPTED_SERIES_MAX;
        assert_eq!(with(KeyState::Revoked, many), [FaultKind::AcceptedCount { count, limit }]);
    }

    #[test]
    fn an_absent_scope_means_nothing() {
        let mut bare = entry("a", 1, 1);
        for list in bare.trust_lists() {
            list.clear();
        }
        let directory = Directory::new(&[bare]).unwrap();
        assert_eq!(directory.nodes().next().unwrap().trust, Trust::default());
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let mut bad = entry("a b", 0, 3);
        bad.keys[0].id = Some("00".into());
        bad.grant = vec!["a*".into()];
        bad.authors = vec!["a*b".into()];
        bad.kinds = vec!["Memory".into()];
        bad.tls_fingerprint = Some("xy".into());
        let found = faults(&[entry("a", 1, 1), entry("a", 1, 1), bad]);
        let fields: Vec<_> = found.iter().map(|(entry, field, _)| (*entry, *field)).collect();
        assert_eq!(
            fields,
            [
                (2, "id"),
                (2, "url"),
                (2, "keys"),
                (3, "id"),
                (3, "url"),
                (3, "keys"),
                (3, "grant"),
                (3, "authors"),
                (3, "kinds"),
                (3, "tls_fingerprint")
            ]
        );
    }

    #[test]
    fn keys_are_counted_and_checked() {
        let mut none = entry("a", 1, 1);
        none.keys.clear();
        assert_eq!(
            faults(&[none]),
            [(1, "keys", FaultKind::KeyCount { count: 0, limit: KEYS_PER_NODE_MAX })]
        );
        let mut twice = entry("a", 1, 1);
        twice.keys.push(twice.keys[0].clone());
        let id = NodeKey::from_seed(&[1; 32]).id();
        assert_eq!(faults(&[twice]), [(1, "keys", FaultKind::DuplicateKey(id))]);
        let mut weak = entry("a", 1, 1);
        weak.keys[0].key = format!("ed25519:AQ{}", "A".repeat(41));
        assert_eq!(faults(&[weak]), [(1, "keys", FaultKind::Key(KeyError::Weak))]);
    }

    #[test]
    fn a_mesh_has_a_bound() {
        let entries: Vec<_> = (0..=NODES_MAX)
            .map(|n| entry(&format!("n{n}"), 1 + u16::try_from(n).unwrap(), u8::try_from(n).unwrap()))
            .collect();
        assert!(Directory::new(&entries[..NODES_MAX]).is_ok());
        assert_eq!(faults(&entries), [(NODES_MAX + 1, "id", FaultKind::TooMany { limit: NODES_MAX })]);
    }

    #[test]
    fn nodes_that_agree_have_one_config_version() {
        let scope = Scope::everything();
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        let at_a = Directory::new(&[entry("b", 2, 2)]).unwrap();
        let at_b = Directory::new(&[entry("a", 1, 1)]).unwrap();
        let version = at_a.config_version(&a, &scope);
        assert_eq!(version, at_b.config_version(&b, &scope));
        assert_ne!(version, at_b.config_version(&b, &Scope::nothing()));
        assert_ne!(version, Directory::default().config_version(&a, &scope));
    }

    #[test]
    fn what_is_taken_has_a_version() {
        let of = |change: fn(&mut Enrolment), own: &Scope| {
            let mut entry = entry("b", 2, 2);
            change(&mut entry);
            Directory::new(&[entry]).unwrap().acceptance(own, BootId(1), 0)
        };
        let own = Scope::everything();
        let version = of(|_| {}, &own);
        assert_eq!(of(|entry| entry.grant.clear(), &own), version, "what leaves is no part of it");
        assert_eq!(of(|entry| entry.url = None, &own), version);
        let changes: [fn(&mut Enrolment); 5] = [
            |entry| entry.accept = vec!["x".into()],
            |entry| entry.relay.clear(),
            |entry| entry.authors = vec!["a".into()],
            |entry| entry.kinds = vec!["memory".into()],
            |entry| entry.id = "c".into(),
        ];
        for change in changes {
            assert_ne!(of(change, &own), version);
        }
        assert_ne!(of(|_| {}, &Scope::nothing()), version);
    }
}
