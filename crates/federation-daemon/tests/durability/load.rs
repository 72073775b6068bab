//! Many clients at once: no error, few syncs, bounded memory, and how fast it was.
//!
//! ```text
//! FEDERATION_LOAD_SECS=30 cargo test --release -p federation-daemon --test durability load -- --nocapture
//! ```

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use federation_daemon::supervisor::{Client, Mesh};
use hyper::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{WITHIN, alone, equal_within, started, stores, urls};
use crate::traffic::patient;

const CLIENTS: usize = 64;
const SECONDS: &str = "FEDERATION_LOAD_SECS";
/// Syncs of one node's log for one write.
const SYNCS_PER_WRITE_MAX: f64 = 0.2;
/// Growth of a node's resident memory beyond the bytes that it stored.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;
const CONTENT_BYTES: usize = 600;
const DIMENSIONS: u16 = 384;
/// Bare appends that are measured, to compare with.
const APPENDS: u64 = 200;

/// What the clients saw.
#[derive(Default)]
struct Run {
    latencies: Vec<Duration>,
    errors: Vec<String>,
    took: Duration,
}

/// What a node says of itself.
#[derive(Clone, Copy, Default)]
struct Usage {
    syncs: u64,
    stored_bytes: u64,
    resident_bytes: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_get_no_error_few_syncs_and_bounded_memory() {
    let _alone = alone().await;
    let seconds = std::env::var(SECONDS).map_or(3, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut mesh = started(dir.path(), &[]).await;
    let urls = urls(&mesh);
    let client = patient();
    let body = memory();

    let append = durable_append(dir.path());
    let before = usage(&mesh).await;
    let alone = run(&client, &urls, 1, Duration::from_secs(seconds.min(10)), &body).await;
    alone.print(1, append);
    let between = usage(&mesh).await;
    let all = run(&client, &urls, CLIENTS, Duration::from_secs(seconds), &body).await;
    all.print(CLIENTS, append);
    println!(
        "one durable append: p50 {} us before, {} us after",
        append.as_micros(),
        durable_append(dir.path()).as_micros()
    );
    let first_errors: Vec<_> = alone.errors.iter().chain(&all.errors).take(3).collect();
    assert!(
        first_errors.is_empty(),
        "{} errors, as {first_errors:#?}",
        alone.errors.len() + all.errors.len()
    );
    let records = equal_within(&client, &urls, WITHIN).await;
    assert_eq!(records, (alone.latencies.len() + all.latencies.len()) as u64, "all are there, and no more");

    let after = usage(&mesh).await;
    let mut of_all = 0.0;
    for (node, ((before, between), after)) in before.iter().zip(&between).zip(&after).enumerate() {
        let syncs = ratio(after.syncs - between.syncs, all.latencies.len());
        let stored = after.stored_bytes - before.stored_bytes;
        let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
        println!(
            "node {}: {syncs:.3} syncs per write; {} MiB resident, {} MiB more than before, {} MiB stored",
            node + 1,
            after.resident_bytes >> 20,
            grown >> 20,
            stored >> 20
        );
        assert!(grown < stored + GROWTH_BYTES_MAX, "node {}: {grown} bytes, {stored} stored", node + 1);
        assert!(syncs < SYNCS_PER_WRITE_MAX, "node {}: {syncs} syncs per write", node + 1);
        of_all += syncs;
    }
    println!("all nodes: {of_all:.3} syncs per write, three copies");
    mesh.stop_all(WITHIN).await.unwrap();
    for store in stores(&mesh) {
        assert_eq!(store.visible_records, records, "every store holds all of it on disk");
    }
}

/// Lets `clients` write for a time, spread over the nodes.
async fn run(client: &Client, urls: &[String], clients: usize, time: Duration, body: &Bytes) -> Run {
    let begun = Instant::now();
    let deadline = begun + time;
    let mut under_way = JoinSet::new();
    for url in urls.iter().cycle().take(clients) {
        let (client, url, body) = (client.clone(), format!("{url}/api/v1/memories"), body.clone());
        under_way.spawn(async move {
            let mut run = Run::default();
            while Instant::now() < deadline {
                let asked = Instant::now();
                match client.send(Method::POST, &url, Some(("application/json", body.clone()))).await {
                    Ok(answer) if answer.status == 201 => run.latencies.push(asked.elapsed()),
                    Ok(answer) => run.errors.push(format!("{}: {}", answer.status, answer.text())),
                    Err(error) => run.errors.push(error.to_string()),
                }
            }
            run
        });
    }
    let mut all = Run::default();
    while let Some(run) = under_way.join_next().await {
        let run = run.unwrap();
        all.latencies.extend(run.latencies);
        all.errors.extend(run.errors);
    }
    all.took = begun.elapsed();
    all.latencies.sort_unstable();
    all
}

impl Run {
    /// Prints it, also as multiples of one durable append on the same disk.
    fn print(&self, clients: usize, append: Duration) {
        let writes = self.latencies.len();
        let at = |percent: usize| self.latencies.get(writes * percent / 100).copied().unwrap_or_default();
        let (p50, p99, seconds) = (at(50), at(99), self.took.as_secs_f64());
        println!(
            "{clients} clients: {writes} writes in {seconds:.1} s, {:.0} writes/s, {} errors, p50 {} us = {:.1} appends, p99 {} us = {:.1} p50",
            ratio(writes as u64, 1) / seconds,
            self.errors.len(),
            p50.as_micros(),
            p50.as_secs_f64() / append.as_secs_f64(),
            p99.as_micros(),
            p99.as_secs_f64() / p50.as_secs_f64(),
        );
    }
}

/// The median time of a bare append of 4 KiB with its `fdatasync`, in a file that was written before.
fn durable_append(dir: &Path) -> Duration {
    let file = File::create(dir.join("append")).unwrap();
    let block = [7; 4096];
    for number in 0..APPENDS {
        file.write_all_at(&block, number * 4096).unwrap();
    }
    file.sync_all().unwrap();
    let append = |number: u64| {
        let begun = Instant::now();
        file.write_all_at(&block, number * 4096).unwrap();
        file.sync_data().unwrap();
        begun.elapsed()
    };
    let mut took: Vec<_> = (0..APPENDS).map(append).collect();
    took.sort_unstable();
    took[took.len() / 2]
}

/// A memory of a usual size, with a vector.
fn memory() -> Bytes {
    let vector: Vec<u8> = (0..DIMENSIONS).flat_map(|at| f32::from(at % 7 + 1).to_le_bytes()).collect();
    let memory = json!({
        "namespace": "load", "title": "A memory of a usual size", "content": "x".repeat(CONTENT_BYTES),
        "model": "load", "vector_base64": base64::engine::general_purpose::STANDARD.encode(vector),
    });
    memory.to_string().into()
}

async fn usage(mesh: &Mesh) -> Vec<Usage> {
    let mut usages = Vec::new();
    for node in mesh.nodes() {
        let text = mesh.client().get(&format!("{}/metrics", node.url())).await.unwrap().text();
        let status = fs::read_to_string(format!("/proc/{}/status", node.process().unwrap().id())).unwrap();
        usages.push(Usage {
            syncs: number(&text, "federation_store_groups_total "),
            stored_bytes: number(&text, "federation_store_log_bytes_total "),
            resident_bytes: number(&status, "VmRSS:") * 1024,
        });
    }
    usages
}

/// The whole number behind `name` at the beginning of a line.
fn number(text: &str, name: &str) -> u64 {
    let rest =
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a short run")]
fn ratio(count: u64, of: usize) -> f64 {
    count as f64 / of as f64
}
