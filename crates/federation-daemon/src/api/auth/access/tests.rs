use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Mutex;

use axum::http::HeaderValue;
use federation_core::id::{AgentId, Namespace};
use federation_core::time::WallMs;
use federation_wire::api::token::{ClientSecret, Right, TokenEntry};
use serde_json::json;

use super::*;
use crate::random::system_rng;

/// A clock that stands where it is put.
struct HeldClock(Mutex<WallMs>);

impl WallClock for HeldClock {
    fn now(&self) -> WallMs {
        *self.0.lock().unwrap()
    }
}

/// 2026-01-02T00:00:00Z, when the tokens of these tests expire.
const END_MS: u64 = 1_767_312_000_000;

struct Site {
    access: Arc<Access>,
    clock: Arc<HeldClock>,
}

impl Site {
    fn new(entries: &[TokenEntry], address_rate: u32, token_rate: u32) -> Self {
        let clock = Arc::new(HeldClock(Mutex::new(WallMs(END_MS - 1))));
        let settings = ClientAccess {
            tokens: Some(Tokens::new(entries).unwrap()),
            token_rate: NonZeroU32::new(token_rate).unwrap(),
            address_rate: NonZeroU32::new(address_rate).unwrap(),
        };
        Self { access: Arc::new(Access::new(settings, Arc::clone(&clock) as _)), clock }
    }

    fn admit(&self, endpoint: Endpoint, headers: &HeaderMap) -> Result<Caller, ApiError> {
        self.access.admit(endpoint, IpAddr::from([192, 0, 2, 1]), headers)
    }

    fn set_clock(&self, ms: u64) {
        *self.clock.0.lock().unwrap() = WallMs(ms);
    }

    fn replace(&self, entries: &[TokenEntry]) {
        self.access.replace_tokens(Tokens::new(entries).unwrap());
    }
}

fn secret() -> ClientSecret {
    ClientSecret::generate(&mut system_rng())
}

fn entry(id: &str, secret: &ClientSecret, rights: &[Right]) -> TokenEntry {
    TokenEntry {
        id: id.to_owned(),
        hash: secret.hash().to_string(),
        agents: vec!["ai:a".to_owned()],
        namespaces: vec!["team/**".to_owned()],
        rights: rights.to_vec(),
        created: "2026-01-01T00:00:00Z".to_owned(),
        expires: Some("2026-01-02T00:00:00Z".to_owned()),
    }
}

fn bearing(secret: &ClientSecret) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_str(&secret.to_text()).unwrap());
    headers
}

fn status<T>(result: Result<T, ApiError>) -> u16 {
    result.map_or_else(|error| error.status.as_u16(), |_| 200)
}

#[test]
fn each_right_opens_its_routes_and_no_other() {
    let expected = |right: Right| -> BTreeSet<&str> {
        let routes: &[&str] = match right {
            Right::Read => &[
                "GET /api/v1/memories",
                "GET /api/v1/memories/{id}",
                "GET /api/v1/conflicts",
                "GET /api/v1/conflicts/{id}",
            ],
            Right::Write => &[
                "POST /api/v1/memories",
                "POST /api/v1/memories/bulk",
                "DELETE /api/v1/memories/{id}",
                "GET /api/v1/ops/{node}/{epoch}/{seq}",
            ],
            Right::Metrics => &["GET /metrics"],
            Right::Admin => &[
                "GET /api/v1/ops/{node}/{epoch}/{seq}",
                "GET /api/v1/peers",
                "GET /api/v1/dlq",
                "GET /api/v1/dlq/{peer}/{node}/{epoch}/{seq}",
                "POST /api/v1/dlq/{peer}/retry",
                "POST /api/v1/dlq/{peer}/{node}/{epoch}/{seq}/retry",
                "POST /api/v1/dlq/{peer}/{node}/{epoch}/{seq}/discard",
                "GET /api/v1/origins/{node}",
                "GET /api/v1/status",
                "POST /api/v1/admin/reload",
                "GET /metrics",
            ],
        };
        routes.iter().copied().collect()
    };
    let open = |rights: &[Right]| -> BTreeSet<&str> {
        let secret = secret();
        let site = Site::new(&[entry("t", &secret, rights)], 1_000, 1_000);
        let guarded = Endpoint::ALL.iter().filter(|endpoint| endpoint.rule() != Rule::Open);
        let let_in = guarded.filter(|endpoint| match site.admit(**endpoint, &bearing(&secret)) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!((error.status.as_u16(), error.slug()), (403, "forbidden"));
                false
            }
        });
        let_in.map(|endpoint| endpoint.name()).collect()
    };
    for right in Right::ALL {
        assert_eq!(open(&[right]), expected(right), "{right:?}");
    }
    let both = open(&[Right::Read, Right::Write]);
    for change in ["PUT /api/v1/memories/{id}", "POST /api/v1/conflicts/{id}/resolve"] {
        assert!(both.contains(change), "a change reads and writes: {both:?}");
    }
    assert_eq!(open(&Right::ALL).len(), Endpoint::ALL.len() - 2, "all but the two that are open");
}

