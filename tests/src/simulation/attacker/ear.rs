//! What an attacker has heard.

use std::collections::VecDeque;

use federation_wire::frame::{Envelope, ReceivedFrame, Route};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::network::{CapturedFrame, Network};

/// Frames that are remembered beyond what the network still has of them.
const MEMORY_MAX: usize = 64;

/// A request that its node has handled.
#[derive(Clone)]
pub(super) struct Heard {
    pub(super) frame: CapturedFrame,
    pub(super) envelope: Envelope,
}

impl Heard {
    fn of(frame: CapturedFrame) -> Option<Self> {
        let envelope = ReceivedFrame::parse(&frame.frame).ok()?.header().envelope.clone();
        frame.is_taken().then_some(Self { frame, envelope })
    }

    pub(super) fn route(&self) -> Route {
        self.frame.route
    }

    /// What it carries.
    pub(super) fn body(&self) -> Vec<u8> {
        let body = ReceivedFrame::parse(&self.frame.frame).map(|frame| frame.header().body.len as usize);
        let until = self.frame.frame.len().saturating_sub(super::mangler::SIGNATURE_BYTES);
        let from = until.saturating_sub(body.unwrap_or(0));
        self.frame.frame.get(from..until).unwrap_or_default().to_vec()
    }
}

/// Listens on a network.
pub(super) struct Ear {
    network: Network,
    /// Of long ago, the oldest first.
    memory: VecDeque<Heard>,
}

impl Ear {
    pub(super) fn new(network: Network) -> Self {
        Self { network, memory: VecDeque::new() }
    }

    /// Remembers one of the frames of late.
    pub(super) fn listen(&mut self, random: &mut StdRng) {
        let heard = self.of_late();
        if !heard.is_empty()
            && let Some(heard) = heard.get(random.random_range(0..heard.len()))
        {
            self.memory.push_back(heard.clone());
            if self.memory.len() > MEMORY_MAX {
                self.memory.pop_front();
            }
        }
    }

    /// Any frame that fits.
    pub(super) fn pick(&self, random: &mut StdRng, fits: impl Fn(&Heard) -> bool) -> Option<Heard> {
        let mut heard: Vec<_> = self.memory.iter().cloned().chain(self.of_late()).filter(fits).collect();
        if heard.is_empty() { None } else { Some(heard.swap_remove(random.random_range(0..heard.len()))) }
    }

    /// The last frame that fits of any sender and route.
    pub(super) fn last(&self, random: &mut StdRng, fits: impl Fn(&Heard) -> bool) -> Option<Heard> {
        let any = self.of_late().into_iter().filter(&fits).collect::<Vec<_>>();
        if any.is_empty() {
            return None;
        }
        let drawn = any.get(random.random_range(0..any.len()))?;
        let is_alike =
            |heard: &&Heard| heard.frame.from == drawn.frame.from && heard.route() == drawn.route();
        any.iter().rev().find(is_alike).cloned()
    }

    /// All frames of late, the oldest first.
    pub(super) fn of_late(&self) -> Vec<Heard> {
        self.network.captured().into_iter().filter_map(Heard::of).collect()
    }
}
