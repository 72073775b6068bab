//! Some of a record's ops, by their numbers.

/// A set of small numbers, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    words: Vec<u64>,
}

impl Marks {
    /// The empty set, for numbers below `count`.
    pub fn none_of(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(BITS)] }
    }

    /// Adds a number; one that is not below the count is left out.
    pub fn add(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / BITS) {
            *word |= 1 << (number % BITS);
        }
    }

    /// Adds all of another set for the same count.
    pub fn add_all(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// Whether it has the number.
    pub fn has(&self, number: usize) -> bool {
        self.words.get(number / BITS).is_some_and(|word| word >> (number % BITS) & 1 == 1)
    }

    /// How many it has.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether another set for the same count has all of it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).all(|(word, all)| word & !all == 0)
    }

    /// Lets each set, the `i`-th of which belongs to the number `i`, have all that the sets of its members have
    /// (Warshall 1962).
    pub fn close(sets: &mut [Self]) {
        for through in 0..sets.len() {
            let Some(more) = sets.get(through).cloned() else { continue };
            for set in sets.iter_mut().filter(|set| set.has(through)) {
                set.add_all(&more);
            }
        }
    }
}

const BITS: usize = u64::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(numbers: &[usize]) -> Marks {
        let mut marks = Marks::none_of(130);
        for number in numbers {
            marks.add(*number);
        }
        marks
    }

    #[test]
    fn it_has_what_was_added() {
        let marks = marks(&[0, 63, 64, 129, 500]);
        let has: Vec<usize> = (0..600).filter(|number| marks.has(*number)).collect();
        assert_eq!(has, [0, 63, 64, 129]);
        assert_eq!(marks.count(), 4);
    }

    #[test]
    fn it_is_within_what_has_all_of_it() {
        assert!(marks(&[]).is_within(&marks(&[])));
        assert!(marks(&[1, 70]).is_within(&marks(&[1, 2, 70])));
        assert!(!marks(&[1, 71]).is_within(&marks(&[1, 2, 70])));
    }

    #[test]
    fn closing_follows_every_way_also_round_a_circle() {
        let mut sets = vec![marks(&[1]), marks(&[2]), marks(&[3]), marks(&[]), marks(&[5]), marks(&[4])];
        Marks::close(&mut sets);
        let expect =
            [marks(&[1, 2, 3]), marks(&[2, 3]), marks(&[3]), marks(&[]), marks(&[4, 5]), marks(&[4, 5])];
        assert_eq!(sets, expect);
    }
}
