//! Makes a failing schedule smaller (delta debugging, Zeller and Hildebrandt 2002).

use super::{Schedule, Step};

/// The smallest schedule that was found by leaving out steps of `schedule` and that still `fails`.
///
/// `fails` is called at most `tries_max` times; each call is told how many steps the candidate has.
pub fn shrink(schedule: &Schedule, tries_max: usize, mut fails: impl FnMut(&Schedule) -> bool) -> Schedule {
    let mut smallest = schedule.clone();
    let mut tries = 0;
    let mut chunk = smallest.steps.len().div_ceil(2);
    while chunk > 0 && tries < tries_max {
        let mut from = 0;
        let mut is_smaller = false;
        while from < smallest.steps.len() && tries < tries_max {
            let candidate = without(&smallest, from, chunk);
            tries += 1;
            if fails(&candidate) {
                smallest = candidate;
                is_smaller = true;
            } else {
                from += chunk;
            }
        }
        chunk = if chunk > 1 { chunk / 2 } else { usize::from(is_smaller) };
    }
    smallest
}

fn without(schedule: &Schedule, from: usize, count: usize) -> Schedule {
    let keeps = |(at, _): &(usize, &Step)| *at < from || *at >= from + count;
    let steps = schedule.steps.iter().enumerate().filter(keeps).map(|(_, step)| step.clone()).collect();
    Schedule { steps, ..schedule.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(ms: &[u64]) -> Schedule {
        let steps = ms.iter().map(|ms| Step::Pass { ms: *ms }).collect();
        let (seed, nodes, catchup_interval_ms) = (1, 3, None);
        let (disks_to_lose, segment_bytes, scopes) = (None, None, None);
        Schedule { seed, nodes, catchup_interval_ms, disks_to_lose, segment_bytes, scopes, steps }
    }

    #[test]
    fn what_does_not_matter_is_left_out() {
        let all: Vec<u64> = (0..100).collect();
        let needs = |wanted: &'static [u64]| {
            move |schedule: &Schedule| {
                wanted.iter().all(|ms| schedule.steps.contains(&Step::Pass { ms: *ms }))
            }
        };
        assert_eq!(shrink(&passes(&all), 10_000, needs(&[3, 50, 51, 99])), passes(&[3, 50, 51, 99]));
        assert_eq!(shrink(&passes(&all), 10_000, needs(&[])), passes(&[]));
    }

    #[test]
    fn it_ends_after_so_many_tries() {
        let mut tries = 0;
        let all: Vec<u64> = (0..100).collect();
        shrink(&passes(&all), 5, |_| {
            tries += 1;
            false
        });
        assert_eq!(tries, 5);
    }
}
