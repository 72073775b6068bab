//! Seeds of the simulation: partitions, lost answers, power cuts that lose un-synced bytes, lost and failing disks, wrong
//! clocks, nodes that stand still.

use federation_tests::simulation::coverage::Coverage;
use federation_tests::simulation::scenario::{Scenario, run};

#[test]
fn fifty_seeds_of_faults_lose_nothing_and_end_equal() {
    let mut total = Coverage::default();
    for seed in 0..50 {
        let nodes = if seed % 5 == 4 { 5 } else { 3 };
        match run(Scenario { seed, nodes, writes: 150, hostile: seed % 5 > 0 }) {
            Ok(coverage) => total = total.plus(coverage),
            Err(violation) => panic!("seed {seed}, {}: {}", violation.guarantee, violation.seen),
        }
    }
    println!("{total:?}");
    let reached = [
        total.acknowledged,
        total.not_met,
        total.refused,
        total.unanswered,
        total.crashes,
        total.partitions,
        total.lost_disks,
        total.clock_jumps,
        total.pauses,
        total.full_disks,
        total.failed_disks,
        total.recoveries,
        total.siblings,
    ];
    assert!(reached.iter().all(|count| *count > 0), "a seed that reaches nothing shows nothing: {total:?}");
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in [3, 4, 8] {
        let scenario = Scenario { seed, nodes: 3, writes: 120, hostile: true };
        let digests = [(); 2].map(|()| run(scenario).expect("no violation").digest);
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}
