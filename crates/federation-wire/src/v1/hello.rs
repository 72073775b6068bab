//! The hello: who a node is, what it has, and what it remembers of the other.

use federation_core::dot::Dot;
use federation_core::id::{BootId, LogPosition, NodeId, StoreId};
use federation_core::limits::{BOOTS_MAX, FRAME_BYTES_MAX, GROUP_BYTES_MAX, GROUP_OPS_MAX, OP_BYTES_MAX};
use federation_core::port::store::{Boot, PeerFact};
use federation_core::rejoin::{Rollback, StoreClaim};
use federation_core::scope::Scope;
use serde::{Deserialize, Serialize};

use super::clock_page::ClockPage;
use super::types::Wire;
use crate::codec::{self, CodecError};

/// What each side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The node.
    pub node: NodeId,
    /// This life of its data directory.
    pub store: StoreId,
    /// Its running boot.
    pub boot: BootId,
    /// Its boots, oldest first, at most [`BOOTS_MAX`].
    pub boots: Vec<Boot>,
    /// The versions of the wire that it speaks.
    pub versions: Versions,
    /// What it takes.
    pub limits: PeerLimits,
    /// Hash over the enrolled nodes and what they replicate.
    pub config_version: [u8; 32],
    /// What it keeps.
    pub replica_scope: Scope,
    /// Hash over what it takes of whom: with another, what it has refused as forbidden or invalid may be taken.
    pub acceptance: [u8; 32],
    /// Whether it is re-bootstrapping.
    pub rebootstrapping: bool,
    /// Its verdict on the other: it must re-bootstrap, and why.
    pub must_rebootstrap: Option<RebootstrapReason>,
    /// Position of its last sync.
    pub position: LogPosition,
    /// What it has, paged: a larger clock takes several hellos.
    pub clock: ClockPage,
    /// Behind which dot the page of the other's clock is to begin; none for the first page.
    pub clock_wanted_after: Option<Dot>,
    /// What it remembers of the other.
    pub remembers: Option<PeerFact>,
}

/// The versions of the wire that a node speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl Versions {
    /// What this crate speaks.
    pub const SPOKEN: Self = Self { min: 1, max: 1 };

    /// The highest version that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.max.min(other.max);
        (highest >= self.min.max(other.min)).then_some(highest)
    }
}

/// What a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLimits {
    /// Bytes of a frame.
    pub frame_bytes: u32,
    /// Bytes of a page's ops.
    pub page_bytes: u32,
    /// Ops of a page.
    pub page_ops: u32,
    /// Bytes of an op.
    pub op_bytes: u32,
}

impl PeerLimits {
    /// What this version takes.
    #[expect(clippy::cast_possible_truncation, reason = "constants of a few MiB")]
    pub const OWN: Self = Self {
        frame_bytes: FRAME_BYTES_MAX as u32,
        page_bytes: GROUP_BYTES_MAX as u32,
        page_ops: GROUP_OPS_MAX as u32,
        op_bytes: OP_BYTES_MAX as u32,
    };
}

/// Why a node must re-bootstrap, as its peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RebootstrapReason {
    /// An older life of its data directory is back.
    OlderStore,
    /// It does not know of a boot in which it was seen.
    BootMissing,
    /// A boot in which it was seen ended, for it, before what was seen.
    BootEndedEarlier,
    /// It is behind where it was seen, within one boot.
    BehindWithinBoot,
    /// Its list of boots contradicts itself.
    BootsInconsistent,
    /// It holds data, and nothing is remembered of it by one who may have collected tombstones.
    NoHistory,
    /// It was away for longer than tombstones are kept for it.
    AwayTooLong,
}

impl RebootstrapReason {
    /// Stable, machine-readable.
    pub fn slug(self) -> &'static str {
        match self {
            Self::OlderStore => "older_store",
            Self::BootMissing => "boot_missing",
            Self::BootEndedEarlier => "boot_ended_earlier",
            Self::BehindWithinBoot => "behind_within_boot",
            Self::BootsInconsistent => "boots_inconsistent",
            Self::NoHistory => "no_history",
            Self::AwayTooLong => "away_too_long",
        }
    }
}

