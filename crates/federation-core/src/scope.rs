//! Which namespaces a node keeps, gives out or takes: globs.

use std::fmt;
use std::sync::Arc;

use crate::id::{IdError, Namespace};
use crate::limits::{NAMESPACE_CHARS_MAX, NAMESPACE_DEPTH_MAX, SCOPE_GLOBS_MAX};

/// A set of namespaces, as a list of globs. The empty list is the empty set.
///
/// A glob is a namespace in which a segment may be `*`, any one segment, and the last may be `**`, any
/// number of segments, none included: `p/**` holds `p` and everything below it, `p/*` what is directly
/// below it, `**` everything.
///
/// ```
/// use federation_core::id::Namespace;
/// use federation_core::scope::Scope;
///
/// let team = Scope::parse(["team/**", "shared/*"]).unwrap();
/// assert!(team.contains(&Namespace::new("team").unwrap()));
/// assert!(team.contains(&Namespace::new("team/a/b").unwrap()));
/// assert!(!team.contains(&Namespace::new("shared").unwrap()));
/// assert!(Scope::everything().covers(&team));
/// assert!(!team.covers(&Scope::everything()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Sorted, each once.
    globs: Vec<Glob>,
}

impl Scope {
    /// The scope that holds nothing.
    pub const fn nothing() -> Self {
        Self { globs: Vec::new() }
    }

    /// The scope that holds every namespace: `**`.
    pub fn everything() -> Self {
        Self { globs: vec![Glob { text: Arc::from("**"), segments: Vec::new(), tail: Tail::Any }] }
    }

    /// The scope of these globs; their order and repetitions do not matter.
    ///
    /// # Errors
    /// The first glob that is invalid, or that there are more than [`SCOPE_GLOBS_MAX`].
    pub fn parse<'a>(globs: impl IntoIterator<Item = &'a str>) -> Result<Self, ScopeError> {
        let mut parsed = Vec::new();
        for text in globs {
            if parsed.len() == SCOPE_GLOBS_MAX {
                return Err(ScopeError::TooMany { limit: SCOPE_GLOBS_MAX });
            }
            let glob = Glob::parse(text).map_err(|why| ScopeError::Glob { glob: text.into(), why })?;
            parsed.push(glob);
        }
        parsed.sort();
        parsed.dedup();
        Ok(Self { globs: parsed })
    }

    /// The globs as they were written, in order.
    pub fn globs(&self) -> impl ExactSizeIterator<Item = &str> {
        self.globs.iter().map(|glob| &*glob.text)
    }

    /// Whether it has no glob, and so holds nothing.
    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// Whether it holds `namespace`.
    pub fn contains(&self, namespace: &Namespace) -> bool {
        let segments: Vec<&str> = namespace.as_str().split('/').collect();
        self.globs.iter().any(|glob| glob.matches(&segments))
    }

    /// Whether it holds every namespace that `other` holds. Exact.
    ///
    /// For each glob of `other` and each depth, one namespace decides: the one whose free segments are a name
    /// that no glob of this scope spells out. What matches it has a wildcard wherever the other
    /// glob has one, and so matches all the others of that depth.
    pub fn covers(&self, other: &Self) -> bool {
        other.globs.iter().all(|theirs| {
            theirs.depths().all(|depth| self.globs.iter().any(|ours| ours.covers_at(theirs, depth)))
        })
    }

    /// Whether it holds every namespace that both of the others hold. Exact, as [`Scope::covers`].
    pub fn covers_common(&self, one: &Self, other: &Self) -> bool {
        one.globs.iter().all(|a| {
            other.globs.iter().all(|b| {
                a.common_depths(b)
                    .all(|depth| self.globs.iter().any(|ours| ours.covers_common_at(a, b, depth)))
            })
        })
    }

    /// What is in both. It may have more globs than can be written down.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let pairs = self.globs.iter().flat_map(|ours| other.globs.iter().map(move |theirs| (ours, theirs)));
        let mut globs: Vec<Glob> = pairs.filter_map(|(ours, theirs)| ours.common(theirs)).collect();
        globs.sort();
        globs.dedup();
        Self { globs }
    }

    /// Whether some namespace is in both. Exact.
    pub fn meets(&self, other: &Self) -> bool {
        self.globs.iter().any(|ours| other.globs.iter().any(|theirs| ours.meets(theirs)))
    }

    /// Whether both hold the same namespaces, however they are written.
    pub fn same_as(&self, other: &Self) -> bool {
        self.covers(other) && other.covers(self)
    }
}

impl fmt::Display for Scope {
    /// As a list of quoted globs; a comma is allowed within a namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.globs()).finish()
    }
}

