//! Who is let in as a client, and how often.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::Path;

use federation_wire::api::token::Tokens;

use crate::config::Fault;
use crate::config::raw::{RawConfig, defaults};
use crate::config::valid::{number, take};
use crate::tokens_file;

/// What a rate may be.
const PER_SEC: RangeInclusive<u64> = 1..=1_000_000;

/// Who is let in as a client, and how often.
#[derive(Clone, Debug)]
pub struct ClientAccess {
    /// The tokens; without, everybody who reaches the client address.
    pub tokens: Option<Tokens>,
    /// Requests per second of one token.
    pub token_rate: NonZeroU32,
    /// Requests per second of one address.
    pub address_rate: NonZeroU32,
}

pub(super) fn read(raw: &RawConfig, data_dir: &Path, faults: &mut Vec<Fault>) -> ClientAccess {
    let tokens = raw.tokens_file.as_ref().map(|path| {
        let tokens = tokens_file::load(path, data_dir).and_then(|file| tokens_file::tokens(path, &file));
        take(faults, tokens.map_err(Fault::from)).unwrap_or_default()
    });
    if tokens.is_none()
        && let Some(address) = off_loopback(raw)
    {
        faults.push(Fault::OpenOffLoopback { address });
    }
    let mut rate = |setting, given, default| {
        let rate = number(setting, given, default, PER_SEC, faults);
        u32::try_from(rate).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    };
    let token_rate =
        rate("token_requests_per_sec", raw.token_requests_per_sec, defaults::token_requests_per_sec);
    let address_rate =
        rate("address_requests_per_sec", raw.address_requests_per_sec, defaults::address_requests_per_sec);
    ClientAccess { tokens, token_rate, address_rate }
}

/// The client address, if others than this machine reach it.
fn off_loopback(raw: &RawConfig) -> Option<SocketAddr> {
    let address: SocketAddr = raw.listen.as_deref().unwrap_or(defaults::listen).parse().ok()?;
    (!address.ip().is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tokens_the_client_address_is_on_loopback() {
        let check = |listen: Option<&str>, is_refused: bool| {
            let raw = RawConfig { listen: listen.map(str::to_owned), ..RawConfig::default() };
            let mut faults = Vec::new();
            let access = read(&raw, Path::new("data"), &mut faults);
            assert!(access.tokens.is_none());
            let refused = matches!(faults.as_slice(), [Fault::OpenOffLoopback { .. }]);
            assert_eq!((refused, faults.len()), (is_refused, usize::from(is_refused)), "{listen:?}");
        };
        check(None, false);
        check(Some("127.0.0.9:1"), false);
        check(Some("[::1]:1"), false);
        check(Some("0.0.0.0:1"), true);
        check(Some("192.0.2.1:1"), true);
        check(Some("[::]:1"), true);
    }
}
