//! The answer to a reload.

use serde::{Deserialize, Serialize};

/// `POST /api/v1/admin/reload`: what has changed, or with `?dry_run=true` would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Peers that are dialled now and were not.
    pub joined: Vec<String>,
    /// Peers that were dialled and are not any more.
    pub left: Vec<String>,
    /// Peers that are dialled elsewhere.
    pub moved: Vec<String>,
    /// Nodes whose keys, scopes or certificate have changed, or that are or are not enrolled any more.
    pub changed: Vec<String>,
    /// Nodes that count, this one included.
    pub n: usize,
    /// Nodes that must hold a write.
    pub w: usize,
    /// Whether one of both has changed.
    pub quorum_changed: bool,
    /// The id of this node's key, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_key: Option<String>,
    /// The ids of this node's keys of before that are revoked, if they are others or prove something else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_revoked: Vec<String>,
    /// Whether peers are shown, or must show, another certificate than before.
    pub peer_tls_changed: bool,
    /// Whether clients are shown another certificate than before.
    pub client_tls_changed: bool,
    /// Tokens that are new or say something else now.
    pub tokens_added: Vec<String>,
    /// Tokens that are revoked, or say something else now.
    pub tokens_removed: Vec<String>,
}

impl ReloadReport {
    /// Whether nothing has changed.
    pub fn is_unchanged(&self) -> bool {
        let Self { joined, left, moved, changed, own_revoked, tokens_added, tokens_removed, .. } = self;
        let lists = [joined, left, moved, changed, own_revoked, tokens_added, tokens_removed];
        let flags = [self.quorum_changed, self.peer_tls_changed, self.client_tls_changed];
        lists.iter().all(|list| list.is_empty()) && !flags.contains(&true) && self.own_key.is_none()
    }
}