/// One glob, taken apart. Ordered by its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Glob {
    text: Arc<str>,
    /// Without a final `**`.
    segments: Vec<Segment>,
    tail: Tail,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Segment {
    Any,
    Exactly(Arc<str>),
}

/// What may follow the segments of a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Tail {
    /// Nothing.
    None,
    /// Any segments, or none.
    Any,
}

impl Glob {
    fn parse(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        // A character has at most four bytes: the cheap test bounds the work of the others.
        let chars_max = NAMESPACE_CHARS_MAX + "/**".len();
        if text.len() > 4 * chars_max || text.chars().count() > chars_max {
            return Err(GlobError::TooLong { limit: chars_max });
        }
        let (fixed, tail) = match text.strip_suffix("**") {
            Some("") => (None, Tail::Any),
            Some(before) => match before.strip_suffix('/') {
                Some(fixed) => (Some(fixed), Tail::Any),
                None => return Err(GlobError::PartOfSegment),
            },
            None => (Some(text), Tail::None),
        };
        let segments = match fixed {
            None => Vec::new(),
            Some(fixed) => fixed.split('/').map(Segment::parse).collect::<Result<_, _>>()?,
        };
        if segments.len() > NAMESPACE_DEPTH_MAX {
            return Err(GlobError::TooDeep { limit: NAMESPACE_DEPTH_MAX });
        }
        let glob = Self { text: Arc::from(text), segments, tail };
        if glob.depths().next().is_none() {
            return Err(GlobError::TooLong { limit: chars_max });
        }
        Ok(glob)
    }

    fn matches(&self, namespace: &[&str]) -> bool {
        self.takes_depth(namespace.len())
            && self.segments.iter().zip(namespace).all(|(segment, name)| match segment {
                Segment::Any => true,
                Segment::Exactly(exact) => **exact == **name,
            })
    }

    fn takes_depth(&self, depth: usize) -> bool {
        match self.tail {
            Tail::None => depth == self.segments.len(),
            Tail::Any => depth >= self.segments.len(),
        }
    }

    /// The depths at which it holds any namespace, with respect to the limits of a namespace.
    fn depths(&self) -> impl Iterator<Item = usize> {
        (1..=NAMESPACE_DEPTH_MAX).filter(|depth| {
            self.takes_depth(*depth) && fits((0..*depth).map(|at| self.at(at).map_or(1, char_count)))
        })
    }

    /// The name it asks for at this place, none if any will do.
    fn at(&self, place: usize) -> Option<&str> {
        match self.segments.get(place) {
            Some(Segment::Exactly(exact)) => Some(exact),
            Some(Segment::Any) | None => None,
        }
    }

    /// Whether it holds every namespace of that depth that `other` holds.
    fn covers_at(&self, other: &Self, depth: usize) -> bool {
        self.covers_common_at(other, other, depth)
    }

    /// Whether it holds every namespace of that depth that both of the others hold.
    fn covers_common_at(&self, one: &Self, other: &Self, depth: usize) -> bool {
        self.takes_depth(depth)
            && (0..depth).all(|at| self.at(at).is_none() || self.at(at) == one.at(at).or(other.at(at)))
    }

    /// The depths at which some namespace is in both.
    fn common_depths(&self, other: &Self) -> impl Iterator<Item = usize> {
        self.depths().filter(|depth| other.takes_depth(*depth)).filter(|depth| {
            let names = (0..*depth).map(|at| (self.at(at), other.at(at)));
            names.clone().all(|pair| !matches!(pair, (Some(a), Some(b)) if a != b))
                && fits(names.map(|(a, b)| a.or(b).map_or(1, char_count)))
        })
    }

    /// The glob of what is in both, if anything is.
    fn common(&self, other: &Self) -> Option<Self> {
        self.common_depths(other).next()?;
        let (tail, len) = match (self.tail, other.tail) {
            (Tail::Any, Tail::Any) => (Tail::Any, self.segments.len().max(other.segments.len())),
            (Tail::None, _) => (Tail::None, self.segments.len()),
            (_, Tail::None) => (Tail::None, other.segments.len()),
        };
        let names = (0..len).map(|at| self.at(at).or(other.at(at)));
        let segments: Vec<_> = names
            .clone()
            .map(|name| name.map_or(Segment::Any, |name| Segment::Exactly(name.into())))
            .collect();
        let rest = (tail == Tail::Any).then_some("**");
        let text: Vec<&str> = names.map(|name| name.unwrap_or("*")).chain(rest).collect();
        Some(Self { text: text.join("/").into(), segments, tail })
    }

