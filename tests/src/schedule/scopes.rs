//! What the nodes of a run keep, and what they hold back from each other.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

/// The namespaces of a run with scopes. A record is in the one that its name begins with, as in `x.r1`.
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];

/// What each node keeps, and what the enrolments hold back; everything else is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes {
    /// The namespaces that each node keeps.
    pub keeps: Vec<BTreeSet<String>>,
    /// What one node does not grant another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<Withheld>,
    /// Pairs of nodes of which the first does not believe the second's completion for others.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unrelayed: BTreeSet<(usize, usize)>,
    /// Whether of each node ops are taken only in what it keeps, or has kept.
    #[serde(default)]
    pub accepts_own: bool,
}

/// A namespace that one node does not grant another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// The namespace.
    pub namespace: String,
    /// Who does not grant it.
    pub from: usize,
    /// To whom.
    pub to: usize,
}

/// One of the namespaces.
pub(super) fn one_of(random: &mut StdRng) -> String {
    NAMESPACES.choose(random).copied().unwrap_or_default().to_owned()
}

impl Scopes {
    /// Scopes for so many nodes in which each namespace can still reach all who keep it.
    pub(super) fn draw(random: &mut StdRng, nodes: usize) -> Self {
        let mut scopes = Self { keeps: vec![BTreeSet::new(); nodes], ..Self::default() };
        for namespace in NAMESPACES {
            for keeps in &mut scopes.keeps {
                if random.random_bool(0.7) {
                    keeps.insert(namespace.to_owned());
                }
            }
            let from = random.random_range(0..nodes);
            for more in 0..nodes {
                if scopes.keepers(namespace).len() < 2
                    && let Some(keeps) = scopes.keeps.get_mut((from + more) % nodes)
                {
                    keeps.insert(namespace.to_owned());
                }
            }
        }
        for keeps in scopes.keeps.iter_mut().filter(|keeps| keeps.is_empty()) {
            keeps.insert(one_of(random));
        }
        for namespace in NAMESPACES {
            let from = random.random_range(0..nodes);
            let to = (from + random.random_range(1..nodes)) % nodes;
            if random.random_bool(0.5) {
                let mut tried = scopes.clone();
                let withheld = |from, to| Withheld { namespace: namespace.to_owned(), from, to };
                tried.withheld.push(withheld(from, to));
                if random.random_bool(0.5) {
                    tried.withheld.push(withheld(to, from));
                }
                if tried.is_whole() {
                    scopes = tried;
                }
            }
        }
        for at in 0..nodes {
            scopes
                .unrelayed
                .extend((0..nodes).filter(|of| *of != at && random.random_bool(0.15)).map(|of| (at, of)));
        }
        scopes.accepts_own = random.random_bool(0.5);
        scopes
    }

    /// The nodes that keep a namespace.
    pub fn keepers(&self, namespace: &str) -> BTreeSet<usize> {
        (0..self.keeps.len())
            .filter(|i| self.keeps.get(*i).is_some_and(|keeps| keeps.contains(namespace)))
            .collect()
    }

    /// Whether `from` grants `to` a namespace.
    pub fn grants(&self, from: usize, to: usize, namespace: &str) -> bool {
        !self.withheld.iter().any(|w| (w.from, w.to, &*w.namespace) == (from, to, namespace))
    }

    /// Whether each namespace has two who keep it and can reach all who do, and each of these grants it to another.
    pub fn is_whole(&self) -> bool {
        NAMESPACES.iter().all(|namespace| {
            let keepers = self.keepers(namespace);
            keepers.len() >= 2 && keepers.iter().all(|from| self.reaches(*from, namespace) == keepers)
        })
    }

    /// Who has what a node has of a namespace, in the end.
    fn reaches(&self, from: usize, namespace: &str) -> BTreeSet<usize> {
        let keepers = self.keepers(namespace);
        let (mut reached, mut next) = (BTreeSet::from([from]), vec![from]);
        while let Some(at) = next.pop() {
            for to in keepers.iter().filter(|to| self.grants(at, **to, namespace)) {
                if reached.insert(*to) {
                    next.push(*to);
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn whatever_is_drawn_can_reach_all_who_keep_it() {
        let (mut withheld, mut partial) = (0, 0);
        for seed in 0..300 {
            let scopes =
                Scopes::draw(&mut StdRng::seed_from_u64(seed), 3 + usize::try_from(seed % 3).unwrap());
            assert!(scopes.is_whole(), "{scopes:?}");
            assert!(scopes.keeps.iter().all(|keeps| !keeps.is_empty()));
            withheld += scopes.withheld.len();
            partial += scopes.keeps.iter().filter(|keeps| keeps.len() < NAMESPACES.len()).count();
        }
        assert!(withheld > 50 && partial > 50, "{withheld} {partial}");
    }

    #[test]
    fn a_namespace_that_is_cut_in_two_is_not_whole() {
        let both = || NAMESPACES.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let mut scopes = Scopes { keeps: vec![both(); 2], ..Scopes::default() };
        assert!(scopes.is_whole());
        scopes.withheld.push(Withheld { namespace: "y".to_owned(), from: 0, to: 1 });
        assert!(!scopes.is_whole());
        scopes.keeps.push(both());
        assert!(scopes.is_whole(), "by way of the third");
        scopes.keeps[1].remove("y");
        scopes.keeps[2].remove("y");
        assert!(!scopes.is_whole(), "one is none");
    }
}
