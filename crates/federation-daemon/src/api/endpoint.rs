//! Every route of the client listener, and what a caller needs for it: one table, from which the router is made.

use axum::http::Method;
use axum::routing::MethodFilter;
use federation_wire::api::token::Right;

/// What a caller needs for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: whoever probes a node has no token.
    Open,
    /// A token with each of these rights.
    All(&'static [Right]),
    /// A token with one of these rights.
    Any(&'static [Right]),
}

macro_rules! endpoints {
    ($($(#[$doc:meta])* $name:ident = $method:ident $path:literal, $rule:expr;)+) => {
        /// A route: method and path.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Endpoint {
            $($(#[$doc])* $name,)+
        }

        impl Endpoint {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its method.
            pub fn method(self) -> Method {
                match self { $(Self::$name => Method::$method,)+ }
            }

            /// Its method, for the router: a GET also answers HEAD.
            pub(super) fn filter(self) -> MethodFilter {
                match self { $(Self::$name => MethodFilter::$method,)+ }
            }

            /// Its path, with parameters in braces.
            pub fn path(self) -> &'static str {
                match self { $(Self::$name => $path,)+ }
            }

            /// Method and path, as it stands in logs: without what a caller has put there.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => concat!(stringify!($method), " ", $path),)+ }
            }

            /// What a caller needs.
            pub fn rule(self) -> Rule {
                match self { $(Self::$name => $rule,)+ }
            }
        }
    };
}

endpoints! {
    /// Creates a memory.
    Create = POST "/api/v1/memories", Rule::All(&[Right::Write]);
    /// Lists memories.
    List = GET "/api/v1/memories", Rule::All(&[Right::Read]);
    /// Creates many memories.
    Bulk = POST "/api/v1/memories/bulk", Rule::All(&[Right::Write]);
    /// Shows a memory.
    Read = GET "/api/v1/memories/{id}", Rule::All(&[Right::Read]);
    /// Changes a memory. Its answer shows all of it, also what was not sent: so it reads, too.
    Update = PUT "/api/v1/memories/{id}", Rule::All(&[Right::Read, Right::Write]);
    /// Deletes a memory.
    Delete = DELETE "/api/v1/memories/{id}", Rule::All(&[Right::Write]);
    /// Lists memories whose versions say different things.
    Conflicts = GET "/api/v1/conflicts", Rule::All(&[Right::Read]);
    /// Shows all versions of a memory.
    Conflict = GET "/api/v1/conflicts/{id}", Rule::All(&[Right::Read]);
    /// Puts one version in the place of several. Its answer shows all of it.
    Resolve = POST "/api/v1/conflicts/{id}/resolve", Rule::All(&[Right::Read, Right::Write]);
    /// Says which nodes hold an op: no more than each answer to a write says of its own, and what a writer asks whose
    /// quorum was not met.
    Op = GET "/api/v1/ops/{node}/{epoch}/{seq}", Rule::Any(&[Right::Write, Right::Admin]);
    /// Shows the links to the peers.
    Peers = GET "/api/v1/peers", Rule::All(&[Right::Admin]);
    /// Lists the ops that peers refused for good.
    Letters = GET "/api/v1/dlq", Rule::All(&[Right::Admin]);
    /// Shows one of them.
    Letter = GET "/api/v1/dlq/{peer}/{node}/{epoch}/{seq}", Rule::All(&[Right::Admin]);
    /// Sends all that a peer refused once more.
    RetryLetters = POST "/api/v1/dlq/{peer}/retry", Rule::All(&[Right::Admin]);
    /// Sends an op that a peer refused once more.
    RetryLetter = POST "/api/v1/dlq/{peer}/{node}/{epoch}/{seq}/retry", Rule::All(&[Right::Admin]);
    /// Gives an op up that a peer refused.
    DiscardLetter = POST "/api/v1/dlq/{peer}/{node}/{epoch}/{seq}/discard", Rule::All(&[Right::Admin]);
    /// Shows what the node has of another's making.
    Origins = GET "/api/v1/origins/{node}", Rule::All(&[Right::Admin]);
    /// Shows the node.
    Status = GET "/api/v1/status", Rule::All(&[Right::Admin]);
    /// Takes in changed settings.
    Reload = POST "/api/v1/admin/reload", Rule::All(&[Right::Admin]);
    /// Says that the process answers.
    Healthz = GET "/healthz", Rule::Open;
    /// Says whether clients are served.
    Readyz = GET "/readyz", Rule::Open;
    /// Shows what is counted: names of peers and rates of work, so not to everybody; and a scraper needs no more.
    Metrics = GET "/metrics", Rule::Any(&[Right::Metrics, Right::Admin]);
}
