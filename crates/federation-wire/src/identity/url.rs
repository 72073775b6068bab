//! A peer's URL.

use std::fmt;

/// Where a peer is reached: scheme, host and port, in one form, so that equal places are equal values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerUrl {
    is_tls: bool,
    host: String,
    port: u16,
}

/// Why a text is not a peer's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("a peer URL begins with http:// or https://")]
    Scheme,
    /// A path, query, fragment or user name.
    #[error("a peer URL has a host and a port, and no path, query, fragment or user name")]
    Extra,
    /// The host is empty or has characters that no host has.
    #[error("the host of the peer URL is not valid")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the port of the peer URL is not a number from 1 to 65535")]
    Port,
}

impl PeerUrl {
    /// Reads `http[s]://host[:port][/]`. Case of scheme and host, a final slash and the scheme's own port
    /// make no difference.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(UrlError::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(UrlError::Extra);
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None if is_tls => 443,
            None => 80,
            Some(digits) => parse_port(digits)?,
        };
        let host = host.to_ascii_lowercase();
        if !is_host(&host) {
            return Err(UrlError::Host);
        }
        Ok(Self { is_tls, host, port })
    }

    /// Whether it asks for TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The host, lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as it is dialled.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether the host is this machine's loopback, by its text.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl std::str::FromStr for PeerUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // Within brackets a colon belongs to the address.
        Some((_, after)) if after.ends_with(']') => (authority, None),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

fn parse_port(digits: &str) -> Result<u16, UrlError> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(port) if plain && port > 0 => Ok(port),
        _ => Err(UrlError::Port),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    (1..=253).contains(&host.len()) && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_one_form() {
        let check = |text: &str, expect: Result<&str, UrlError>| {
            let found = PeerUrl::parse(text).map(|url| url.to_string());
            assert_eq!(found, expect.map(str::to_owned), "{text:?}");
        };
        check("http://127.0.0.1:9078", Ok("http://127.0.0.1:9078"));
        check("HTTP://LocalHost:9078/", Ok("http://localhost:9078"));
        check("https://node-1.example.org", Ok("https://node-1.example.org:443"));
        check("http://node", Ok("http://node:80"));
        check("http://[::1]:9078", Ok("http://[::1]:9078"));
        check("http://[::1]", Ok("http://[::1]:80"));
        check("ftp://a:1", Err(UrlError::Scheme));
        check("127.0.0.1:9078", Err(UrlError::Scheme));
        check("", Err(UrlError::Scheme));
        check("http://a:1/x", Err(UrlError::Extra));
        check("http://a:1//", Err(UrlError::Extra));
        check("http://a:1?x", Err(UrlError::Extra));
        check("http://u@a:1", Err(UrlError::Extra));
        check("http://a:", Err(UrlError::Port));
        check("http://a:0", Err(UrlError::Port));
        check("http://a:+1", Err(UrlError::Port));
        check("http://a:65536", Err(UrlError::Port));
        check("http://:1", Err(UrlError::Host));
        check("http://a b:1", Err(UrlError::Host));
        check("http://a..b:1", Err(UrlError::Host));
        check("http://[::g]:1", Err(UrlError::Host));
        check("http://::1", Err(UrlError::Host));
    }

    #[test]
    fn loopback_is_told_by_the_text() {
        let check =
            |text: &str, expect: bool| assert_eq!(PeerUrl::parse(text).unwrap().is_loopback(), expect);
        check("http://127.0.0.1:1", true);
        check("http://127.9.9.9:1", true);
        check("http://localhost:1", true);
        check("http://[::1]:1", true);
        check("http://10.0.0.1:1", false);
        check("http://localhost.example.org:1", false);
    }
}
