//! What must hold in every state.

use federation_core::dot::Dot;

use crate::mesh::{Made, Mesh};
use crate::replica::Replica;

/// I1, and that each acknowledged write is where it was acknowledged, or what has replaced it.
///
/// # Errors
/// What does not hold.
pub(crate) fn check(mesh: &Mesh) -> Result<(), String> {
    for (dot, made) in mesh.made() {
        for node in 0..mesh.nodes.len() {
            let replica = mesh.replica(node);
            if replica.clock.contains(dot) && !is_held(mesh, replica, dot, made) {
                return Err(format!(
                    "I1: {dot} is in the clock of {}, not live there, and nothing live there had seen it",
                    replica.node
                ));
            }
        }
        if made.is_acknowledged() && made.at.is_empty() {
            return Err(format!("G1: {dot} was acknowledged, and no node has it"));
        }
    }
    Ok(())
}

/// From here on nothing goes wrong any more: all must end equal, with all that was acknowledged.
///
/// What is on the way is lost: a state in which it arrives first is another state of the same search.
///
/// # Errors
/// What is not so.
pub(crate) fn check_end(mesh: &Mesh) -> Result<(), String> {
    let mut mesh = mesh.clone();
    mesh.converge();
    check(&mesh)?;
    if let Some(at) = (0..mesh.nodes.len()).find(|at| !mesh.is_whole(*at)) {
        return Err(format!("G9: {} waits for ever to be whole again", mesh.replica(at).node));
    }
    for at in 1..mesh.nodes.len() {
        let (first, other) = (mesh.replica(0), mesh.replica(at));
        if first.records != other.records || *first.clock != *other.clock {
            return Err(format!("G3: {} and {} end different", first.node, other.node));
        }
    }
    for (dot, made) in mesh.made().filter(|(_, made)| made.is_acknowledged()) {
        if !is_held(&mesh, mesh.replica(0), dot, made) {
            return Err(format!("G1: {dot} was acknowledged, and is nowhere in the end"));
        }
    }
    Ok(())
}

/// Live there, or replaced by one whose writer had truly seen it.
fn is_held(mesh: &Mesh, replica: &Replica, dot: &Dot, made: &Made) -> bool {
    let record = replica.record(&made.op.op.key);
    record.version(dot).is_some() || record.versions().iter().any(|v| mesh.op(&v.dot).saw.contains(dot))
}
