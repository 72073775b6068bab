//! Who makes a request, and what of the memories it reaches.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use federation_core::id::{AgentId, Namespace};
use federation_core::scope::Scope;
use federation_wire::api::token::Token;
use serde_json::{Map, Value};

use crate::api::auth::{Access, Refusal};
use crate::api::endpoint::Endpoint;
use crate::api::error::ApiError;
use crate::api::params;

/// The field of a memory's metadata in which the products that we replicate for name its author.
pub const AGENT_FIELD: &str = "agent_id";

/// A caller that was let in. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    access: Arc<Access>,
    endpoint: Endpoint,
    address: IpAddr,
    /// None where no tokens are configured: then it may do everything.
    token: Option<Arc<Token>>,
}

impl Caller {
    pub(super) fn new(
        access: Arc<Access>,
        endpoint: Endpoint,
        address: IpAddr,
        token: Option<Arc<Token>>,
    ) -> Self {
        Self { access, endpoint, address, token }
    }

    /// Its token.
    pub(super) fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref()
    }

    /// The same caller by what its token may do now: for a request that has been under way for a while.
    ///
    /// # Errors
    /// 401 if the token has expired or was revoked, 403 if it lost the right to this route.
    pub fn renewed(&self) -> Result<Self, ApiError> {
        let Some(token) = &self.token else { return Ok(self.clone()) };
        let token = self.access.renew(self.endpoint, token).map_err(|refusal| self.refuse(refusal))?;
        Ok(Self { token: Some(token), ..self.clone() })
    }

    /// Whether what stands in this namespace is there for it.
    pub fn sees(&self, namespace: &Namespace) -> bool {
        self.token.as_ref().is_none_or(|token| token.reaches(namespace))
    }

    /// Whether everything is there for it.
    pub fn is_unbounded(&self) -> bool {
        self.token.as_ref().is_none_or(|token| token.namespaces.same_as(&Scope::everything()))
    }

    /// All that is there for it.
    pub fn scope(&self) -> Scope {
        self.token.as_ref().map_or_else(Scope::everything, |token| token.namespaces.clone())
    }

    /// As whom it writes: the agent of its token, or the one of several that `x-agent-id` names. Without tokens
    /// whoever that header names, or `anonymous`.
    ///
    /// # Errors
    /// 403 for an agent that is not the token's, 422 if it is no agent id, or missing where there is a choice.
    pub fn author(&self, headers: &HeaderMap) -> Result<AgentId, ApiError> {
        let named = params::agent(headers)?;
        let Some(token) = &self.token else { return named.map_or_else(params::anonymous, Ok) };
        match named.as_ref().or(token.agents.sole()) {
            Some(agent) if token.agents.allow(agent) => Ok(agent.clone()),
            Some(_) => Err(self.refuse(Refusal::Agent)),
            None => Err(ApiError::field(
                params::AGENT_HEADER,
                "agent_required",
                "the token may write as several agents: x-agent-id must name one",
            )),
        }
    }

    /// Lets a write of `author` into `namespace`. Any writer may change or delete any memory there, also another's.
    ///
    /// # Errors
    /// 403.
    pub fn may_write(&self, author: &AgentId, namespace: &Namespace) -> Result<(), ApiError> {
        let Some(token) = &self.token else { return Ok(()) };
        if !token.reaches(namespace) {
            return Err(self.refuse(Refusal::Namespace));
        }
        // It was so when the request began; the token may have been changed since.
        if token.agents.allow(author) { Ok(()) } else { Err(self.refuse(Refusal::Agent)) }
    }

    /// Refuses metadata that name another author than `author`, or than they `named` before a change.
    ///
    /// # Errors
    /// 403.
    pub fn may_name(
        &self,
        author: &AgentId,
        metadata: &Map<String, Value>,
        named: Option<&Value>,
    ) -> Result<(), ApiError> {
        let Some(agent) = metadata.get(AGENT_FIELD) else { return Ok(()) };
        let is_own = agent.as_str() == Some(author.as_str()) || Some(agent) == named;
        if self.token.is_none() || is_own { Ok(()) } else { Err(self.refuse(Refusal::Agent)) }
    }

    fn refuse(&self, refusal: Refusal) -> ApiError {
        let token = self.token.as_ref().map(|token| &token.id);
        self.access.refuse(self.endpoint, self.address, token, refusal)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    /// A handler that asks for a caller gets one or is not run: a route without authorisation fails closed.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            ApiError::new(StatusCode::FORBIDDEN, Refusal::Right.slug(), "this route is not open to clients")
        })
    }
}
