//! What happened on a network.

use std::collections::BTreeMap;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// How often each thing happened on a network since it was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct NetworkCounts {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl NetworkCounts {
            /// Each by its name.
            pub fn named(&self) -> BTreeMap<&'static str, u64> {
                BTreeMap::from([$((stringify!($name), self.$name)),+])
            }
        }
    };
}

counts! {
    /// Requests that reached their node, duplicates not among them.
    requests,
    /// Answers that reached whoever asked.
    answers,
    /// Requests that were lost.
    requests_lost,
    /// Answers that were lost: the request was handled.
    answers_lost,
    /// Answers that were changed on their way, and signed by nobody who may.
    answers_forged,
    /// Frames that waited at a cut until it was mended.
    held,
    /// Frames that waited at a cut until nobody waited for them any more.
    swallowed,
    /// Frames that took several times the delay.
    reordered,
    /// Frames that took longer on a slow link.
    slowed,
    /// Requests that came a second time.
    duplicated,
    /// Requests that were handled a second time: no node may do that.
    taken_twice,
    /// Connections that were made.
    connected,
    /// Connections that nobody listened for.
    refused,
    /// Connections that a cut kept from being made in time.
    unreachable,
    /// Connections that broke because nothing had passed for too long.
    broken,
    /// Frames of an attacker that reached a node.
    injected,
}