#[test]
fn whoever_is_not_known_gets_one_answer() {
    let (known, unknown) = (secret(), secret());
    let site = Site::new(&[entry("t", &known, &Right::ALL)], 10_000, 1_000);
    let answer = |headers: &HeaderMap| site.admit(Endpoint::List, headers).map(drop).unwrap_err();
    let absent = answer(&HeaderMap::new());
    assert_eq!((absent.status.as_u16(), absent.slug()), (401, "unauthorized"));
    let mut malformed = HeaderMap::new();
    malformed.insert("authorization", HeaderValue::from_static("Basic YTpi"));
    let mut different = bearing(&known);
    let other = format!("Bearer {}", *unknown.to_text());
    different.insert("authorization", HeaderValue::from_str(&other).unwrap());
    for headers in [malformed, different, bearing(&unknown)] {
        assert_eq!(answer(&headers), absent);
    }
    assert!(site.admit(Endpoint::List, &bearing(&known)).is_ok());
    site.set_clock(END_MS);
    assert_eq!(answer(&bearing(&known)), absent, "expired");
    site.set_clock(END_MS - 1);
    site.replace(&[]);
    assert_eq!(answer(&bearing(&known)), absent, "revoked");
}

#[test]
fn a_request_under_way_is_held_against_what_holds_now() {
    let secret = secret();
    let full = entry("t", &secret, &[Right::Read, Right::Write]);
    let site = Site::new(std::slice::from_ref(&full), 1_000, 1_000);
    let caller = site.admit(Endpoint::Bulk, &bearing(&secret)).unwrap();
    let (a, b) = (AgentId::new("ai:a").unwrap(), AgentId::new("ai:b").unwrap());
    let here = Namespace::new("team/x").unwrap();
    assert!(caller.renewed().unwrap().may_write(&a, &here).is_ok());

    site.set_clock(END_MS);
    assert_eq!(status(caller.renewed()), 401);
    site.set_clock(END_MS - 1);
    site.replace(&[TokenEntry { namespaces: vec!["other".into()], ..full.clone() }]);
    assert_eq!(status(caller.renewed().unwrap().may_write(&a, &here)), 403);
    site.replace(&[TokenEntry { agents: vec!["ai:b".into()], ..full.clone() }]);
    assert_eq!(status(caller.renewed().unwrap().may_write(&a, &here)), 403);
    assert_eq!(status(caller.renewed().unwrap().may_write(&b, &here)), 200);
    site.replace(&[TokenEntry { rights: vec![Right::Read], ..full }]);
    assert_eq!(status(caller.renewed()), 403);
    site.replace(&[]);
    assert_eq!(status(caller.renewed()), 401);
}

