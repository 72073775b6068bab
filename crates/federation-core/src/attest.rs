//! What a node trusts another with, and what follows for each op and each completion: the one place that push, pull,
//! admission, completion and the counting of n ask.

use std::fmt;
use std::sync::Arc;

use crate::dot_set::DotSet;
use crate::id::{AgentId, IdError, Kind, Namespace, NodeId};
use crate::limits::{AUTHOR_PATTERNS_MAX, KINDS_MAX};
use crate::op::Op;
use crate::planted::{Defect, is_planted};
use crate::scope::Scope;

/// What a node trusts another with. Everything that is not given is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// What the other keeps: what counts in n.
    pub replicates: Scope,
    /// What may leave to it.
    pub grant: Scope,
    /// In what ops of its making are taken, whoever brings them.
    pub accept: Scope,
    /// In what its completion is believed for other origins.
    pub relay: Scope,
    /// Whom it may speak for.
    pub authors: Authors,
    /// What kinds of records are taken from it.
    pub kinds: Kinds,
}

/// Why an op is refused for good although its origin made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Forbidden {
    /// Its namespace is not kept here, or not taken from its origin.
    #[error("the namespace is outside the scope")]
    NamespaceOutOfScope,
    /// Its origin may not speak for its author.
    #[error("the origin may not speak for the author")]
    AuthorNotAllowed,
    /// Its kind is not taken from its origin.
    #[error("the kind is not taken from the origin")]
    KindNotAllowed,
}

impl Trust {
    /// Trust in everything.
    pub fn full() -> Self {
        let all = Scope::everything;
        let (authors, kinds) = (Authors::any(), Kinds::Any);
        Self { replicates: all(), grant: all(), accept: all(), relay: all(), authors, kinds }
    }

    /// Whether ops of this namespace leave to the other: it may have them, and keeps them. Those it counts for in n.
    pub fn lets_out(&self, namespace: &Namespace) -> bool {
        is_planted(Defect::ScopeLeak)
            || (self.grant.contains(namespace) && self.replicates.contains(namespace))
    }

    /// Whether an op that the other made is taken by a node that keeps `own`, whoever brings it.
    ///
    /// # Errors
    /// Why not.
    pub fn lets_in(&self, own: &Scope, op: &Op) -> Result<(), Forbidden> {
        keeps(own, op)?;
        if !self.accept.contains(&op.key.namespace) && !is_planted(Defect::ScopeLeak) {
            return Err(Forbidden::NamespaceOutOfScope);
        }
        if !self.authors.contain(&op.author) {
            return Err(Forbidden::AuthorNotAllowed);
        }
        if !self.kinds.contain(&op.key.kind) {
            return Err(Forbidden::KindNotAllowed);
        }
        Ok(())
    }
}

/// Whether a node that keeps `own` takes this op, whoever made it: all that is asked of its own ops that come back.
///
/// # Errors
/// [`Forbidden::NamespaceOutOfScope`].
pub fn keeps(own: &Scope, op: &Op) -> Result<(), Forbidden> {
    let is_kept = own.contains(&op.key.namespace) || is_planted(Defect::ScopeLeak);
    if is_kept { Ok(()) } else { Err(Forbidden::NamespaceOutOfScope) }
}

/// What of a sender's clock its completion may bring into the receiver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claimable {
    /// Nothing: the sender holds back what the receiver keeps.
    Nothing,
    /// The dots of the sender's own ops.
    OwnOrigins,
    /// All of it.
    Everything,
}

/// The scopes that decide what a completion is worth.
#[derive(Clone, Copy, Debug)]
pub struct CompletionScopes<'a> {
    /// What the sender keeps.
    pub sender: &'a Scope,
    /// What the sender lets out to the receiver.
    pub grant: &'a Scope,
    /// In what the receiver believes the sender of other origins. The sender, who does not know, takes everything.
    pub relay: &'a Scope,
    /// What the receiver keeps.
    pub receiver: &'a Scope,
}

impl CompletionScopes<'_> {
    /// The scope rule of completion (counterexample 5).
    ///
    /// A dot that is merged must be of an op that the sender has sent, has replaced by one that it has sent, or that
    /// the receiver does not keep. Of other origins the sender has everything only in what it keeps itself. Of its own
    /// ops it has all, and they are of what it keeps; so there the grant need only hold what both keep.
    pub fn claimable(&self) -> Claimable {
        let everything = [self.sender, self.grant, self.relay];
        if is_planted(Defect::CompleteBeyondScope) || everything.iter().all(|s| s.covers(self.receiver)) {
            Claimable::Everything
        } else if self.grant.covers_common(self.sender, self.receiver) {
            Claimable::OwnOrigins
        } else {
            Claimable::Nothing
        }
    }
}