impl From<Rollback> for RebootstrapReason {
    fn from(rollback: Rollback) -> Self {
        match rollback {
            Rollback::OlderStore { .. } => Self::OlderStore,
            Rollback::BootMissing { .. } => Self::BootMissing,
            Rollback::BootEndedEarlier { .. } => Self::BootEndedEarlier,
            Rollback::BehindWithinBoot { .. } => Self::BehindWithinBoot,
            Rollback::BootsInconsistent { .. } => Self::BootsInconsistent,
        }
    }
}

/// The answer to a hello: the same of the other side, and what it grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloAnswer {
    /// What the answering node says of itself.
    pub hello: Hello,
    /// What may leave it to the caller.
    pub granted: Scope,
}

#[derive(Serialize, Deserialize)]
struct Dto {
    node: Wire<NodeId>,
    store: Wire<StoreId>,
    boot: Wire<BootId>,
    boots: Wire<Vec<Boot>>,
    versions: Versions,
    limits: PeerLimits,
    config_version: [u8; 32],
    replica_scope: Wire<Scope>,
    acceptance: [u8; 32],
    rebootstrapping: bool,
    must_rebootstrap: Option<RebootstrapReason>,
    position: Wire<LogPosition>,
    clock: ClockPage,
    clock_wanted_after: Wire<Option<Dot>>,
    remembers: Wire<Option<PeerFact>>,
}

impl Hello {
    /// What it says of the node's durable state.
    pub fn claim(&self) -> StoreClaim<'_> {
        StoreClaim { store: self.store, boots: &self.boots, boot: self.boot, position: self.position }
    }

    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&self.to_dto())
    }

    /// The message that `bytes` are.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::from_dto(codec::decode(bytes, FRAME_BYTES_MAX)?)
    }

    fn to_dto(&self) -> Dto {
        let hello = self.clone();
        Dto {
            node: Wire(hello.node),
            store: Wire(hello.store),
            boot: Wire(hello.boot),
            boots: Wire(hello.boots),
            versions: hello.versions,
            limits: hello.limits,
            config_version: hello.config_version,
            replica_scope: Wire(hello.replica_scope),
            acceptance: hello.acceptance,
            rebootstrapping: hello.rebootstrapping,
            must_rebootstrap: hello.must_rebootstrap,
            position: Wire(hello.position),
            clock: hello.clock,
            clock_wanted_after: Wire(hello.clock_wanted_after),
            remembers: Wire(hello.remembers),
        }
    }

    fn from_dto(dto: Dto) -> Result<Self, CodecError> {
        let Wire(boots) = dto.boots;
        if boots.len() > BOOTS_MAX {
            return Err(CodecError::TooMany { count: boots.len(), limit: BOOTS_MAX });
        }
        Ok(Self {
            node: dto.node.0,
            store: dto.store.0,
            boot: dto.boot.0,
            boots,
            versions: dto.versions,
            limits: dto.limits,
            config_version: dto.config_version,
            replica_scope: dto.replica_scope.0,
            acceptance: dto.acceptance,
            rebootstrapping: dto.rebootstrapping,
            must_rebootstrap: dto.must_rebootstrap,
            position: dto.position.0,
            clock: dto.clock,
            clock_wanted_after: dto.clock_wanted_after.0,
            remembers: dto.remembers.0,
        })
    }
}

impl HelloAnswer {
    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&(self.hello.to_dto(), Wire(&self.granted)))
    }

    /// The message that `bytes` are.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let (hello, Wire(granted)) = codec::decode(bytes, FRAME_BYTES_MAX)?;
        Ok(Self { hello: Hello::from_dto(hello)?, granted })
    }
}
