//! How much one caller gets, and that it is not at the cost of others.

use federation_net::http::ListenerLimits;
use federation_net::rate::Rate;
use federation_net::transport::TransportError;
use federation_wire::slug::Slug;

use crate::site::{Caller, Given, Site, TAKEN, entry};

/// So little comes back that it does not matter how long the test takes.
fn only(burst: f64) -> Rate {
    Rate { per_second: 1e-6, burst }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_too_much_is_told_so_and_others_are_served() {
    let given = Given { peer_rate: Some(only(3.0)), ..Given::default() };
    let site = Site::with(&[entry("a"), entry("b")], given).await;
    let (caller, other) = (Caller::new("a", &site), Caller::new("b", &site));
    let line = caller.dial(&site).await.unwrap();
    for _ in 0..3 {
        assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    }
    assert_eq!(caller.says_hello(&line).await, Ok(Slug::RateLimited));
    let again = caller.dial(&site).await.unwrap();
    assert_eq!(caller.says_hello(&again).await, Ok(Slug::RateLimited), "a new connection is no new sender");
    assert_eq!(site.refused_frames(Slug::RateLimited), 2);
    let others = other.dial(&site).await.unwrap();
    assert_eq!(other.says_hello(&others).await, Ok(TAKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_asks_too_much_is_refused_before_anything_is_read() {
    // Two connections at twenty each, and two requests.
    let limits = ListenerLimits { requests_per_address: only(42.0), ..ListenerLimits::default() };
    let site = Site::with(&[entry("a")], Given { limits, ..Given::default() }).await;
    let caller = Caller::new("a", &site);
    let line = caller.dial(&site).await.unwrap();
    let other = caller.dial(&site).await.unwrap();
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    assert_eq!(caller.says_hello(&other).await, Ok(TAKEN));
    // Not even a frame.
    let refused = line.send_bytes(b"nonsense".to_vec()).await;
    assert_eq!(refused, Err(TransportError::Refused { status: 429 }));
    assert_eq!(site.refused_frames(Slug::RateLimited), 1);
    assert!(caller.dial(&site).await.is_err());
    assert_eq!(site.refused_connections("too_many"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_so_many_connections_and_no_more() {
    let limits = ListenerLimits { connections_per_node: 1, ..ListenerLimits::default() };
    let site = Site::with(&[entry("a"), entry("b")], Given { limits, ..Given::default() }).await;
    let (caller, other) = (Caller::new("a", &site), Caller::new("b", &site));
    let line = caller.dial(&site).await.unwrap();
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    let over = match caller.dial(&site).await {
        Ok(line) => caller.says_hello(&line).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(over, TransportError::ConnectionLost);
    assert_eq!(site.refused_connections("too_many"), 1);
    let others = other.dial(&site).await.unwrap();
    assert_eq!(other.says_hello(&others).await, Ok(TAKEN));
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections_and_no_more() {
    let limits = ListenerLimits { connections_per_address: 2, ..ListenerLimits::default() };
    let site = Site::with(&[entry("a")], Given { limits, ..Given::default() }).await;
    let caller = Caller::new("a", &site);
    let (line, other) = (caller.dial(&site).await.unwrap(), caller.dial(&site).await.unwrap());
    assert!(caller.dial(&site).await.is_err());
    assert_eq!(site.refused_connections("too_many"), 1);
    assert_eq!(caller.says_hello(&line).await, Ok(TAKEN));
    assert_eq!(caller.says_hello(&other).await, Ok(TAKEN));
}
