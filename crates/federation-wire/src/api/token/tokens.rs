//! What the entries of the tokens file mean.

use std::collections::BTreeSet;
use std::sync::Arc;

use federation_core::id::{AgentId, IdError, Namespace};
use federation_core::limits::{TOKEN_AGENTS_MAX, TOKENS_MAX};
use federation_core::scope::Scope;
use federation_core::time::WallMs;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fault::{TokenFault, TokenFaultKind};
use super::id::TokenId;
use super::secret::{ClientSecret, SecretHash};
use super::{Right, TokenEntry};

/// Stands for any agent.
const ANY: &str = "*";

/// The tokens that are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    tokens: Vec<Arc<Token>>,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its public name.
    pub id: TokenId,
    /// The hash of its secret.
    hash: SecretHash,
    /// As whom it writes.
    pub agents: Agents,
    /// What it reaches.
    pub namespaces: Scope,
    /// What it may do.
    pub rights: BTreeSet<Right>,
    /// When it was made.
    pub created: WallMs,
    /// The first millisecond at which it is of no use any more; none: never.
    pub expires: Option<WallMs>,
}

/// As whom a token writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agents {
    /// As anyone: for a service that writes for its users.
    Any,
    /// As one of these.
    Only(BTreeSet<AgentId>),
}

impl Tokens {
    /// What these entries mean.
    ///
    /// # Errors
    /// Every fault of every entry.
    pub fn new(entries: &[TokenEntry]) -> Result<Self, Vec<TokenFault>> {
        let mut tokens = Self::default();
        let mut faults = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut report = Report { entry: index + 1, id: &entry.id, faults: &mut faults };
            if index >= TOKENS_MAX {
                report.add("id", TokenFaultKind::TooMany { limit: TOKENS_MAX });
                break;
            }
            if entries.iter().take(index).any(|other| other.id == entry.id) {
                report.add("id", TokenFaultKind::DuplicateId);
            }
            if let Some(token) = read_entry(entry, &mut report) {
                if tokens.tokens.iter().any(|other| other.hash == token.hash) {
                    report.add("hash", TokenFaultKind::DuplicateHash);
                }
                tokens.tokens.push(Arc::new(token));
            }
        }
        if faults.is_empty() { Ok(tokens) } else { Err(faults) }
    }

    /// The token of this secret, expired or not. Looks at every token, whichever it is.
    pub fn of_secret(&self, secret: &ClientSecret) -> Option<&Arc<Token>> {
        self.of_hash(secret.hash())
    }

    /// The token as it is now, if its secret is still accepted: what it may do can have changed since.
    pub fn current(&self, token: &Token) -> Option<&Arc<Token>> {
        self.of_hash(token.hash)
    }

    /// The tokens, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Token> {
        self.tokens.iter().map(|token| &**token)
    }

    /// Whether there is none, and so nobody is let in.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    fn of_hash(&self, hash: SecretHash) -> Option<&Arc<Token>> {
        self.tokens.iter().fold(None, |found, token| if token.hash == hash { Some(token) } else { found })
    }
}

impl Token {
    /// Whether it is of no use any more.
    pub fn is_expired(&self, now: WallMs) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }

    /// Whether it has this right.
    pub fn may(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }

    /// Whether it reaches this namespace.
    pub fn reaches(&self, namespace: &Namespace) -> bool {
        self.namespaces.contains(namespace)
    }
}

impl Agents {
    /// Whether it may write as `agent`.
    pub fn allow(&self, agent: &AgentId) -> bool {
        match self {
            Self::Any => true,
            Self::Only(agents) => agents.contains(agent),
        }
    }

    /// The agent, where there is no choice.
    pub fn sole(&self) -> Option<&AgentId> {
        match self {
            Self::Only(agents) if agents.len() == 1 => agents.first(),
            Self::Any | Self::Only(_) => None,
        }
    }
}

/// Collects the faults of one entry.
struct Report<'a> {
    entry: usize,
    id: &'a str,
    faults: &'a mut Vec<TokenFault>,
}

