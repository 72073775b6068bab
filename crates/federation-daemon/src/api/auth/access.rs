//! The one place where a client's request is let in or refused.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::http::HeaderMap;
use federation_core::port::clock::WallClock;
use federation_wire::api::token::{Token, TokenId, Tokens};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::api::auth::{Buckets, Caller, Limited, Refusal, RefusalCounts, credentials};
use crate::api::endpoint::{Endpoint, Rule};
use crate::api::error::ApiError;
use crate::config::ClientAccess;

/// What a failed authentication costs the address it comes from, in requests, beyond the request itself.
const FAILURE_COST: f64 = 99.0;
/// Segments of an IPv6 address that name a network: whoever has one address has all of its /64.
const IPV6_NETWORK_SEGMENTS: usize = 4;

/// Who is let in, and to what.
pub struct Access {
    /// The tokens that are accepted now; without, whoever reaches the listener may do everything.
    tokens: Option<Arc<ArcSwap<Tokens>>>,
    wall: Arc<dyn WallClock>,
    by_token: Buckets<TokenId>,
    by_address: Buckets<IpAddr>,
    counts: RefusalCounts,
    /// Told when tokens are replaced.
    changed: watch::Sender<()>,
}

/// The token of the last request on a connection.
#[derive(Clone, Debug, Default)]
pub struct LastToken(Arc<ArcSwapOption<Token>>);

impl LastToken {
    /// A request came with this one.
    pub fn set(&self, token: Option<Arc<Token>>) {
        self.0.store(token);
    }

    fn token(&self) -> Option<Arc<Token>> {
        self.0.load_full()
    }
}

