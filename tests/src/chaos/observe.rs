//! What the nodes hold in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use federation_wire::api::DotText;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::chaos::caller::Caller;
use crate::checker::Settling;
use crate::checker::converges::settling_limit_ms;
use crate::history::{Call, FinalStates, Seen, Sharing};

/// Time between two looks at the state hashes.
const POLL: Duration = Duration::from_millis(20);
/// How much longer than allowed is waited, to tell late from never.
const PATIENCE: Duration = Duration::from_secs(3);
/// Calls that are open at once when everything is read.
const READS_OPEN: usize = 32;

/// Waits until all nodes have one state hash, counted from now.
pub async fn settle(caller: &Caller, backlog_ops: u64) -> Settling {
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(settling_limit_ms(backlog_ops)) + PATIENCE;
    loop {
        let mut asked = JoinSet::new();
        for node in 0..caller.nodes() {
            let caller = caller.clone();
            asked.spawn(async move { (node, state_hash(&caller, node).await) });
        }
        let hashes: Vec<Option<String>> =
            asked.join_all().await.into_iter().collect::<BTreeMap<_, _>>().into_values().collect();
        let is_equal =
            hashes.first().is_some_and(|first| first.is_some() && hashes.iter().all(|hash| hash == first));
        let equal_after_ms = is_equal.then(|| u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        if is_equal || Instant::now() >= deadline {
            return Settling { backlog_ops, allowance_ms: 0, equal_after_ms, hashes };
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What each node shows of each record of these calls, and which acknowledged ops of contended ones it has.
///
/// Equal records come before equal clocks: what was replaced while a node was away enters its clock with the end of
/// the session alone. So a node has as long to know of it as it has to become equal.
pub async fn final_states(caller: &Caller, calls: &[Call]) -> FinalStates {
    let deadline = Instant::now() + Duration::from_millis(settling_limit_ms(calls.len() as u64));
    let keys: BTreeSet<&str> = calls.iter().map(|call| call.key.as_str()).collect();
    let contended = calls.iter().filter(|call| call.sharing == Sharing::Contended);
    let dots: BTreeSet<&DotText> = contended.filter_map(Call::acknowledged).collect();

    let mut shown: BTreeMap<(String, usize), Seen> = BTreeMap::new();
    let mut known: BTreeMap<(DotText, usize), bool> = BTreeMap::new();
    let mut open: JoinSet<Found> = JoinSet::new();
    let mut note = |found: Found| match found {
        Found::Record(key, node, seen) => drop(shown.insert((key, node), seen)),
        Found::Op(dot, node, is_known) => drop(known.insert((dot, node), is_known)),
    };
    for node in 0..caller.nodes() {
        for key in &keys {
            let (caller, key) = (caller.clone(), (*key).to_owned());
            open.spawn(async move {
                let seen = caller.look(node, &key).await;
                Found::Record(key, node, seen)
            });
            bounded(&mut open, &mut note).await;
        }
        for dot in &dots {
            let (caller, dot) = (caller.clone(), (*dot).clone());
            open.spawn(async move {
                let is_known = is_known_by(deadline, &caller, node, &dot).await;
                Found::Op(dot, node, is_known)
            });
            bounded(&mut open, &mut note).await;
        }
    }
    open.join_all().await.into_iter().for_each(&mut note);
    FinalStates { records: grouped(shown), known_ops: grouped(known), ..FinalStates::default() }
}

/// One answer of [`final_states`].
enum Found {
    Record(String, usize, Seen),
    Op(DotText, usize, bool),
}

/// Takes answers until there is room for another question.
async fn bounded(open: &mut JoinSet<Found>, note: &mut impl FnMut(Found)) {
    while open.len() >= READS_OPEN {
        if let Some(Ok(found)) = open.join_next().await {
            note(found);
        }
    }
}

/// By name, in the order of the nodes.
fn grouped<K: Ord, V>(by_node: BTreeMap<(K, usize), V>) -> BTreeMap<K, Vec<V>> {
    let mut grouped: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for ((key, _), value) in by_node {
        grouped.entry(key).or_default().push(value);
    }
    grouped
}

async fn state_hash(caller: &Caller, node: usize) -> Option<String> {
    let status = caller.get(node, "/api/v1/status?hash=true").await?;
    status.pointer("/state_hash/hash").and_then(Value::as_str).map(str::to_owned)
}

/// Whether a node has an op by then.
async fn is_known_by(deadline: Instant, caller: &Caller, node: usize, dot: &DotText) -> bool {
    loop {
        if is_known(caller, node, dot).await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether a node has an op: live, or covered by what replaced it.
async fn is_known(caller: &Caller, node: usize, dot: &DotText) -> bool {
    let status = caller.get(node, &format!("/api/v1/ops/{dot}")).await;
    status.as_ref().and_then(|status| status.get("here")).and_then(Value::as_str) == Some("held")
}