impl Report<'_> {
    fn add(&mut self, field: &'static str, kind: TokenFaultKind) {
        self.faults.push(TokenFault { entry: self.entry, id: self.id.to_owned(), field, kind });
    }

    fn take<T>(&mut self, field: &'static str, read: Result<T, TokenFaultKind>) -> Option<T> {
        read.map_err(|kind| self.add(field, kind)).ok()
    }
}

fn read_entry(entry: &TokenEntry, report: &mut Report<'_>) -> Option<Token> {
    let id = report.take("id", TokenId::new(&entry.id).map_err(TokenFaultKind::from));
    let hash = report.take("hash", entry.hash.parse().map_err(TokenFaultKind::Hash));
    let agents = report.take("agents", read_agents(&entry.agents));
    let globs = entry.namespaces.iter().map(String::as_str);
    let namespaces = report.take("namespaces", Scope::parse(globs).map_err(TokenFaultKind::Scope));
    let rights: BTreeSet<Right> = entry.rights.iter().copied().collect();
    if rights.is_empty() {
        report.add("rights", TokenFaultKind::NoRight);
    }
    let needs_namespace = rights.contains(&Right::Read) || rights.contains(&Right::Write);
    if needs_namespace && entry.namespaces.is_empty() {
        report.add("namespaces", TokenFaultKind::NoNamespace);
    }
    let created = report.take("created", read_time(&entry.created));
    let expires = report.take("expires", entry.expires.as_deref().map(read_time).transpose());
    if let (Some(created), Some(Some(expires))) = (created, expires)
        && expires <= created
    {
        report.add("expires", TokenFaultKind::Order);
    }
    Some(Token {
        id: id?,
        hash: hash?,
        agents: agents?,
        namespaces: namespaces?,
        rights,
        created: created?,
        expires: expires?,
    })
}

fn read_agents(texts: &[String]) -> Result<Agents, TokenFaultKind> {
    if texts.is_empty() || texts.len() > TOKEN_AGENTS_MAX {
        return Err(TokenFaultKind::AgentCount { count: texts.len(), limit: TOKEN_AGENTS_MAX });
    }
    if *texts == [ANY] {
        return Ok(Agents::Any);
    }
    let agents: Result<_, IdError> = texts.iter().map(|text| AgentId::new(text)).collect();
    agents.map(Agents::Only).map_err(TokenFaultKind::Agent)
}