impl Claimable {
    /// What of `claimed`, which `sender` claims, may be merged.
    #[must_use]
    pub fn of(self, claimed: &DotSet, sender: &NodeId) -> DotSet {
        match self {
            Self::Everything => claimed.clone(),
            Self::OwnOrigins => claimed.of_origins(|origin| origin.node == *sender),
            Self::Nothing => DotSet::new(),
        }
    }
}

/// Agent ids that a node may speak for: exact ones, or all that begin so (`team-*`); `*` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Authors {
    /// Sorted, each once.
    patterns: Vec<AuthorPattern>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum AuthorPattern {
    Exactly(Arc<str>),
    Beginning(Arc<str>),
}

impl Authors {
    /// Any agent.
    pub fn any() -> Self {
        Self { patterns: vec![AuthorPattern::Beginning(Arc::from(""))] }
    }

    /// The agents of these patterns.
    ///
    /// # Errors
    /// The first pattern that is invalid, or that there are more than [`AUTHOR_PATTERNS_MAX`].
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, ListError> {
        let patterns = parse_list(patterns, AUTHOR_PATTERNS_MAX, |text| {
            let (id, is_beginning) = text.strip_suffix('*').map_or((text, false), |start| (start, true));
            // What an id begins with is in the form of one.
            if !(is_beginning && id.is_empty()) {
                AgentId::new(id)?;
            }
            let id = Arc::from(id);
            Ok(if is_beginning { AuthorPattern::Beginning(id) } else { AuthorPattern::Exactly(id) })
        })?;
        Ok(Self { patterns })
    }

    /// Whether `author` is among them.
    pub fn contain(&self, author: &AgentId) -> bool {
        self.patterns.iter().any(|pattern| match pattern {
            AuthorPattern::Exactly(id) => **id == *author.as_str(),
            AuthorPattern::Beginning(start) => author.as_str().starts_with(&**start),
        })
    }

    /// The patterns, in order.
    pub fn patterns(&self) -> impl ExactSizeIterator<Item = String> {
        self.patterns.iter().map(ToString::to_string)
    }
}

impl fmt::Display for AuthorPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(id) => f.write_str(id),
            Self::Beginning(start) => write!(f, "{start}*"),
        }
    }
}

/// Kinds of records: some, or any (`*`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kinds {
    /// Every kind.
    Any,
    /// These, sorted, each once.
    Only(Vec<Kind>),
}

impl Default for Kinds {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Kinds {
    /// These kinds.
    ///
    /// # Errors
    /// The first that is no kind, or that there are more than [`KINDS_MAX`].
    pub fn parse<'a>(kinds: impl IntoIterator<Item = &'a str>) -> Result<Self, ListError> {
        let kinds = parse_list(kinds, KINDS_MAX, |text| match text {
            "*" => Ok(None),
            _ => Ok(Some(Kind::new(text)?)),
        })?;
        if kinds.contains(&None) {
            return Ok(Self::Any);
        }
        Ok(Self::Only(kinds.into_iter().flatten().collect()))
    }

    /// Whether `kind` is among them.
    pub fn contain(&self, kind: &Kind) -> bool {
        match self {
            Self::Any => true,
            Self::Only(kinds) => kinds.contains(kind),
        }
    }

    /// As text, in order.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Any => vec!["*".to_owned()],
            Self::Only(kinds) => kinds.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Why a list is not one of authors or kinds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// An entry is invalid.
    #[error("{entry:?} cannot stand there")]
    Entry {
        /// The entry.
        entry: String,
        /// Why not.
        #[source]
        why: IdError,
    },
    /// There are too many entries.
    #[error("there are more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

fn parse_list<'a, T: Ord>(
    texts: impl IntoIterator<Item = &'a str>,
    limit: usize,
    parse: impl Fn(&str) -> Result<T, IdError>,
) -> Result<Vec<T>, ListError> {
    let mut out = Vec::new();
    for text in texts {
        if out.len() == limit {
            return Err(ListError::TooMany { limit });
        }
        out.push(parse(text).map_err(|why| ListError::Entry { entry: text.into(), why })?);
    }
    out.sort();
    out.dedup();
    Ok(out)
}

#[cfg(test)]
mod tests;
