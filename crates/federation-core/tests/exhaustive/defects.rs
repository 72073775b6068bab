//! Each rule that a search can see, taken out: the search finds a shortest history that shows it.

use federation_core::planted::Defect;

use crate::bounds::{Bounds, LiveLane, Loss, Refusal};
use crate::search::search_with;

/// Searches with the defect planted, expects a violation that says `seen` after `steps` steps, and shows the way to it.
fn is_found(defect: Defect, bounds: Bounds, seen: &str, steps: usize) {
    let searched = search_with(defect, bounds);
    let found = searched.violation.unwrap();
    println!("{} is found after {} states:\n{found}", defect.name(), searched.states);
    assert!(found.seen.contains(seen), "{} shows as something else:\n{found}", defect.name());
    assert_eq!(found.path.len(), steps, "steps of a shortest history that shows {}", defect.name());
}

const REFUSED: Bounds = Bounds { refusals: 1, ..Bounds::SMALLEST };
const CUT: Bounds = Bounds { live_lane: LiveLane::Cut, ..Bounds::SMALLEST };

#[test]
fn counterexample_01_completion_covers_what_was_refused() {
    is_found(Defect::CompleteOverRefused, REFUSED, "I1", 5);
}

#[test]
fn counterexample_01b_completion_covers_what_a_refused_op_had_replaced() {
    is_found(Defect::CompleteOverContexts, REFUSED, "I1", 6);
}

#[test]
fn counterexample_01b_and_what_a_dead_letter_had_replaced() {
    let bounds = Bounds { refusal: Refusal::Forbidden, ..REFUSED };
    is_found(Defect::CompleteOverContexts, bounds, "I1", 6);
}

#[test]
fn counterexample_02_what_an_ended_boot_had_is_believed_of_the_next() {
    is_found(Defect::BelieveOldBoots, Bounds { losses: 1, ..Bounds::SMALLEST }, "I1", 5);
}

#[test]
fn counterexample_04_the_last_epoch_always_goes_on() {
    let bounds = Bounds { losses: 1, loss: Loss::Unnoticed, writes: 3, ..Bounds::SMALLEST };
    is_found(Defect::ReuseEpoch, bounds, "given twice", 5);
}

#[test]
fn counterexample_08_holes_are_filled_over_unseen_versions() {
    is_found(Defect::FillUnseenHoles, Bounds { writes: 3, reads: 1, ..Bounds::SMALLEST }, "differ", 5);
}

#[test]
fn counterexample_11_the_merge_keeps_two_versions() {
    is_found(Defect::BoundInApply, Bounds { writes: 3, ..CUT }, "I1", 3);
}

#[test]
fn counterexample_12_contexts_are_plain_maxima() {
    is_found(Defect::PlainMaxima, Bounds { writes: 3, ..Bounds::SMALLEST }, "differ", 4);
}

#[test]
fn of_concurrent_versions_one_is_kept() {
    is_found(Defect::LwwDrop, CUT, "I1", 2);
}

#[test]
fn a_delete_leaves_no_tombstone() {
    is_found(Defect::ForgetTombstone, CUT, "I1", 2);
}