fn read_time(text: &str) -> Result<WallMs, TokenFaultKind> {
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TokenFaultKind::Time)?;
    let ms = at.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(ms).map(WallMs).map_err(|_| TokenFaultKind::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> ClientSecret {
        use rand::SeedableRng;
        ClientSecret::generate(&mut rand::rngs::StdRng::from_seed([byte; 32]))
    }

    fn entry(id: &str, byte: u8) -> TokenEntry {
        TokenEntry {
            id: id.to_owned(),
            hash: secret(byte).hash().to_string(),
            agents: vec!["ai:a".to_owned()],
            namespaces: vec!["team/**".to_owned()],
            rights: vec![Right::Read, Right::Write],
            created: "2026-01-01T00:00:00Z".to_owned(),
            expires: Some("2026-01-02T00:00:00.001Z".to_owned()),
        }
    }

    #[test]
    fn a_token_is_found_by_its_secret_and_by_no_other() {
        let tokens = Tokens::new(&[entry("a", 1), entry("b", 2)]).unwrap();
        assert_eq!(tokens.of_secret(&secret(1)).unwrap().id.as_str(), "a");
        assert_eq!(tokens.of_secret(&secret(2)).unwrap().id.as_str(), "b");
        assert!(tokens.of_secret(&secret(3)).is_none());
        let one = Tokens::new(&[entry("renamed", 1)]).unwrap();
        let (a, b) = (tokens.iter().next().unwrap(), tokens.iter().nth(1).unwrap());
        assert_eq!(one.current(a).unwrap().id.as_str(), "renamed");
        assert!(one.current(b).is_none());
    }

    #[test]
    fn what_a_token_may_is_what_its_entry_says() {
        let tokens = Tokens::new(&[entry("a", 1)]).unwrap();
        let token = tokens.iter().next().unwrap();
        assert!(token.may(Right::Read) && token.may(Right::Write));
        assert!(!token.may(Right::Admin) && !token.may(Right::Metrics));
        assert!(token.reaches(&Namespace::new("team/x").unwrap()));
        assert!(!token.reaches(&Namespace::new("teams").unwrap()));
        let end = 1_767_312_000_001;
        assert_eq!(token.expires, Some(WallMs(end)));
        assert!(!token.is_expired(WallMs(end - 1)) && token.is_expired(WallMs(end)));
        let (a, b) = (AgentId::new("ai:a").unwrap(), AgentId::new("ai:b").unwrap());
        assert!(token.agents.allow(&a) && !token.agents.allow(&b));
        assert_eq!(token.agents.sole(), Some(&a));
        let any = TokenEntry { agents: vec!["*".into()], expires: None, ..entry("a", 1) };
        let tokens = Tokens::new(&[any]).unwrap();
        let token = tokens.iter().next().unwrap();
        assert!(token.agents.allow(&b) && token.agents.sole().is_none());
        assert!(!token.is_expired(WallMs(u64::MAX)));
        let two = TokenEntry { agents: vec!["ai:a".into(), "ai:b".into()], ..entry("a", 1) };
        let tokens = Tokens::new(&[two]).unwrap();
        assert!(tokens.iter().next().unwrap().agents.sole().is_none());
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let entries = [
            TokenEntry { hash: "fed1_secret".into(), agents: Vec::new(), ..entry("a b", 1) },
            TokenEntry { agents: vec!["*".into(), "ai:a".into()], ..entry("same", 2) },
            TokenEntry { namespaces: vec!["a*".into()], rights: Vec::new(), ..entry("same", 3) },
            TokenEntry {
                created: "today".into(),
                expires: Some("1969-01-01T00:00:00Z".into()),
                ..entry("t", 4)
            },
            TokenEntry {
                expires: Some("2026-01-01T00:00:00Z".into()),
                namespaces: Vec::new(),
                ..entry("u", 5)
            },
            entry("v", 5),
        ];
        let faults = Tokens::new(&entries).unwrap_err();
        let found: Vec<_> = faults.iter().map(|fault| (fault.entry, fault.field)).collect();
        let expected = [
            (1, "id"),
            (1, "hash"),
            (1, "agents"),
            (2, "agents"),
            (3, "id"),
            (3, "namespaces"),
            (3, "rights"),
            (4, "created"),
            (4, "expires"),
            (5, "namespaces"),
            (5, "expires"),
            (6, "hash"),
        ];
        assert_eq!(found, expected);
        let told: String = faults.iter().map(ToString::to_string).collect();
        assert!(!told.contains("fed1_secret"), "what stands for a hash may be the secret: {told}");
    }

    #[test]
    fn a_token_for_metrics_alone_needs_no_namespace() {
        let scraper = TokenEntry { namespaces: Vec::new(), rights: vec![Right::Metrics], ..entry("a", 1) };
        assert!(Tokens::new(&[scraper]).is_ok());
    }

    #[test]
    fn tokens_are_bounded() {
        let many: Vec<_> = (0..=TOKENS_MAX).map(|at| entry(&format!("t{at}"), 1)).collect();
        let faults = Tokens::new(&many).unwrap_err();
        assert_eq!(
            faults.last().map(|fault| &fault.kind),
            Some(&TokenFaultKind::TooMany { limit: TOKENS_MAX })
        );
        let agents = (0..=TOKEN_AGENTS_MAX).map(|at| format!("a{at}")).collect();
        assert!(Tokens::new(&[TokenEntry { agents, ..entry("a", 1) }]).is_err());
    }
}