#[test]
fn the_author_is_the_tokens_agent() {
    let secret = secret();
    let as_agent = |agents: &[&str], named: Option<&str>| {
        let agents = agents.iter().map(|agent| (*agent).to_owned()).collect();
        let site = Site::new(&[TokenEntry { agents, ..entry("t", &secret, &Right::ALL) }], 1_000, 1_000);
        let caller = site.admit(Endpoint::Create, &bearing(&secret)).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(named) = named {
            headers.insert("x-agent-id", HeaderValue::from_str(named).unwrap());
        }
        caller.author(&headers).map(|agent| agent.to_string()).map_err(|error| error.slug().to_owned())
    };
    let (a, b) = (Ok("ai:a".to_owned()), Ok("ai:b".to_owned()));
    let slug = |slug: &str| Err(slug.to_owned());
    assert_eq!(as_agent(&["ai:a"], None), a);
    assert_eq!(as_agent(&["ai:a"], Some("ai:a")), a);
    assert_eq!(as_agent(&["ai:a"], Some("ai:b")), slug("forbidden"));
    assert_eq!(as_agent(&["ai:a"], Some("two words")), slug("invalid_agent_id"));
    for several in [&["ai:a", "ai:b"][..], &["*"]] {
        assert_eq!(as_agent(several, None), slug("agent_required"));
        assert_eq!(as_agent(several, Some("ai:b")), b);
    }
    assert_eq!(as_agent(&["ai:a", "ai:b"], Some("ai:c")), slug("forbidden"));
}

#[test]
fn metadata_name_no_other_author() {
    let secret = secret();
    let site = Site::new(&[entry("t", &secret, &Right::ALL)], 1_000, 1_000);
    let caller = site.admit(Endpoint::Create, &bearing(&secret)).unwrap();
    let check = |metadata: serde_json::Value, before: Option<&serde_json::Value>, expect: u16| {
        let author = AgentId::new("ai:a").unwrap();
        let named = caller.may_name(&author, metadata.as_object().unwrap(), before);
        assert_eq!(status(named), expect, "{metadata} after {before:?}");
    };
    check(json!({}), None, 200);
    check(json!({ "agent_id": "ai:a" }), None, 200);
    check(json!({ "agent_id": "ai:b" }), None, 403);
    check(json!({ "agent_id": 7 }), None, 403);
    check(json!({ "agent_id": "ai:b" }), Some(&json!("ai:b")), 200);
    check(json!({ "agent_id": "ai:b" }), Some(&json!("ai:c")), 403);
}

#[test]
fn a_token_and_an_address_have_their_rates_and_failures_cost_more() {
    let (one, two) = (secret(), secret());
    let entries = [entry("one", &one, &Right::ALL), entry("two", &two, &Right::ALL)];
    let site = Site::new(&entries, 1_000_000, 1);
    let list = |secret| status(site.admit(Endpoint::List, &bearing(secret)));
    assert_eq!([list(&one), list(&one), list(&one)], [200, 200, 429]);
    assert_eq!(list(&two), 200, "another token has an allowance of its own");
    let limited = site.admit(Endpoint::List, &bearing(&one)).map(drop).unwrap_err();
    assert_eq!(limited.slug(), "rate_limited");

    let site = Site::new(&entries, 100, 1_000_000);
    let from = |last: u8, headers: &HeaderMap| {
        status(site.access.admit(Endpoint::List, IpAddr::from([192, 0, 2, last]), headers))
    };
    assert_eq!(from(1, &HeaderMap::new()), 401);
    assert_eq!(from(1, &bearing(&secret())), 401);
    assert_eq!(from(1, &bearing(&one)), 429, "two failures have spent what two seconds bring");
    assert_eq!(from(2, &bearing(&one)), 200, "another address is not touched");
    let refused = site.access.refused().by_slug();
    assert_eq!(refused, [("unauthorized", 2), ("forbidden", 0), ("rate_limited", 1)]);
}

#[test]
fn a_network_of_ipv6_shares_one_allowance() {
    let of = |text: &str| network(text.parse().unwrap()).to_string();
    assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(of("192.0.2.1"), "192.0.2.1");
}