impl Access {
    /// The access that the settings give, by this clock.
    pub fn new(settings: ClientAccess, wall: Arc<dyn WallClock>) -> Self {
        let ClientAccess { tokens, token_rate, address_rate } = settings;
        Self {
            tokens: tokens.map(|tokens| Arc::new(ArcSwap::from_pointee(tokens))),
            wall,
            by_token: Buckets::new(token_rate),
            by_address: Buckets::new(address_rate),
            counts: RefusalCounts::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// The tokens that are accepted now; none for a node that was started without.
    pub fn tokens(&self) -> Option<Arc<Tokens>> {
        self.tokens.as_ref().map(|tokens| tokens.load_full())
    }

    /// From here on each request, and each row of a bulk write, is held against these tokens, and connections whose
    /// last request had one that is gone are cut. For a node that was started with tokens.
    pub fn replace_tokens(&self, fresh: Tokens) {
        if let Some(tokens) = &self.tokens {
            tokens.store(Arc::new(fresh));
            self.changed.send_replace(());
        }
    }

    /// The names of the tokens that `fresh` adds to those that are accepted now, and of those that it takes away. One
    /// that says something else is among both.
    pub fn difference(&self, fresh: Option<&Tokens>) -> (Vec<String>, Vec<String>) {
        let (Some(tokens), Some(fresh)) = (&self.tokens, fresh) else { return Default::default() };
        let tokens = tokens.load();
        let beyond = |these: &Tokens, those: &Tokens| {
            let beyond = these.iter().filter(|token| those.current(token).is_none_or(|now| **now != **token));
            beyond.map(|token| token.id.to_string()).collect()
        };
        (beyond(fresh, &tokens), beyond(&tokens, fresh))
    }

    /// Resolves once a token that was good is not any more.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn revoked(&self, last: &LastToken) {
        let mut changed = self.changed.subscribe();
        loop {
            // The sender is a field of this, so it does not end.
            let _ = changed.changed().await;
            let (Some(tokens), Some(token)) = (&self.tokens, last.token()) else { continue };
            if tokens.load().current(&token).is_none() {
                return;
            }
        }
    }

    /// How many requests were refused.
    pub fn refused(&self) -> &RefusalCounts {
        &self.counts
    }

    /// Lets a request in, with what its caller may do.
    ///
    /// In order of cost and risk: the allowance of its address, the credential, its expiry, the allowance of the token,
    /// its rights.
    ///
    /// # Errors
    /// 401 `unauthorized`, 403 `forbidden`, 429 `rate_limited`.
    pub fn admit(
        self: &Arc<Self>,
        endpoint: Endpoint,
        address: IpAddr,
        headers: &HeaderMap,
    ) -> Result<Caller, ApiError> {
        let caller = |token| Caller::new(Arc::clone(self), endpoint, address, token);
        let Some(tokens) = &self.tokens else { return Ok(caller(None)) };
        let (network, now) = (network(address), Instant::now());
        let refuse = |token, refusal| self.refuse(endpoint, address, token, refusal);
        let limited = |Limited { retry_after }| Refusal::Rate { retry_after };
        self.by_address.take(network, now).map_err(|over| refuse(None, limited(over)))?;
        let tokens = tokens.load();
        let token = self.authenticate(&tokens, headers).map_err(|(token, refusal)| {
            self.by_address.charge(network, FAILURE_COST, now);
            self.refuse(endpoint, address, token.as_ref(), refusal)
        })?;
        self.by_token.take(token.id.clone(), now).map_err(|over| refuse(Some(&token.id), limited(over)))?;
        if !allows(endpoint.rule(), &token) {
            return Err(refuse(Some(&token.id), Refusal::Right));
        }
        Ok(caller(Some(token)))
    }

    /// The token of a caller as it is now.
    ///
    /// # Errors
    /// [`Refusal`] if it would not be let in any more.
    pub(super) fn renew(&self, endpoint: Endpoint, token: &Token) -> Result<Arc<Token>, Refusal> {
        let tokens = self.tokens.as_ref().ok_or(Refusal::Unknown)?.load();
        let token = tokens.current(token).ok_or(Refusal::Unknown)?;
        if token.is_expired(self.wall.now()) {
            return Err(Refusal::Expired);
        }
        if allows(endpoint.rule(), token) { Ok(Arc::clone(token)) } else { Err(Refusal::Right) }
    }

    /// The answer to a refused request, which is logged and counted.
    pub(super) fn refuse(
        &self,
        endpoint: Endpoint,
        address: IpAddr,
        token: Option<&TokenId>,
        refusal: Refusal,
    ) -> ApiError {
        self.counts.add(refusal);
        let (slug, reason, route) = (refusal.slug(), refusal.reason(), endpoint.name());
        let token = token.map_or("", TokenId::as_str);
        // Those over their rate are many by nature, and must not fill the log.
        if matches!(refusal, Refusal::Rate { .. }) {
            debug!(slug, reason, token, route, %address, "a client's request was refused");
        } else {
            info!(slug, reason, token, route, %address, "a client's request was refused");
        }
        refusal.answer()
    }

    fn authenticate(
        &self,
        tokens: &Tokens,
        headers: &HeaderMap,
    ) -> Result<Arc<Token>, (Option<TokenId>, Refusal)> {
        let secret = credentials::read(headers)
            .map_err(|fault| (None, Refusal::Malformed(fault)))?
            .ok_or((None, Refusal::Absent))?;
        let token = tokens.of_secret(&secret).ok_or((None, Refusal::Unknown))?;
        if token.is_expired(self.wall.now()) {
            return Err((Some(token.id.clone()), Refusal::Expired));
        }
        Ok(Arc::clone(token))
    }
}

fn allows(rule: Rule, token: &Token) -> bool {
    match rule {
        Rule::Open => true,
        Rule::All(rights) => rights.iter().all(|right| token.may(*right)),
        Rule::Any(rights) => rights.iter().any(|right| token.may(*right)),
    }
}

/// What shares one allowance: an IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments.iter_mut().skip(IPV6_NETWORK_SEGMENTS).for_each(|segment| *segment = 0);
            IpAddr::from(segments)
        }
    }
}

#[cfg(test)]
mod tests;
