//! Free ports on loopback.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use rand::RngExt as _;

use crate::random::system_rng;
use crate::supervisor::SupervisorError;

/// Ports that need no privilege and that few services have for their own.
const PORTS: RangeInclusive<u16> = 10_240..=65_535;
/// What the kernel gives to outgoing connections where it does not say (Linux's default).
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;
/// Where the kernel says it.
const EPHEMERAL_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Ports tried for each that is wanted.
const TRIES: usize = 1_000;

/// `count` different addresses on loopback that were free at one moment, none of them one that the kernel gives to an
/// outgoing connection or to a listener on port 0: between now and the start of the process that is to listen there,
/// only someone who asks for that very port can take it.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, SupervisorError> {
    let ephemeral = ephemeral_ports();
    // All are held until all are known, so that no two are the same.
    let mut held = Vec::new();
    let mut random = system_rng();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for _ in 0..TRIES.saturating_mul(count) {
        if held.len() == count {
            break;
        }
        let port = random.random_range(PORTS);
        if ephemeral.contains(&port) {
            continue;
        }
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => held.push(listener),
            Err(error) => last_error = error,
        }
    }
    if held.len() < count {
        return Err(SupervisorError::Port(last_error));
    }
    held.iter().map(|listener| listener.local_addr().map_err(SupervisorError::Port)).collect()
}

fn ephemeral_ports() -> RangeInclusive<u16> {
    let text = fs::read_to_string(EPHEMERAL_FILE).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => EPHEMERAL,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn free_ports_are_different_and_no_outgoing_connection_gets_one() {
        let addresses: BTreeSet<_> = free_addresses(64).unwrap().into_iter().collect();
        assert_eq!(addresses.len(), 64);
        let ephemeral = ephemeral_ports();
        assert!(!ephemeral.is_empty());
        for address in addresses {
            assert!(address.ip().is_loopback() && !ephemeral.contains(&address.port()), "{address}");
        }
    }
}
