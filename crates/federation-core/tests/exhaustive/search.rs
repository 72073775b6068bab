//! Breadth first: the first violation found is one of the shortest.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

#[cfg(feature = "planted-bugs")]
use federation_core::planted::{Defect, plant};

use crate::bounds::Bounds;
use crate::check::{check, check_end};
use crate::mesh::{Action, Mesh};

/// What a search came to.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    /// Different states.
    pub(crate) states: usize,
    /// Steps from one of them to another, or back to one seen before.
    pub(crate) steps: usize,
    /// Steps of the longest of the shortest ways to a state.
    pub(crate) depth: usize,
    /// Different holdings from which all was exchanged to the end.
    pub(crate) ends: usize,
    /// What was reached, and in how many states.
    pub(crate) reached: BTreeMap<&'static str, usize>,
    pub(crate) violation: Option<Found>,
}

/// A violation and a shortest way to it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) seen: String,
    pub(crate) path: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (step, action) in self.path.iter().enumerate() {
            writeln!(f, "  {}. {action}", step + 1)?;
        }
        write!(f, "  => {}", self.seen)
    }
}

/// Names a state: that two of a million are confused has a chance of one in tens of millions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn of(value: &impl Hash) -> Self {
        // Its keys are the same in every run.
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// One search at a time: a planted defect holds for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Goes through every history within `bounds`, up to the first violation.
pub(crate) fn search(bounds: Bounds) -> Searched {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    run(bounds)
}

/// The same with a defect planted.
#[cfg(feature = "planted-bugs")]
pub(crate) fn search_with(defect: Defect, bounds: Bounds) -> Searched {
    struct Planted;
    impl Drop for Planted {
        fn drop(&mut self) {
            plant(None);
        }
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let _planted = Planted;
    plant(Some(defect));
    run(bounds)
}

fn run(bounds: Bounds) -> Searched {
    let begun = Instant::now();
    let mut search =
        Search { bounds, from: BTreeMap::new(), ended: BTreeSet::new(), out: Searched::default() };
    search.run();
    let Searched { states, steps, depth, ends, reached, .. } = &search.out;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{states} states, {steps} steps, depth {depth}, {ends} ends, {seconds:.1} s, reached {reached:?}"
    );
    search.out
}

struct Search {
    bounds: Bounds,
    /// For each state but the first, the one before it and the step between.
    from: BTreeMap<Fingerprint, Option<(Fingerprint, Action)>>,
    /// What nodes held in states of which it is known how they end.
    ended: BTreeSet<Fingerprint>,
    out: Searched,
}

/// A state that was not known before.
struct New {
    mesh: Mesh,
    name: Fingerprint,
    before: Fingerprint,
    action: Action,
    /// What was seen in the step itself.
    stepped: Result<(), String>,
}

impl Search {
    fn run(&mut self) {
        let start = Mesh::new(self.bounds);
        let mut level = vec![(Fingerprint::of(&start), start)];
        self.from.insert(level[0].0, None);
        self.out.states = 1;
        while !level.is_empty() {
            let found = in_parts(&level, |part| self.steps(part));
            level.clear();
            let mut news = Vec::new();
            for (steps, states) in found {
                self.out.steps += steps;
                for new in states {
                    if let Entry::Vacant(vacant) = self.from.entry(new.name) {
                        vacant.insert(Some((new.before, new.action.clone())));
                        news.push(new);
                    }
                }
            }
            if news.is_empty() {
                return;
            }
            self.out.depth += 1;
            self.out.states += news.len();
            if let Some((seen, name)) = self.first_violation(&news) {
                self.out.violation = Some(Found { seen, path: self.path(name) });
                return;
            }
            for new in news {
                for what in new.mesh.reached() {
                    *self.out.reached.entry(what).or_default() += 1;
                }
                level.push((new.name, new.mesh));
            }
        }
    }

    /// Every step from these states that leads to one that is not known yet, and how many steps there are.
    fn steps(&self, states: &[(Fingerprint, Mesh)]) -> (usize, Vec<New>) {
        let (mut count, mut out) = (0, Vec::new());
        for (before, state) in states {
            for action in state.actions() {
                count += 1;
                let mut mesh = state.clone();
                let stepped = mesh.step(&action);
                let name = Fingerprint::of(&mesh);
                if stepped.is_err() || !self.from.contains_key(&name) {
                    out.push(New { mesh, name, before: *before, action, stepped });
                }
            }
        }
        (count, out)
    }

    fn first_violation(&mut self, news: &[New]) -> Option<(String, Fingerprint)> {
        let checked: Vec<(&New, bool)> = news
            .iter()
            .map(|new| (new, new.mesh.is_quiet() && self.ended.insert(new.mesh.holdings())))
            .collect();
        self.out.ends = self.ended.len();
        let first = |part: &[(&New, bool)]| {
            part.iter().find_map(|(new, is_end)| {
                let holds = new.stepped.clone().and_then(|()| check(&new.mesh));
                let holds = holds.and_then(|()| if *is_end { check_end(&new.mesh) } else { Ok(()) });
                holds.err().map(|seen| (seen, new.name))
            })
        };
        in_parts(&checked, first).into_iter().flatten().next()
    }

    fn path(&self, to: Fingerprint) -> Vec<String> {
        let mut path = Vec::new();
        let mut at = to;
        while let Some(Some((before, action))) = self.from.get(&at) {
            path.push(action.to_string());
            at = *before;
        }
        path.reverse();
        path
    }
}

/// Works on parts of `all` on as many threads as there are processors; the answers are in order.
fn in_parts<T: Sync, R: Send>(all: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let work = &work;
    thread::scope(|scope| {
        let parts = all.chunks(all.len().div_ceil(threads).max(1));
        let running: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