    fn meets(&self, other: &Self) -> bool {
        self.common_depths(other).next().is_some()
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, GlobError> {
        match text {
            "*" => Ok(Self::Any),
            "**" => Err(GlobError::NotLast),
            _ if text.contains('*') => Err(GlobError::PartOfSegment),
            // A segment is valid where it would be a valid namespace of its own.
            _ => match Namespace::new(text) {
                Ok(_) => Ok(Self::Exactly(Arc::from(text))),
                Err(IdError::Empty { .. }) => Err(GlobError::Segment(IdError::Segment)),
                Err(why) => Err(GlobError::Segment(why)),
            },
        }
    }
}

/// Why a list is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// A glob is invalid.
    #[error("{glob:?} is not a glob on namespaces")]
    Glob {
        /// The glob.
        glob: String,
        /// Why it is not.
        #[source]
        why: GlobError,
    },
    /// There are too many globs.
    #[error("a scope has at most {limit} globs")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// Why a text is not a glob on namespaces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// A `*` within a segment.
    #[error("\"*\" and \"**\" stand for whole segments")]
    PartOfSegment,
    /// A `**` that is not last.
    #[error("\"**\" must be the last segment")]
    NotLast,
    /// More segments than a namespace has.
    #[error("it is deeper than a namespace can be: {limit} segments")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Longer than a namespace can be.
    #[error("it is longer than {limit} characters or than any namespace")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// A segment that no namespace has.
    #[error("a segment is not valid: {0}")]
    Segment(IdError),
}

/// Whether segments of these lengths, in characters, make a namespace within its limit.
fn fits(segments: impl Iterator<Item = usize>) -> bool {
    let with_slashes: usize = segments.map(|chars| chars + 1).sum();
    with_slashes <= NAMESPACE_CHARS_MAX + 1
}

