//! Honest nodes with a recorder between them, and what is seen of the victim.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use federation_daemon::enrolment::{key_file, peers_file};
use federation_daemon::random::system_rng;
use federation_daemon::supervisor::{Client, Mesh, MeshLinks, MeshLogs, MeshSpec};
use federation_wire::frame::Route;
use federation_wire::identity::Enrolment;
use federation_wire::keys::NodeKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::line::{ATTACKER, Line};
use crate::loot::{AUTHOR, Loot, Place, Sender, bodies, envelope};
use crate::poll::until;
use crate::recorder::{Recorded, Recorder};

/// How long anything that must happen may take on a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);
/// The node that is attacked, of three.
pub(crate) const VICTIM: usize = 0;
/// The node whose traffic to the victim is recorded.
pub(crate) const HONEST: usize = 1;
/// Another one.
pub(crate) const OTHER: usize = 2;
/// Memories that the honest node writes while it is recorded.
const RECORDED_WRITES: usize = 20;
/// In which the kernel counts processor time, on every machine of today.
const TICKS_PER_SECOND: f64 = 100.0;
/// A namespace that mallory may write in, and as long as the ones that stand in its place.
pub(crate) const NAMESPACE: &str = "team/notes";
/// What every memory says, and nothing else on the wire.
pub(crate) const CONTENT: &str = "the-content-of-a-recorded-memory";

/// A mesh whose node-2 reaches node-1 by way of a recorder.
pub(crate) struct Bench {
    pub(crate) mesh: Mesh,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) mallory: Sender,
    _dir: TempDir,
}

impl State {
    /// Without what the log has of other things than memories.
    pub(crate) fn content(&self) -> [&Value; 2] {
        [&self.hash, &self.dots]
    }
}

/// What an attack must not change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    hash: Value,
    dots: Value,
    log_position: Value,
}

impl Bench {
    /// So many nodes, all ready, and mallory enrolled at each.
    pub(crate) async fn start(links: MeshLinks, nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // What a node writes by itself from time to time would look like the work of an attack.
        let args = ["--quorum-writes", "2", "--catchup-interval-secs", "0"];
        let mut mesh = Mesh::prepare(MeshSpec {
            program: env!("CARGO_BIN_EXE_federationd").into(),
            dir: dir.path().to_owned(),
            nodes,
            args: args.map(OsString::from).into(),
            logs: MeshLogs::Files,
            links,
        })
        .unwrap();
        let recorder = Recorder::start(mesh.node(VICTIM).unwrap().peer_address()).await;
        mesh.route(HONEST, VICTIM, recorder.address()).unwrap();
        let mallory = Sender::new("mallory", Arc::new(NodeKey::generate(&mut system_rng())));
        for node in mesh.nodes() {
            enrol_mallory(&node.dir().join("peers.toml"), &mallory);
        }
        mesh.start_all(WITHIN).await.unwrap();
        let client = mesh.client().clone();
        Self { mesh, client, recorder, mallory, _dir: dir }
    }

    /// A mesh of three in the clear, with all that its eavesdropper has. It is quiet.
    pub(crate) async fn recorded() -> (Self, Loot) {
        let bench = Self::start(MeshLinks::Plain, 3).await;
        for number in 0..RECORDED_WRITES {
            bench.write(HONEST, &format!("recorded-{number}")).await;
        }
        bench.settled().await;
        let delivered = bench.recorder.connections();
        bench.recorder.swallow();
        bench.write(HONEST, "late").await;
        until(WITHIN, "a push is swallowed", async || {
            let is_of = |one: &Recorded| {
                let from = one.swallowed_from.unwrap_or(usize::MAX);
                bodies(&one.asked).iter().any(|(at, _)| *at >= from)
            };
            bench.recorder.connections().iter().any(is_of).then_some(())
        })
        .await;
        let before = bench.recorder.connections();
        bench.recorder.carry();
        bench.settled().await;
        let loot = bench.loot(delivered, &before).await;
        // The first hello of each teaches a node something durable; only then is it quiet.
        let line = Line::open(ATTACKER, loot.victim.address).await.unwrap();
        let hello = loot.mallory.sends(&loot.victim, Route::Hello, &loot.hello_of(&loot.mallory).to_bytes());
        assert_eq!(line.send(Route::Hello, &hello).await.unwrap().status, 200);
        bench.quiet().await;
        (bench, loot)
    }

    async fn loot(&self, connections: Vec<Recorded>, lost: &[Recorded]) -> Loot {
        let frames = |side: fn(&Recorded) -> &Vec<u8>| {
            let all = connections.iter().flat_map(|one| bodies(side(one)));
            all.map(|(_, body)| body).filter(|body| body.starts_with(b"FED1")).collect::<Vec<_>>()
        };
        let undelivered = lost.iter().flat_map(|one| {
            let from = one.swallowed_from.unwrap_or(usize::MAX);
            bodies(&one.asked).into_iter().filter(move |(at, _)| *at >= from).map(|(_, body)| body)
        });
        let undelivered = undelivered.filter(|body| envelope(body).route == Route::Push).collect();
        let (frames, answers) = (frames(|one| &one.asked), frames(|one| &one.answered));
        assert!(frames.len() > RECORDED_WRITES / 2, "{} frames were recorded", frames.len());
        Loot {
            victim: self.place(VICTIM).await,
            other: self.place(OTHER).await,
            connections,
            frames,
            answers,
            undelivered,
            mallory: self.mallory.clone(),
            stranger: Sender::new("stranger", Arc::new(NodeKey::generate(&mut system_rng()))),
        }
    }

