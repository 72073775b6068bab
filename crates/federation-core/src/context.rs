//! The causal context of a new op.

use crate::node_clock::NodeClock;
use crate::planted::{Defect, is_planted};
use crate::record::Record;
use crate::vector_clock::VectorClock;

/// The context of an op that a client writes on `record`.
///
/// `token` is the join of context and dot of *all* versions that the client had read; without one the
/// client is taken to have seen what is live here. The record and the clock are those of one instant,
/// after the earlier ops of the same group.
///
/// A hole below an origin's maximum is filled only if the node has all of its dots and no version that
/// the writer did not see, nor anything that such a version covers, lies in it. Filling saves space
/// and nothing else: no origin is added, nothing above a maximum.
pub fn context(record: &Record, clock: &NodeClock, token: Option<&VectorClock>) -> VectorClock {
    let mut must = token.cloned().unwrap_or_default();
    let mut never = VectorClock::new();
    for version in record.versions() {
        if token.is_none_or(|token| token.contains(&version.dot)) {
            must.cover(&version.dot, &version.context);
        } else {
            never.cover(&version.dot, &version.context);
        }
    }
    let unseen = never.minus(&must);
    let fillable: Vec<_> = must
        .iter()
        .flat_map(|(origin, seqs)| seqs.holes().map(move |hole| (origin.clone(), hole)))
        .filter(|(origin, hole)| {
            let is_here = clock.contains_range(origin, *hole) || is_planted(Defect::PlainMaxima);
            let fills_unseen = is_planted(Defect::FillUnseenHoles) || is_planted(Defect::PlainMaxima);
            is_here && (fills_unseen || !unseen.meets(origin, *hole))
        })
        .collect();
    for (origin, hole) in fillable {
        must.insert_range(&origin, hole);
    }
    must
}