fn char_count(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(globs: &[&str]) -> Scope {
        Scope::parse(globs.iter().copied()).unwrap()
    }

    fn namespace(text: &str) -> Namespace {
        Namespace::new(text).unwrap()
    }

    #[test]
    fn contains() {
        let check = |globs: &[&str], name: &str, expect: bool| {
            assert_eq!(scope(globs).contains(&namespace(name)), expect, "{globs:?} {name}");
        };
        check(&[], "a", false);
        check(&["**"], "a", true);
        check(&["**"], "a/b/c/d/e/f/g/h", true);
        check(&["*"], "a", true);
        check(&["*"], "a/b", false);
        check(&["a"], "a", true);
        check(&["a"], "a/b", false);
        check(&["a"], "A", false);
        check(&["a/*"], "a", false);
        check(&["a/*"], "a/b", true);
        check(&["a/*"], "a/b/c", false);
        check(&["a/**"], "a", true);
        check(&["a/**"], "a/b/c", true);
        check(&["a/**"], "ab", false);
        check(&["a/**"], "b/a", false);
        check(&["*/x/**"], "a/x", true);
        check(&["*/x/**"], "a/x/y", true);
        check(&["*/x/**"], "x", false);
        check(&["*/**"], "a", true);
        check(&["a", "b/c"], "b/c", true);
        check(&["größe/**"], "größe/x", true);
    }

    #[test]
    fn invalid_globs() {
        let check = |text: &str, expect: GlobError| {
            let error = Scope::parse([text]).unwrap_err();
            assert_eq!(error, ScopeError::Glob { glob: text.into(), why: expect });
        };
        let segment = || GlobError::Segment(IdError::Segment);
        check("", GlobError::Empty);
        check("**/a", GlobError::NotLast);
        check("a/**/b", GlobError::NotLast);
        check("**/**", GlobError::NotLast);
        check("a**", GlobError::PartOfSegment);
        check("***", GlobError::PartOfSegment);
        check("a/***", GlobError::PartOfSegment);
        check("a*", GlobError::PartOfSegment);
        check("*a/b", GlobError::PartOfSegment);
        check("a//b", segment());
        check("/a", segment());
        check("a/", segment());
        check("/**", segment());
        check("/", segment());
        check("a/../b", segment());
        check("./a", segment());
        assert!(matches!(Glob::parse("a\u{0}"), Err(GlobError::Segment(IdError::Character { .. }))));
        assert!(matches!(Glob::parse("a\\b"), Err(GlobError::Segment(IdError::Character { .. }))));
        assert!(matches!(
            Glob::parse("gro\u{0308}ße/**"),
            Err(GlobError::Segment(IdError::NotNormalised { .. }))
        ));
        check("1/2/3/4/5/6/7/8/9", GlobError::TooDeep { limit: 8 });
        assert!(Glob::parse("1/2/3/4/5/6/7/8/**").is_ok(), "holds what is 8 deep");
        assert!(Glob::parse(&"x".repeat(513)).is_err());
        assert!(Glob::parse(&format!("{}/**", "x".repeat(512))).is_ok(), "holds the one it spells");
        check(&format!("{}/*", "x".repeat(511)), GlobError::TooLong { limit: 515 });
        let many = vec!["a"; SCOPE_GLOBS_MAX + 1];
        assert_eq!(Scope::parse(many), Err(ScopeError::TooMany { limit: SCOPE_GLOBS_MAX }));
    }

    #[test]
    fn covers() {
        let check = |ours: &[&str], theirs: &[&str], expect: bool| {
            assert_eq!(scope(ours).covers(&scope(theirs)), expect, "{ours:?} {theirs:?}");
        };
        check(&[], &[], true);
        check(&[], &["a"], false);
        check(&["a"], &[], true);
        check(&["**"], &["a/*", "b/**", "c"], true);
        check(&["*/**"], &["**"], true);
        check(&["*"], &["**"], false);
        check(&["*", "*/*/**"], &["**"], true);
        check(&["a", "a/*/**"], &["a/**"], true);
        check(&["a/*/**"], &["a/**"], false);
        check(&["a/*"], &["a/b"], true);
        check(&["a/b"], &["a/*"], false);
        check(&["a/*", "*/b"], &["*/*"], false);
        check(&["a/**"], &["a/b", "a/*/c"], true);
        check(&["a/b/c/d/e/f/g", "a/b/c/d/e/f/g/*"], &["a/b/c/d/e/f/g/**"], true);
        let long = "x".repeat(511);
        check(&[&long], &[&format!("{long}/**")], true);
    }

    #[test]
    fn shows_as_a_list() {
        assert_eq!(scope(&["b/**", "a", "a"]).to_string(), r#"["a", "b/**"]"#);
        assert_eq!(Scope::nothing().to_string(), "[]");
        assert_eq!(scope(&["**"]), Scope::everything());
        assert_eq!(scope(&["b", "a"]).globs().collect::<Vec<_>>(), ["a", "b"]);
    }

    /// All namespaces up to the full depth over an alphabet with one name (`z`) that no glob below spells out.
    fn universe() -> Vec<Namespace> {
        let mut all = Vec::new();
        let mut level = vec![String::new()];
        for _ in 0..4 {
            level = level
                .iter()
                .flat_map(|at| {
                    ["a", "b", "z"].map(|s| if at.is_empty() { s.into() } else { format!("{at}/{s}") })
                })
                .collect();
            all.extend(level.iter().map(|text| namespace(text)));
        }
        all
    }

    fn globs() -> impl Strategy<Value = Scope> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("*")];
        let tail = prop_oneof![Just(""), Just("/**")];
        let glob = prop_oneof![
            8 => (proptest::collection::vec(segment, 1..4), tail).prop_map(|(s, t)| s.join("/") + t),
            1 => Just("**".to_owned()),
        ];
        proptest::collection::vec(glob, 0..5)
            .prop_map(|globs| Scope::parse(globs.iter().map(String::as_str)).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        // Globs have at most three segments, so what holds at depth 4 holds below it too.
        #[test]
        fn inclusion_and_meeting_agree_with_enumeration(a in globs(), b in globs()) {
            let universe = universe();
            let included = universe.iter().all(|n| !b.contains(n) || a.contains(n));
            prop_assert_eq!(a.covers(&b), included, "{} covers {}", a, b);
            let met = universe.iter().any(|n| b.contains(n) && a.contains(n));
            prop_assert_eq!(a.meets(&b), met, "{} meets {}", a, b);
            prop_assert_eq!(a.meets(&b), b.meets(&a));
        }

        #[test]
        fn what_two_have_in_common_agrees_with_enumeration(a in globs(), b in globs(), c in globs()) {
            let common = universe().into_iter().filter(|n| b.contains(n) && c.contains(n));
            let included = common.into_iter().all(|n| a.contains(&n));
            prop_assert_eq!(a.covers_common(&b, &c), included, "{} covers what {} and {} share", a, b, c);
            prop_assert_eq!(a.covers_common(&b, &Scope::everything()), a.covers(&b));
            let common = b.common(&c);
            for namespace in universe() {
                let is_in_both = b.contains(&namespace) && c.contains(&namespace);
                prop_assert_eq!(common.contains(&namespace), is_in_both, "{} of {} and {}", common, b, c);
            }
            prop_assert_eq!(a.covers(&common), included);
            prop_assert_eq!(Scope::parse(common.globs()).unwrap(), common);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "[a*/.ü\\\\\u{0}]{0,12}") {
            if let Ok(scope) = Scope::parse([text.as_str()]) {
                prop_assert_eq!(scope.globs().collect::<Vec<_>>(), vec![text.as_str()]);
                prop_assert!(scope.covers(&scope) && scope.meets(&scope) && !scope.is_empty());
                prop_assert!(Scope::everything().covers(&scope));
            }
        }
    }
}
