//! What needs no further session with a peer.

use federation_core::attest::Trust;
use federation_core::dot_set::DotSet;
use federation_core::id::BootId;
use federation_core::node_clock::NodeClock;

/// The dots that sessions have settled: each was delivered, or is not to be had by the scopes, or was refused for good. A
/// clock does not tell the last two from what is missing. It holds as long as all is the same that decides it: another key,
/// and nothing is settled.
#[derive(Debug)]
pub(crate) struct Settled<K> {
    under: Option<(K, NodeClock)>,
}

/// What decides which ops a peer is offered: its boot, what it is trusted with, which version of what it takes it
/// has, and what of that it refused is sent once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferKey {
    pub(crate) boot: Option<BootId>,
    pub(crate) trust: Trust,
    pub(crate) acceptance: Option<[u8; 32]>,
    /// How often dead letters of it were sent again by hand.
    pub(crate) letters_retried: u64,
}

/// What decides which ops are taken from a peer: its boot, and which version of what it takes this node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TakeKey {
    pub(crate) boot: BootId,
    pub(crate) acceptance: [u8; 32],
}

impl<K> Default for Settled<K> {
    fn default() -> Self {
        Self { under: None }
    }
}

impl<K: PartialEq> Settled<K> {
    /// What is settled under this key.
    pub(crate) fn under(&self, key: &K) -> Option<&NodeClock> {
        self.under.as_ref().filter(|(known, _)| known == key).map(|(_, clock)| clock)
    }

    /// A session that began under this key, which still holds, has settled these dots.
    pub(crate) fn join(&mut self, key: K, dots: &DotSet) {
        match &mut self.under {
            Some((known, clock)) if *known == key => clock.join(dots),
            other => *other = Some((key, NodeClock::from(dots.clone()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use federation_core::dot::{Dot, Origin};
    use federation_core::id::NodeId;

    use super::*;

    #[test]
    fn what_is_settled_is_so_under_one_key() {
        let origin = Origin { node: NodeId::new("a").unwrap(), epoch: BootId(1) };
        let dots = |seq| [Dot { origin: origin.clone(), seq }].into_iter().collect::<DotSet>();
        let mut settled = Settled::default();
        assert_eq!(settled.under(&1), None);
        settled.join(1, &dots(1));
        settled.join(1, &dots(2));
        assert_eq!(settled.under(&1).unwrap().dot_count(), 2);
        assert_eq!(settled.under(&2), None);
        settled.join(2, &dots(3));
        assert_eq!((settled.under(&1), settled.under(&2).unwrap().dot_count()), (None, 1));
    }
}
