//! Dead letters: the ops that peers refused for good, and what is done about them by hand.
//!
//! One that is given up is not sent again by itself, whatever the peer takes from then on. It stays out of what is claimed to
//! the peer, as any: a clock that has it would say that the op is there, or replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use federation_core::dot::Dot;
use federation_core::id::{NodeId, RecordKey};
use federation_core::link::LinkEvent;
use federation_core::op::SealedOp;
use federation_core::port::store::{DeadLetter, Fact, Facts, Request, StoreError};
use federation_core::record::Version;
use tokio::sync::oneshot;

use super::Node;
use crate::error::LetterError;
use crate::inner::Inner;
use crate::store_call::{query, submit_one};

/// Dead letters that are ended with one batch: what a group of the writer takes.
const BATCH_MAX: usize = 1_024;

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterStatus {
    /// Who refused the op.
    pub peer: NodeId,
    /// The op.
    pub dot: Dot,
    /// Why, and whether it is given up.
    pub letter: DeadLetter,
    /// Its record; none if the op was replaced a moment ago.
    pub key: Option<RecordKey>,
}

/// A page of dead letters, in order of peers and dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterPage {
    /// The letters.
    pub letters: Vec<LetterStatus>,
    /// The last of them, if there are more behind it.
    pub next: Option<(NodeId, Dot)>,
}

/// A dead letter with its op.
#[derive(Clone, Debug)]
pub struct LetterRead {
    /// What is known of it.
    pub status: LetterStatus,
    /// What the merge knows of the op.
    pub version: Version,
    /// Its bytes.
    pub sealed: SealedOp,
}

impl Node {
    /// Dead letters behind `after`, at most `limit`: of one peer, or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dead_letters(
        &self,
        peer: Option<&NodeId>,
        after: Option<&(NodeId, Dot)>,
        limit: usize,
    ) -> Result<LetterPage, StoreError> {
        let (found, has_more) = page(&self.inner.snapshot().facts, peer, after, limit);
        let dots = found.iter().map(|(_, dot, _)| dot.clone()).collect();
        let keys = query(&self.inner.store, |store, done| store.keys_of_dots(dots, done)).await?;
        let letters: Vec<_> = found
            .into_iter()
            .zip(keys)
            .map(|((peer, dot, letter), key)| LetterStatus { peer, dot, letter, key })
            .collect();
        let next = letters.last().filter(|_| has_more).map(|last| (last.peer.clone(), last.dot.clone()));
        Ok(LetterPage { letters, next })
    }

    /// One dead letter with its op.
    ///
    /// # Errors
    /// [`LetterError`].
    pub async fn dead_letter(&self, peer: &NodeId, dot: &Dot) -> Result<LetterRead, LetterError> {
        let letter = self.letter(peer, dot)?;
        let store = &self.inner.store;
        let dots = vec![dot.clone()];
        let keys = query(store, |store, done| store.keys_of_dots(dots, done)).await?;
        let key = keys.into_iter().flatten().next().ok_or(LetterError::NoSuchLetter)?;
        let wanted = key.clone();
        let read = query(store, |store, done| store.read(wanted, done)).await?;
        let mut live = read.record.versions().iter().zip(read.ops);
        let (version, sealed) =
            live.find(|(version, _)| version.dot == *dot).ok_or(LetterError::NoSuchLetter)?;
        let status = LetterStatus { peer: peer.clone(), dot: dot.clone(), letter, key: Some(key) };
        Ok(LetterRead { status, version: version.clone(), sealed })
    }

    /// Sends an op to a peer that refused it once more, also one that was given up.
    ///
    /// # Errors
    /// [`LetterError`].
    ///
    /// # Cancel safety
    /// Dropped after the call has begun, it is sent all the same.
    pub async fn retry_dead_letter(&self, peer: &NodeId, dot: &Dot) -> Result<(), LetterError> {
        self.letter(peer, dot)?;
        self.check_dialled(peer)?;
        retry(&self.inner, peer, vec![dot.clone()]).await
    }

    /// Sends all that a peer refused to it once more, but for what was given up. Gives how many.
    ///
    /// # Errors
    /// [`LetterError`]; some may be on their way then.
    ///
    /// # Cancel safety
    /// Dropped after the call has begun, some are sent.
    pub async fn retry_dead_letters(&self, peer: &NodeId) -> Result<usize, LetterError> {
        self.check_dialled(peer)?;
        let snapshot = self.inner.snapshot();
        let refused = snapshot.facts.dead_letters_of(peer).filter(|(_, letter)| !letter.is_discarded);
        let dots: Vec<_> = refused.map(|(dot, _)| dot.clone()).collect();
        for batch in dots.chunks(BATCH_MAX) {
            retry(&self.inner, peer, batch.to_vec()).await?;
        }
        Ok(dots.len())
    }

    /// Gives up to bring a peer an op that it refused: it is sent there again only by [`Node::retry_dead_letter`].
    ///
    /// # Errors
    /// [`LetterError`].
    ///
    /// # Cancel safety
    /// Dropped after the call has begun, it is given up all the same.
    pub async fn discard_dead_letter(&self, peer: &NodeId, dot: &Dot) -> Result<(), LetterError> {
        if self.letter(peer, dot)?.is_discarded {
            return Ok(());
        }
        let fact = Fact::DeadLetterDiscarded { peer: peer.clone(), dot: dot.clone() };
        submit_one(&*self.inner.store, Request::Remember(fact)).await?;
        tracing::warn!(%peer, %dot, "an op that the peer refused is given up");
        self.inner.metrics.with(|counters| counters.dead_letters_discarded += 1);
        Ok(())
    }

    /// How many ops each peer refused and nobody has given up, by the slug of the reason.
    pub fn dead_letter_counts(&self) -> BTreeMap<(NodeId, &'static str), u64> {
        let mut counts = BTreeMap::new();
        for (peer, letters) in &self.inner.snapshot().facts.dead_letters {
            for letter in letters.values().filter(|letter| !letter.is_discarded) {
                *counts.entry((peer.clone(), letter.reason.slug())).or_default() += 1;
            }
        }
        counts
    }

    fn letter(&self, peer: &NodeId, dot: &Dot) -> Result<DeadLetter, LetterError> {
        self.inner.snapshot().facts.dead_letter(peer, dot).ok_or(LetterError::NoSuchLetter)
    }

    fn check_dialled(&self, peer: &NodeId) -> Result<(), LetterError> {
        let is_dialled = self.inner.members().dialled().any(|dialled| dialled.id == *peer);
        if is_dialled { Ok(()) } else { Err(LetterError::NotDialled) }
    }
}

