//! What must hold of every node, whatever has happened.

use federation_core::dot::Dot;
use federation_core::record::Record;

use super::mesh::{Mesh, Store};
use super::scenario::Violation;

/// I1: every op in a node's clock is live there, or covered by a version that is.
pub(super) fn check_clocks(mesh: &Mesh) -> Result<(), Violation> {
    let ops = mesh.ledger.ops();
    for i in mesh.running() {
        let Some(store) = mesh.store(i) else { continue };
        let clock = store.reads().snapshot().clock.clone();
        for (dot, op) in ops.iter().filter(|(dot, _)| clock.contains(dot)) {
            let record = record(store, i, op)?;
            if !holds(&record, dot) {
                return Err(Violation {
                    guarantee: "I1",
                    seen: format!("n{i} claims {dot} of {}, and has {record:?}", op.key),
                });
            }
        }
    }
    Ok(())
}

/// G1 and G4: no op is gone but under one whose writer had seen it, and nothing replaced is back.
pub(super) fn check_nothing_lost(mesh: &Mesh) -> Result<(), Violation> {
    let ops = mesh.ledger.ops();
    for i in mesh.running() {
        let Some(store) = mesh.store(i) else { continue };
        for (dot, op) in ops.iter().filter(|(_, op)| op.is_promised || !op.may_be_gone) {
            let record = record(store, i, op)?;
            if !holds(&record, dot) {
                let promise = if op.is_promised { "which was promised" } else { "which was on a disk" };
                return Err(Violation {
                    guarantee: "G1",
                    seen: format!("n{i} lacks {dot} of {}, {promise}: {record:?}", op.key),
                });
            }
            let zombie = record.versions().iter().find(|live| op.version.context.contains(&live.dot));
            if let Some(zombie) = zombie {
                return Err(Violation {
                    guarantee: "G4",
                    seen: format!("n{i} has {} of {}, which {dot} had replaced", zombie.dot, op.key),
                });
            }
        }
    }
    Ok(())
}

/// What was seen to be wrong when it happened.
pub(super) fn check_ledger(mesh: &Mesh) -> Result<(), Violation> {
    match mesh.ledger.faults().first() {
        Some(fault) => Err(Violation { guarantee: "G2", seen: fault.clone() }),
        None => Ok(()),
    }
}

/// No task of a node has panicked, and nothing that must not happen was seen by one. `lost_disks`: how many the run
/// has taken away; without one nobody is to be told that it went back.
pub(super) async fn check_alarms(mesh: &Mesh, lost_disks: u64) -> Result<(), Violation> {
    let wrong = |seen: String| Err(Violation { guarantee: "no alarm", seen });
    if mesh.network.has_panicked() {
        return wrong("a node panicked while it handled a frame".to_owned());
    }
    for i in mesh.running() {
        let Some(node) = mesh.node(i) else { continue };
        if let Ok(task) = tokio::time::timeout(std::time::Duration::ZERO, node.failed()).await {
            return wrong(format!("n{i}: the task {task:?} panicked"));
        }
        let alarms = node.metrics().alarms;
        let is_expected = |what: &str| {
            lost_disks > 0 && matches!(what, "peer_must_rebootstrap" | "must_rebootstrap" | "new_mesh_void")
        };
        if let Some(what) = alarms.keys().find(|what| !is_expected(what)) {
            return wrong(format!("n{i}: {what}"));
        }
    }
    Ok(())
}

fn holds(record: &Record, dot: &Dot) -> bool {
    record.version(dot).is_some() || record.covers(dot)
}

fn record(store: &Store, i: usize, op: &super::ledger::Entry) -> Result<Record, Violation> {
    let read = store.reads().record(&op.key);
    read.map(|read| read.record)
        .map_err(|error| Violation { guarantee: "G1", seen: format!("n{i} cannot read {}: {error}", op.key) })
}
