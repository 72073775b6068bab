//! What a search is meant to reach: one that never does shows nothing.

use super::Mesh;

impl Mesh {
    /// What this state shows of it.
    pub(crate) fn reached(&self) -> Vec<&'static str> {
        let first_boots = self.nodes.len() as u64;
        let mut records = self.nodes.iter().flat_map(|node| node.replica.records.values());
        let mut origins = self.nodes.iter().filter_map(|node| node.replica.own_origin.as_ref());
        let mut sessions = self.sessions.iter().map(|(session, _)| session);
        let are_whole = self.nodes.iter().all(|node| node.rebootstrap.is_none());
        let shown = [
            ("siblings", records.any(|record| record.versions().len() > 1)),
            (
                "all equal",
                self.nodes.windows(2).all(|pair| pair[0].replica.records == pair[1].replica.records),
            ),
            ("completion withheld", sessions.clone().any(|session| session.withholds())),
            ("replaced before it was sent", sessions.any(|session| session.is_overtaken(self))),
            ("two sessions", self.sessions.len() > 1),
            ("dead letter", self.nodes.iter().any(|node| !node.replica.dead_letters.is_empty())),
            ("new epoch", origins.any(|origin| origin.epoch.0 > first_boots)),
            ("re-bootstrap", !are_whole),
            ("whole again", self.spent.losses > 0 && are_whole),
        ];
        shown.into_iter().filter(|(_, is)| *is).map(|(what, _)| what).collect()
    }
}
