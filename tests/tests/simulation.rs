//! The simulation as every test run has it: kept schedules, some seeds, and that a run repeats. `.ci/run` runs more
//! seeds, by `cargo xtask sim`.

use federation_tests::checker::Guarantee;
use federation_tests::schedule::{Drawing, draw};
use federation_tests::simulation::campaign::{AfterFailure, Plan};
use federation_tests::simulation::kept;
use federation_tests::simulation::trace::Tracing;
use federation_tests::simulation::world::{Options, run};

#[test]
fn kept_schedules_violate_nothing() {
    for (name, kept) in kept::all().unwrap() {
        let outcome = run(&kept.schedule, &Options::default());
        assert_eq!(outcome.findings, [], "{name}: {}", kept.what);
    }
}

#[test]
fn seeds_violate_nothing() {
    let plan = Plan { after_failure: AfterFailure::GoOn, ..Plan::new(0, 24) };
    let results = plan.run(|_, _| {});
    assert_eq!(results.failed.into_iter().collect::<Vec<_>>(), []);
    assert_eq!(results.counted, 24, "a seed without enough calls and faults shows nothing");
}

#[test]
fn a_schedule_is_the_same_run_every_time_byte_for_byte() {
    let options = Options { tracing: Tracing::Lines, claims: Guarantee::ALL.into_iter().collect() };
    for seed in [3, 4, 8] {
        let schedule = draw(&Drawing::new(seed));
        let traces = [(); 2].map(|()| run(&schedule, &options).trace.lines());
        let [first, second] = &traces;
        assert!(first.len() > 200, "seed {seed} says next to nothing");
        let differs = first.iter().zip(second).find(|(a, b)| a != b);
        assert_eq!((first.len(), differs), (second.len(), None), "seed {seed}");
    }
}