    /// A node as an attacker sees it now.
    pub(crate) async fn place(&self, index: usize) -> Place {
        let node = self.mesh.node(index).unwrap();
        let boot = self.status(index).await["boot"].as_str().unwrap().parse().unwrap();
        let key = self.key(index).public().clone();
        Place { id: node.id().clone(), boot, address: node.peer_address(), key }
    }

    /// The key of a node, as who steals it has it.
    pub(crate) fn key(&self, index: usize) -> Arc<NodeKey> {
        let path = self.mesh.node(index).unwrap().dir().join("federation.key");
        Arc::clone(key_file::read(&path).unwrap().active())
    }

    pub(crate) fn url(&self, index: usize) -> String {
        self.mesh.node(index).unwrap().url()
    }

    /// Writes a memory at a node, held by two.
    pub(crate) async fn write(&self, index: usize, id: &str) -> Value {
        let url = format!("{}/api/v1/memories", self.url(index));
        let memory = json!({ "id": id, "namespace": NAMESPACE, "title": "t", "content": CONTENT });
        let answer = self.client.post(&url, &memory).await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json().unwrap()
    }

    async fn status(&self, index: usize) -> Value {
        let answer = self.client.get(&format!("{}/api/v1/status?hash=true", self.url(index))).await.unwrap();
        answer.json().unwrap()
    }

    /// What a node has.
    pub(crate) async fn state(&self, index: usize) -> State {
        let status = self.status(index).await;
        let [hash, dots, log_position] =
            ["state_hash", "dots", "log_position"].map(|field| status[field].clone());
        assert!(!hash.is_null() && dots.is_number() && log_position.is_number(), "{status}");
        State { hash, dots, log_position }
    }

    /// A counter of a node, as its metrics have it.
    pub(crate) async fn counted(&self, index: usize, name: &str, label: &str) -> u64 {
        let text = self.client.get(&format!("{}/metrics", self.url(index))).await.unwrap().text();
        let is_it = |line: &&str| {
            line.starts_with(&format!("federation_{name}_total{{")) && line.contains(&format!("\"{label}\""))
        };
        text.lines().find(is_it).map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Frames that a node refused for this reason.
    pub(crate) async fn refused(&self, index: usize, slug: &str) -> u64 {
        self.counted(index, "refused_frames", slug).await
    }

    /// Seconds of processor time that a node has used.
    pub(crate) fn processor_seconds(&self, index: usize) -> f64 {
        let id = self.mesh.node(index).unwrap().process().unwrap().id();
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let behind_name = stat.rsplit(')').next().unwrap();
        let ticks =
            behind_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap());
        ticks.sum::<f64>() / TICKS_PER_SECOND
    }

    /// Bytes of a node's process that are in memory.
    pub(crate) fn resident_bytes(&self, index: usize) -> u64 {
        let id = self.mesh.node(index).unwrap().process().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Waits until all nodes have the same.
    pub(crate) async fn settled(&self) {
        self.same_for(Duration::from_millis(200)).await;
    }

    /// Waits until all nodes have the same, and none of them has written for longer than it takes a node to send on what it
    /// has of others.
    pub(crate) async fn quiet(&self) {
        self.same_for(Duration::from_secs(9)).await;
    }

    async fn same_for(&self, time: Duration) {
        let (mut before, mut since) = (Vec::new(), Instant::now());
        until(WITHIN, "all nodes have the same, and go on so", async || {
            let mut states = Vec::new();
            for index in 0..self.mesh.nodes().len() {
                states.push(self.state(index).await);
            }
            let is_equal =
                states.iter().all(|state| state.hash == states[0].hash && state.dots == states[0].dots);
            if !is_equal || states != before {
                since = Instant::now();
                before.clone_from(&states);
            }
            (since.elapsed() >= time).then_some(())
        })
        .await;
    }

    pub(crate) async fn stop(mut self) {
        self.mesh.stop_all(WITHIN).await.unwrap();
    }
}

fn enrol_mallory(path: &Path, mallory: &Sender) {
    let mut file = peers_file::load(path).unwrap();
    let mut enrolment = Enrolment::full(mallory.id.as_str(), "", mallory.key.public());
    enrolment.url = None;
    let [replicates, grant, accept, relay, authors, kinds] = enrolment.trust_lists();
    for list in [replicates, grant, relay] {
        list.clear();
    }
    *accept = vec!["team/*".to_owned()];
    *authors = vec![AUTHOR.to_owned()];
    *kinds = vec!["memory".to_owned()];
    peers_file::replace(&mut file, enrolment);
    peers_file::save(path, &file).unwrap();
}
