//! Kinds of faults, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Fault;

/// A kind of fault, as `--faults` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// [`Fault::Partition`].
    Partition,
    /// [`Fault::PartitionOneWay`].
    PartitionOneWay,
    /// [`Fault::PartitionMinority`].
    PartitionMinority,
    /// [`Fault::PartitionChain`].
    PartitionChain,
    /// [`Fault::FlappingLink`].
    FlappingLink,
    /// [`Fault::PacketLoss`].
    PacketLoss,
    /// [`Fault::DropRandomAcks`].
    DropRandomAcks,
    /// [`Fault::ForgedAnswers`].
    ForgedAnswers,
    /// [`Fault::Delay`].
    Delay,
    /// [`Fault::SlowLink`].
    SlowLink,
    /// [`Fault::Reorder`].
    Reorder,
    /// [`Fault::Duplicate`].
    Duplicate,
    /// [`Fault::PowerCut`], [`Fault::PowerCutAll`].
    PowerCut,
    /// Writes and a power cut of their coordinator a moment later.
    KillPrimaryMidWrite,
    /// [`Fault::Stop`], [`Fault::RestartRolling`].
    RestartRolling,
    /// [`Fault::ReplaceDisk`].
    ReplaceDisk,
    /// [`Fault::KeepImage`], [`Fault::RollBackDisk`].
    RollBackDisk,
    /// [`Fault::ClockSkew`].
    ClockSkew,
    /// [`Fault::Pause`].
    Pause,
    /// [`Fault::DiskFull`].
    DiskFull,
    /// [`Fault::DiskFails`].
    DiskFails,
    /// [`Fault::SlowDisk`].
    SlowDisk,
    /// [`Fault::ScopeChanged`].
    ScopeChanged,
    /// [`Fault::ForgedPeer`].
    ForgedPeer,
    /// [`Fault::KeyEnrolled`], [`Fault::KeyActivated`], [`Fault::KeyEnded`].
    KeyRotated,
}

impl FaultClass {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::Partition,
        Self::PartitionOneWay,
        Self::PartitionMinority,
        Self::PartitionChain,
        Self::FlappingLink,
        Self::PacketLoss,
        Self::DropRandomAcks,
        Self::ForgedAnswers,
        Self::Delay,
        Self::SlowLink,
        Self::Reorder,
        Self::Duplicate,
        Self::PowerCut,
        Self::KillPrimaryMidWrite,
        Self::RestartRolling,
        Self::ReplaceDisk,
        Self::RollBackDisk,
        Self::ClockSkew,
        Self::Pause,
        Self::DiskFull,
        Self::DiskFails,
        Self::SlowDisk,
        Self::ScopeChanged,
        Self::ForgedPeer,
        Self::KeyRotated,
    ];

    /// As `--faults` and schedules name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::PartitionOneWay => "partition_one_way",
            Self::PartitionMinority => "partition_minority",
            Self::PartitionChain => "partition_chain",
            Self::FlappingLink => "flapping_link",
            Self::PacketLoss => "packet_loss",
            Self::DropRandomAcks => "drop_random_acks",
            Self::ForgedAnswers => "forged_answers",
            Self::Delay => "delay",
            Self::SlowLink => "slow_link",
            Self::Reorder => "reorder",
            Self::Duplicate => "duplicate",
            Self::PowerCut => "power_cut",
            Self::KillPrimaryMidWrite => "kill_primary_mid_write",
            Self::RestartRolling => "restart_rolling",
            Self::ReplaceDisk => "replace_disk",
            Self::RollBackDisk => "roll_back_disk",
            Self::ClockSkew => "clock_skew",
            Self::Pause => "pause",
            Self::DiskFull => "disk_full",
            Self::DiskFails => "disk_fails",
            Self::SlowDisk => "slow_disk",
            Self::ScopeChanged => "scope_changed",
            Self::ForgedPeer => "forged_peer",
            Self::KeyRotated => "key_rotated",
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FaultClass {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        Self::ALL.into_iter().find(|class| class.name() == text).ok_or_else(|| UnknownFault(text.to_owned()))
    }
}

/// No fault has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFault(String);

impl std::error::Error for UnknownFault {}

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = FaultClass::ALL.iter().map(|class| class.name()).collect();
        write!(f, "no fault is named {:?}; there are {}", self.0, all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_one_name() {
        for class in FaultClass::ALL {
            assert_eq!(class.name().parse(), Ok(class));
            assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        }
        assert!("rain".parse::<FaultClass>().unwrap_err().to_string().contains("power_cut"));
    }
}
