//! How many replicas a write needs, by namespace.

use std::str::FromStr;

use super::policy::{LevelError, WriteLevel};
use crate::id::Namespace;
use crate::scope::{Scope, ScopeError};

/// What an operator asks of the writes of each namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteLevels {
    /// Where nothing else is said.
    pub default: WriteLevel,
    /// In these namespaces; of several that have one, the first counts.
    pub by_namespace: Vec<(Scope, WriteLevel)>,
}

impl WriteLevels {
    /// The level of a namespace.
    pub fn of(&self, namespace: &Namespace) -> WriteLevel {
        let named = self.by_namespace.iter().find(|(scope, _)| scope.contains(namespace));
        named.map_or(self.default, |(_, level)| *level)
    }

    /// All of them, the default first.
    pub fn all(&self) -> impl Iterator<Item = WriteLevel> {
        std::iter::once(self.default).chain(self.by_namespace.iter().map(|(_, level)| *level))
    }

    /// The smallest number that a write may need among `n` replicas, whatever its namespace.
    pub fn needed_min(&self, n: usize) -> usize {
        self.all().map(|level| level.needed(n)).min().unwrap_or(1)
    }
}

impl From<WriteLevel> for WriteLevels {
    /// The same everywhere.
    fn from(default: WriteLevel) -> Self {
        Self { default, by_namespace: Vec::new() }
    }
}

/// What one text `glob=level` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceLevel {
    /// The namespaces.
    pub scope: Scope,
    /// Their level.
    pub level: WriteLevel,
}

/// Why a text is no `glob=level`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceLevelError {
    /// There is no `=`.
    #[error("it is not <glob>=<level>")]
    Form,
    /// The glob is none.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The level is none.
    #[error(transparent)]
    Level(#[from] LevelError),
}

impl FromStr for NamespaceLevel {
    type Err = NamespaceLevelError;

    fn from_str(text: &str) -> Result<Self, NamespaceLevelError> {
        let (glob, level) = text.split_once('=').ok_or(NamespaceLevelError::Form)?;
        Ok(Self { scope: Scope::parse([glob.trim()])?, level: level.trim().parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels() -> WriteLevels {
        let by_namespace = ["team/**=all", "team/tmp=one", "tmp/*=1"].map(|text| {
            let NamespaceLevel { scope, level } = text.parse().unwrap();
            (scope, level)
        });
        WriteLevels { default: WriteLevel::Majority, by_namespace: by_namespace.to_vec() }
    }

    #[test]
    fn the_first_that_has_a_namespace_counts_and_else_the_default() {
        for (namespace, level) in [
            ("team", WriteLevel::All),
            ("team/tmp", WriteLevel::All),
            ("tmp/x", WriteLevel::Count(1)),
            ("tmp", WriteLevel::Majority),
            ("teams", WriteLevel::Majority),
        ] {
            assert_eq!(levels().of(&Namespace::new(namespace).unwrap()), level, "{namespace}");
        }
    }

    #[test]
    fn the_smallest_of_all_is_what_a_write_may_need() {
        assert_eq!(levels().needed_min(5), 1);
        assert_eq!(WriteLevels::from(WriteLevel::Majority).needed_min(5), 3);
    }

    #[test]
    fn what_is_no_glob_and_level_is_told() {
        let parse = |text: &str| text.parse::<NamespaceLevel>();
        assert_eq!(parse("team"), Err(NamespaceLevelError::Form));
        assert!(matches!(parse("../x=all"), Err(NamespaceLevelError::Scope(_))));
        assert!(matches!(parse("team=most"), Err(NamespaceLevelError::Level(_))));
        assert!(matches!(parse("team="), Err(NamespaceLevelError::Level(_))));
    }
}
