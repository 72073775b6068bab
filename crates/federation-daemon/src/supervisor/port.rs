//! Free ports on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::supervisor::SupervisorError;

/// `count` different addresses on loopback that were free at one moment. Another process may take one before it is
/// used: whoever binds it later says so.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, SupervisorError> {
    // All are held until all are known, so that no two are the same.
    let held = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(SupervisorError::Port)?;
    held.iter().map(|listener| listener.local_addr().map_err(SupervisorError::Port)).collect()
}
