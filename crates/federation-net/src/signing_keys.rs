//! What this node signs with, as of now.

use std::sync::Arc;

use arc_swap::ArcSwap;
use federation_core::dot::{Dot, Origin};
use federation_core::id::{KeyId, OpHash};
use federation_core::op::{EncodedOp, Op};
use federation_core::port::sealer::Sealer;
use federation_wire::identity::KeyRefusal;
use federation_wire::keys::{NodeKey, OwnKeys, PublicKey};
use federation_wire::seal::GroupSealer;

/// A node's own keys behind one handle: what seals its ops and what signs its frames read it on each use, so that
/// [`SigningKeys::replace`] counts at once for both. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct SigningKeys(Arc<ArcSwap<OwnKeys>>);

impl SigningKeys {
    /// These keys.
    pub fn new(keys: OwnKeys) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// The key to sign with now.
    pub fn active(&self) -> Arc<NodeKey> {
        Arc::clone(self.0.load().active())
    }

    /// The key under which this node's own op of this dot may be sealed.
    ///
    /// # Errors
    /// [`KeyRefusal`].
    pub fn sealing_key(&self, dot: &Dot, id: KeyId) -> Result<PublicKey, KeyRefusal> {
        self.0.load().sealing_key(dot, id).cloned()
    }

    /// The key of this id under which the word of this node counts: the active one, or one that was rotated away.
    pub fn trusted_key(&self, id: KeyId) -> Option<PublicKey> {
        self.0.load().trusted(id).cloned()
    }

    /// From here on this node signs with these. What the keys before sealed stays proven as far as `keys` names them
    /// as retired, or as revoked but for it.
    pub fn replace(&self, keys: OwnKeys) {
        self.0.store(Arc::new(keys));
    }
}

impl From<Arc<NodeKey>> for SigningKeys {
    /// The keys of a node that has had no other.
    fn from(key: Arc<NodeKey>) -> Self {
        Self::new(OwnKeys::new(key))
    }
}

impl Sealer for SigningKeys {
    fn encode(&self, op: &Op) -> EncodedOp {
        GroupSealer::new(self.active()).encode(op)
    }

    fn seal(&self, origin: &Origin, hashes: &[OpHash]) -> Vec<Arc<[u8]>> {
        GroupSealer::new(self.active()).seal(origin, hashes)
    }
}
