//! What is found where something that the protocol assumes is not so. PROTOCOL.md names each: whoever makes one of
//! these searches find nothing has closed a gap.

use crate::bounds::{Bounds, Loss};
use crate::search::search;

/// Searches, expects a violation that says `seen`, and shows the way to it.
fn is_found(bounds: Bounds, seen: &str) {
    let searched = search(bounds);
    let found = searched.violation.unwrap();
    println!("found after {} states:\n{found}", searched.states);
    assert!(found.seen.contains(seen), "found something else:\n{found}");
}

/// The image was taken after the last hello: nobody sees that the disk went back. So the node counts as one that holds
/// what it has acknowledged, and losing the other disk too is losing the write.
#[test]
fn a_disk_that_went_back_unnoticed_counts_as_lost_until_it_is_filled() {
    let bounds = Bounds { writes: 1, losses: 2, loss: Loss::Unnoticed, ..Bounds::SMALLEST };
    is_found(bounds, "was acknowledged, and no node has it");
}
