//! `/metrics`: what net and store have counted, in the text format of `OpenMetrics`.

use std::fmt;
use std::sync::Arc;

use federation_net::metrics::{LATENCY_BUCKETS, LatencyHistogram, NetCounters};
use federation_net::node::Node;
use federation_net::status::{LinkState, NodeStatus, Readiness};
use federation_store::HistogramSnapshot;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::api::auth::Access;

/// Everything that `/metrics` shows, read anew at each request.
#[derive(Debug)]
pub struct Meters {
    registry: Registry,
}

impl Meters {
    /// The meters of a node, its store, and who is let in to it.
    pub fn new(node: Node, store: Arc<federation_store::Metrics>, access: Arc<Access>) -> Self {
        let mut registry = Registry::with_prefix("federation");
        registry.register_collector(Box::new(Source { node, store, access }));
        Self { registry }
    }

    /// The text of an answer.
    ///
    /// # Errors
    /// None in practice: writing to memory does not fail.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

struct Source {
    node: Node,
    store: Arc<federation_store::Metrics>,
    access: Arc<Access>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Collector for Source {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { encoder };
        encode_net(&mut page, &self.node.metrics())?;
        encode_status(&mut page, &self.node.status())?;
        encode_letters(&mut page, &self.node)?;
        let refused = self.access.refused().by_slug();
        let refused = refused.iter().map(|(slug, count)| (slug, count));
        page.counters("refused_requests", "Client requests refused, by slug", "slug", refused)?;
        encode_store(&mut page, &self.store)
    }
}

fn encode_net(page: &mut Page<'_>, net: &NetCounters) -> fmt::Result {
    page.counters("write_outcomes", "Client writes by what became of them", "outcome", &net.write_outcomes)?;
    page.latency("write_seconds", "From the call to the 201", [(None, &net.write_latency)])?;
    let acks = net.ack_latency.iter().map(|(peer, latency)| (Some(peer.as_str()), latency));
    page.latency("ack_seconds", "From sending a page to its ack, per peer", acks)?;
    page.counters("admitted_ops", "Ops from elsewhere by what became of them", "outcome", &net.admitted)?;
    page.counters("refused_frames", "Peer requests refused unread, by slug", "slug", &net.refused_frames)?;
    page.counters(
        "refused_connections",
        "Connections of the peer listener that came to nothing, by reason",
        "reason",
        &net.refused_connections,
    )?;
    page.counters("sessions", "Sessions ended, by direction and result", "result", &net.sessions)?;
    page.counters("epochs", "Series of own dots, by how each start settled it", "settled", &net.epochs)?;
    page.counter("acks_signed", "Acks signed because a write asked for a receipt", net.acks_signed)?;
    page.counter("relayed_ops", "Ops applied that another node than their origin brought", net.relayed_ops)?;
    page.counter(
        "completions_withheld",
        "Completions that left out what was refused",
        net.completions_withheld,
    )?;
    page.counter(
        "completions_limited",
        "Completions that claimed less because of the scopes",
        net.completions_limited,
    )?;
    let letters = &net.dead_letters;
    page.counters("dead_letters_noted", "Ops that a peer refused for good, by reason", "reason", letters)?;
    page.counter("dead_letters_retried", "Dead letters sent again by hand", net.dead_letters_retried)?;
    page.counter("dead_letters_discarded", "Dead letters given up", net.dead_letters_discarded)?;
    page.counter("rebootstraps_ended", "Re-bootstraps that this node has ended", net.rebootstraps_ended)?;
    page.counters("alarms", "Things that must not happen, by kind", "alarm", &net.alarms)
}

fn encode_status(page: &mut Page<'_>, status: &NodeStatus) -> fmt::Result {
    let is_ready = i64::from(status.readiness == Readiness::Ready);
    page.gauge("ready", "1 while clients are served", is_ready)?;
    page.gauge("open_writes", "Client writes whose quorum is open", signed(status.open_writes as u64))?;
    page.gauge("quorum_nodes", "Nodes that count: n", signed(status.n as u64))?;
    page.gauge("quorum_needed", "Nodes that must hold a write: w", signed(status.w as u64))?;
    page.gauge("log_position_bytes", "Bytes made durable since the store began", signed(status.position.0))?;
    let of_peers = |value: fn(&federation_net::status::PeerStatus) -> i64| {
        status.peers.iter().map(move |peer| (peer.id.as_str(), value(peer)))
    };
    page.gauges(
        "peer_up",
        "1 while a peer answers",
        "peer",
        of_peers(|peer| i64::from(peer.state == LinkState::Up)),
    )?;
    page.gauges(
        "peer_backlog_ops",
        "Ops that a peer is not known to have",
        "peer",
        of_peers(|peer| signed(peer.backlog_ops)),
    )?;
    page.gauges(
        "peer_live_lane_ops",
        "Ops that wait in a peer's live lane",
        "peer",
        of_peers(|peer| signed(peer.live_lane_ops as u64)),
    )
}

fn encode_letters(page: &mut Page<'_>, node: &Node) -> fmt::Result {
    let help = "Ops that a peer refused for good and nobody has given up, by reason";
    let mut family = page.family("dead_letters", help, MetricType::Gauge)?;
    for ((peer, reason), count) in node.dead_letter_counts() {
        let labels = [("peer", peer.as_str()), ("reason", reason)];
        ConstGauge::new(signed(count)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_store(page: &mut Page<'_>, store: &federation_store::Metrics) -> fmt::Result {
    page.histogram(
        "store_sync_seconds",
        "One group written and synced",
        &store.sync_micros.snapshot(),
        1e-6,
    )?;
    page.histogram("store_group_ops", "Ops that shared one sync", &store.group_ops.snapshot(), 1.0)?;
    page.counter("store_groups", "Groups written, each with one sync", store.groups.value())?;
    page.counter("store_ops", "Ops written", store.ops.value())?;
    page.counter(
        "store_vectors_indexed",
        "Vectors taken of this node's own space",
        store.vectors_indexed.value(),
    )?;
    page.counter(
        "store_vectors_other_space",
        "Vectors taken of another space: kept, in no index",
        store.vectors_other_space.value(),
    )?;
    page.counter("store_log_bytes", "Bytes written to the log, copies too", store.log_bytes.value())?;
    page.counter(
        "store_compaction_bytes",
        "Bytes written to the log by compaction",
        store.compaction_bytes.value(),
    )?;
    page.counter(
        "store_segments_removed",
        "Segments that went by compaction",
        store.segments_removed.value(),
    )?;
    page.gauge("store_log_size_bytes", "Bytes that the log has", signed(store.log_size_bytes.value()))?;
    page.gauge("store_live_bytes", "Bytes of the log that are live ops", signed(store.live_bytes.value()))?;
    page.counter("store_checkpoints", "Checkpoints of the index", store.checkpoints.value())?;
    page.counter("store_rebuilds", "Rebuilds of the index from the log", store.rebuilds.value())?;
    page.counter("store_unreadable", "Reads of log or index that failed", store.unreadable.value())?;
    page.gauge(
        "store_live_versions",
        "Live versions, tombstones included",
        signed(store.live_versions.value()),
    )?;
    page.gauge("store_visible_records", "Records that a reader sees", signed(store.visible_records.value()))?;
    page.gauge("store_segments", "Segments of the log, 64 MiB each", signed(store.segments.value()))
}

/// One answer, under way.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, None, kind)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.family(name, help, MetricType::Counter)?)
    }

    fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'v &'static str, &'v u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (text, value) in values {
            ConstCounter::new(*value).encode(family.encode_family(&[(label, *text)])?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        ConstGauge::new(value).encode(self.family(name, help, MetricType::Gauge)?)
    }

    fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'v str, i64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        for (text, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&[(label, text)])?)?;
        }
        Ok(())
    }

    /// Latencies, each of a peer or of the node itself.
    fn latency<'v>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Option<&'v str>, &'v LatencyHistogram)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Histogram)?;
        for (peer, latency) in values {
            let bounds = LATENCY_BUCKETS.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(latency.counts).collect();
            let (sum, count) = (latency.sum_seconds, latency.count());
            match peer {
                Some(peer) => family
                    .encode_family(&[("peer", peer)])?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?,
                None => family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?,
            }
        }
        Ok(())
    }

    /// A histogram whose bounds are powers of two of `unit`.
    fn histogram(&mut self, name: &str, help: &str, values: &HistogramSnapshot, unit: f64) -> fmt::Result {
        let last = values.counts.len().saturating_sub(1);
        let bound =
            |at: usize| if at == last { f64::INFINITY } else { unit * f64::from(1_u32 << at.min(31)) };
        let buckets: Vec<_> =
            values.counts.iter().enumerate().map(|(at, count)| (bound(at), *count)).collect();
        let count = values.counts.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "a sum for averages")]
        let sum = values.sum as f64 * unit;
        self.family(name, help, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
