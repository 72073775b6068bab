//! Fifty seeds of the simulation: partitions, lost answers, power cuts that lose un-synced bytes.

use federation_tests::simulation::scenario::{Coverage, Scenario, run};

#[test]
fn fifty_seeds_of_faults_lose_nothing_and_end_equal() {
    let mut total = Coverage::default();
    for seed in 0..50 {
        let nodes = if seed % 5 == 4 { 5 } else { 3 };
        match run(Scenario { seed, nodes, writes: 220 }) {
            Ok(coverage) => total = total.plus(coverage),
            Err(violation) => panic!("seed {seed}, {}: {}", violation.guarantee, violation.seen),
        }
    }
    println!("{total:?}");
    let reached =
        [total.acknowledged, total.not_met, total.refused, total.crashes, total.partitions, total.siblings];
    assert!(reached.iter().all(|count| *count > 0), "a seed that reaches nothing shows nothing: {total:?}");
}
