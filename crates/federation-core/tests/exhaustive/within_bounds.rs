//! The searches that find nothing.
//!
//! `EXHAUSTIVE=wide` goes further: minutes, best with `--release`.

use crate::bounds::{Bounds, LiveLane, Loss, Refusal};
use crate::search::search;

/// Goes through all of `bounds`, or of `wide` where that was asked for, and has reached what it was meant to.
fn nothing_is_found(bounds: Bounds, wide: Bounds, reaches: &[&str]) {
    let is_wide = std::env::var("EXHAUSTIVE").is_ok_and(|how| how == "wide");
    let searched = search(if is_wide { wide } else { bounds });
    if let Some(found) = &searched.violation {
        panic!("after {} states:\n{found}", searched.states);
    }
    for what in reaches {
        assert!(searched.reached.contains_key(what), "{what} was never reached");
    }
}

const SMALLEST: Bounds = Bounds::SMALLEST;

#[test]
fn an_op_that_is_refused_for_now() {
    let of_two = Bounds { writes: 3, refusals: 1, ..SMALLEST };
    let of_three = Bounds { nodes: 3, live_lane: LiveLane::Cut, ..of_two };
    nothing_is_found(of_two, of_three, &["siblings", "completion withheld", "all equal"]);
}

#[test]
fn an_op_that_is_refused_for_good() {
    let of_two = Bounds { writes: 3, refusals: 1, refusal: Refusal::Forbidden, ..SMALLEST };
    let of_three = Bounds { nodes: 3, live_lane: LiveLane::Cut, ..of_two };
    nothing_is_found(of_two, of_three, &["siblings", "completion withheld", "dead letter"]);
}

#[test]
fn three_nodes_with_sessions_alone() {
    let bounds = Bounds { nodes: 3, writes: 3, live_lane: LiveLane::Cut, ..SMALLEST };
    nothing_is_found(bounds, Bounds { sessions: 2, ..bounds }, &["siblings", "replaced before it was sent"]);
}

#[test]
fn three_nodes_with_a_live_lane() {
    let bounds = Bounds { nodes: 3, refusals: 1, ..SMALLEST };
    nothing_is_found(bounds, Bounds { writes: 3, refusals: 0, ..bounds }, &["siblings"]);
}

#[test]
fn two_sessions_at_once() {
    let bounds = Bounds { refusals: 1, sessions: 2, live_lane: LiveLane::Cut, ..SMALLEST };
    nothing_is_found(bounds, Bounds { writes: 3, ..bounds }, &["two sessions", "completion withheld"]);
}

#[test]
fn two_sessions_among_three_nodes() {
    let bounds = Bounds { nodes: 3, sessions: 2, live_lane: LiveLane::Cut, ..SMALLEST };
    nothing_is_found(bounds, Bounds { refusals: 1, ..bounds }, &["two sessions"]);
}

#[test]
fn two_records() {
    let bounds = Bounds { records: 2, writes: 3, ..SMALLEST };
    nothing_is_found(bounds, Bounds { refusals: 1, ..bounds }, &["siblings"]);
}

#[test]
fn a_stale_token() {
    let bounds = Bounds { writes: 3, reads: 1, ..SMALLEST };
    nothing_is_found(bounds, Bounds { nodes: 3, live_lane: LiveLane::Cut, ..bounds }, &["siblings"]);
}

#[test]
fn a_restart() {
    let bounds = Bounds { nodes: 3, restarts: 1, ..SMALLEST };
    nothing_is_found(bounds, Bounds { refusals: 1, restarts: 2, ..bounds }, &["new epoch"]);
}

#[test]
fn a_lost_disk() {
    let bounds = Bounds { refusals: 1, losses: 1, ..SMALLEST };
    let wide = Bounds { nodes: 3, live_lane: LiveLane::Cut, ..bounds };
    nothing_is_found(bounds, wide, &["new epoch", "re-bootstrap", "whole again"]);
}

#[test]
fn a_lost_disk_of_three() {
    let bounds = Bounds { nodes: 3, losses: 1, live_lane: LiveLane::Cut, ..SMALLEST };
    let wide = Bounds { live_lane: LiveLane::Open, ..bounds };
    nothing_is_found(bounds, wide, &["new epoch", "re-bootstrap", "whole again"]);
}

#[test]
fn two_disks_lost_one_after_another() {
    let bounds = Bounds { nodes: 3, writes: 1, losses: 2, ..SMALLEST };
    let wide = Bounds { writes: 2, live_lane: LiveLane::Cut, ..bounds };
    nothing_is_found(bounds, wide, &["re-bootstrap", "whole again"]);
}

/// The image is of a running node's disk: who was not told that it went back begins a new epoch all the same.
#[test]
fn a_disk_that_goes_back_unnoticed() {
    let bounds = Bounds { writes: 3, losses: 1, loss: Loss::Unnoticed, live_lane: LiveLane::Cut, ..SMALLEST };
    nothing_is_found(bounds, Bounds { nodes: 3, ..bounds }, &["new epoch"]);
}

#[test]
fn a_token_of_an_op_that_its_node_has_forgotten() {
    let bounds = Bounds {
        writes: 4,
        reads: 1,
        losses: 1,
        loss: Loss::Unnoticed,
        sessions: 0,
        live_lane: LiveLane::Cut,
        ..SMALLEST
    };
    nothing_is_found(bounds, Bounds { nodes: 3, ..bounds }, &["new epoch"]);
}