/// The letters of a page, and whether there are more behind it.
fn page(
    facts: &Facts,
    peer: Option<&NodeId>,
    after: Option<&(NodeId, Dot)>,
    limit: usize,
) -> (Vec<(NodeId, Dot, DeadLetter)>, bool) {
    let of_peers = facts.dead_letters.iter().filter(|(of, _)| peer.is_none_or(|peer| peer == *of));
    let all = of_peers.flat_map(|(of, letters)| letters.iter().map(move |(dot, letter)| (of, dot, letter)));
    let mut behind = all.filter(|(of, dot, _)| after.is_none_or(|(peer, last)| (*of, *dot) > (peer, last)));
    let found = behind.by_ref().take(limit).map(|(of, dot, letter)| (of.clone(), dot.clone(), *letter));
    (found.collect(), behind.next().is_some())
}

/// Ends dead letters of a peer, and has it sent what it lacks. The second follows the first whoever waits for it.
async fn retry(inner: &Arc<Inner>, peer: &NodeId, dots: Vec<Dot>) -> Result<(), LetterError> {
    let count = dots.len() as u64;
    let fact = |dot| Request::Remember(Fact::DeadLetterRetried { peer: peer.clone(), dot });
    let (done, answer) = oneshot::channel();
    let (node, of) = (Arc::clone(inner), peer.clone());
    inner.store.submit(
        dots.into_iter().map(fact).collect(),
        Box::new(move |result| {
            if result.is_ok() {
                node.metrics.with(|counters| counters.dead_letters_retried += count);
                if let Some(peer) = node.members().peer(&of) {
                    // What sessions have settled with it so far was settled without these.
                    peer.state().letters_retried += 1;
                    peer.tell(LinkEvent::Resync);
                }
            }
            drop(done.send(result));
        }),
    )?;
    answer.await.unwrap_or(Err(StoreError::Closed))?;
    Ok(())
}
