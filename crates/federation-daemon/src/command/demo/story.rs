//! The story, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use crate::command::demo::{DemoError, Narrator, READY_WITHIN, detail};
use crate::sample;
use crate::supervisor::{Client, Mesh};

/// The node that is killed.
const VICTIM: usize = 2;
/// How long the nodes may take to be equal.
const EQUAL_WITHIN: Duration = Duration::from_secs(10);
/// How long a node may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Memories written while a node is down.
const WRITTEN_WHILE_DOWN: usize = 60;
/// Of the sample, the first so many are changed while a node is down, and the next so many deleted.
const CHANGED_WHILE_DOWN: usize = 30;
const DELETED_WHILE_DOWN: usize = 40;

/// The story: the nodes, and what they have promised so far.
pub(super) struct Story {
    mesh: Mesh,
    client: Client,
    narrator: Narrator,
    /// Content of each memory that was acknowledged, by id.
    promised: BTreeMap<String, String>,
    /// Memories whose delete was acknowledged.
    deleted: BTreeSet<String>,
}

impl Story {
    pub(super) fn new(mesh: Mesh) -> Result<Self, DemoError> {
        let mut promised = BTreeMap::new();
        for (at, line) in sample::MEMORIES.lines().enumerate() {
            let broken = || DemoError::Sample { line: at + 1 };
            let memory: Value = serde_json::from_str(line).map_err(|_| broken())?;
            let text = |field: &str| memory.get(field).and_then(Value::as_str).map(str::to_owned);
            promised.insert(text("id").ok_or_else(broken)?, text("content").ok_or_else(broken)?);
        }
        let client = mesh.client().clone();
        Ok(Self { mesh, client, narrator: Narrator::default(), promised, deleted: BTreeSet::new() })
    }

    pub(super) async fn play(mut self) -> Result<(), DemoError> {
        self.start().await?;
        self.load().await?;
        self.all_equal("all three nodes hold the same").await?;
        self.kill().await?;
        self.write_on().await?;
        self.change_and_delete().await?;
        self.restart().await?;
        self.all_equal("the node that was gone has caught up: all three hold the same").await?;
        self.check_promises().await?;
        self.stop().await
    }

    async fn start(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        self.mesh.start_all(READY_WITHIN).await?;
        self.narrator.done(begun, "three nodes are up, each with its own key, disk and process");
        for node in self.mesh.nodes() {
            detail(format_args!("{}  {}  process {}", node.id(), node.url(), node.process()?.id()));
        }
        Ok(())
    }

    async fn load(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        let url = format!("{}/api/v1/memories/bulk", self.url(0)?);
        let body = Some(("application/x-ndjson", sample::MEMORIES.into()));
        let answer = self.client.send(Method::POST, &url, body).await?;
        self.expect(0, "answers the bulk write", &200, &answer.status)?;
        let rows = answer.json_lines()?;
        self.expect(0, "answers so many rows", &self.promised.len(), &rows.len())?;
        for row in &rows {
            let id = row.get("id").and_then(Value::as_str).unwrap_or("?");
            self.expect(
                0,
                &format!("answers the write of {id} with status"),
                &Some(201),
                &int(row, "/status"),
            )?;
            self.expect_quorum(0, id, row)?;
        }
        let vectors = sample::MEMORIES.lines().filter(|line| line.contains(sample::MODEL)).count();
        self.narrator.done(
            begun,
            format_args!(
                "{} memories with {vectors} vectors loaded through {}, each on at least two disks",
                rows.len(),
                self.name(0)?
            ),
        );
        Ok(())
    }

    async fn all_equal(&mut self, said: &str) -> Result<(), DemoError> {
        let begun = Instant::now();
        let (hash, records) = loop {
            let mut states = Vec::new();
            for index in 0..self.mesh.nodes().len() {
                states.push(self.state(index).await?);
            }
            if let Some(first) = states.first()
                && states.iter().all(|state| state == first)
            {
                break first.clone();
            }
            if begun.elapsed() > EQUAL_WITHIN {
                let name = self.name(VICTIM)?;
                let what = format!("holds the same as the others within {} s", EQUAL_WITHIN.as_secs());
                return Err(not_as_told(&name, &what, &states.first(), &states.last()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let expected = self.promised.len() as u64;
        self.expect(0, "holds so many memories", &expected, &records)?;
        self.narrator.done(begun, said);
        detail(format_args!(
            "{records} memories, state hash {} on each",
            hash.chars().take(16).collect::<String>()
        ));
        Ok(())
    }

    async fn kill(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        self.mesh.kill(VICTIM).await?;
        self.narrator.done(begun, format_args!("kill -9 of {}", self.name(VICTIM)?));
        Ok(())
    }

    async fn write_on(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        for number in 0..WRITTEN_WHILE_DOWN {
            let at = number % VICTIM;
            let id = format!("while-down-{number:03}");
            let content = format!("Written at {} while a node was gone, number {number}.", self.name(at)?);
            let vector = sample::embed(&content);
            let memory = json!({
                "id": id, "namespace": "demo/outage", "title": format!("Note {number} of the outage"),
                "content": content, "tags": ["demo"], "model": sample::MODEL, "vector": &*vector,
            });
            let answer = self.client.post(&format!("{}/api/v1/memories", self.url(at)?), &memory).await?;
            self.expect(at, &format!("answers the write of {id}"), &201, &answer.status)?;
            self.expect_quorum(at, &id, &answer.json()?)?;
            self.promised.insert(id, content);
        }
        self.narrator.done(
            begun,
            format_args!("{WRITTEN_WHILE_DOWN} more memories written at the two that are left, each acknowledged by 2 of 3"),
        );
        Ok(())
    }

    async fn change_and_delete(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        let ids: Vec<String> = self.promised.keys().filter(|id| id.starts_with("demo-")).cloned().collect();
        for (number, id) in ids.iter().take(CHANGED_WHILE_DOWN).enumerate() {
            let at = number % VICTIM;
            let content = format!("Changed while a node was gone, number {number}.");
            let url = format!("{}/api/v1/memories/{id}", self.url(at)?);
            let answer = self.client.put(&url, &json!({ "content": content })).await?;
            self.expect(at, &format!("answers the change of {id}"), &200, &answer.status)?;
            self.expect_quorum(at, id, &answer.json()?)?;
            self.promised.insert(id.clone(), content);
        }
        for (number, id) in ids.iter().skip(CHANGED_WHILE_DOWN).take(DELETED_WHILE_DOWN).enumerate() {
            let at = number % VICTIM;
            let answer = self.client.delete(&format!("{}/api/v1/memories/{id}", self.url(at)?)).await?;
            self.expect(at, &format!("answers the delete of {id}"), &200, &answer.status)?;
            self.expect_quorum(at, id, &answer.json()?)?;
            self.promised.remove(id);
            self.deleted.insert(id.clone());
        }
        self.narrator.done(
            begun,
            format_args!(
                "{CHANGED_WHILE_DOWN} changed and {DELETED_WHILE_DOWN} deleted, each acknowledged by 2 of 3"
            ),
        );
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        self.mesh.start(VICTIM)?;
        self.mesh.ready(VICTIM, READY_WITHIN).await?;
        self.narrator.done(begun, format_args!("{} is back on the same disk", self.name(VICTIM)?));
        Ok(())
    }

    async fn check_promises(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        for index in 0..self.mesh.nodes().len() {
            let url = self.url(index)?;
            for (id, content) in &self.promised {
                let answer = self.client.get(&format!("{url}/api/v1/memories/{id}")).await?;
                self.expect(index, &format!("answers the read of {id}"), &200, &answer.status)?;
                let found = answer.json()?;
                let found = found.get("content").and_then(Value::as_str).unwrap_or("nothing");
                self.expect(index, &format!("has of {id}"), &content.as_str(), &found)?;
            }
            for id in &self.deleted {
                let answer = self.client.get(&format!("{url}/api/v1/memories/{id}")).await?;
                self.expect(
                    index,
                    &format!("answers the read of {id}, which was deleted,"),
                    &410,
                    &answer.status,
                )?;
            }
        }
        let (kept, gone) = (self.promised.len(), self.deleted.len());
        self.narrator.done(
            begun,
            format_args!("every one of the {kept} acknowledged memories is on all three, as last written"),
        );
        detail(format_args!("and every one of the {gone} deleted ones is gone from all three"));
        Ok(())
    }

    async fn stop(mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        for index in 0..self.mesh.nodes().len() {
            let status = self.mesh.terminate(index, STOP_WITHIN).await?;
            self.expect(index, "ends in order on SIGTERM", &true, &status.success())?;
        }
        self.narrator.done(begun, "all three stopped in order");
        Ok(())
    }

    /// State hash and number of visible memories.
    async fn state(&self, index: usize) -> Result<(String, u64), DemoError> {
        let answer = self.client.get(&format!("{}/api/v1/status?hash=true", self.url(index)?)).await?;
        self.expect(index, "answers the status", &200, &answer.status)?;
        let status = answer.json()?;
        let hash = status.pointer("/state_hash/hash").and_then(Value::as_str).unwrap_or("none");
        Ok((hash.to_owned(), int(&status, "/state_hash/records").unwrap_or(0)))
    }

    fn expect_quorum(&self, index: usize, id: &str, answer: &Value) -> Result<(), DemoError> {
        self.expect(
            index,
            &format!("asks for nodes that hold {id}"),
            &Some(2),
            &int(answer, "/quorum/needed"),
        )?;
        let got = int(answer, "/quorum/got").unwrap_or(0);
        self.expect(index, &format!("has {id} on two nodes when it answers"), &true, &(got >= 2))
    }

    fn expect<T: PartialEq + std::fmt::Debug>(
        &self,
        index: usize,
        what: &str,
        expected: &T,
        found: &T,
    ) -> Result<(), DemoError> {
        if expected == found {
            return Ok(());
        }
        Err(not_as_told(&self.name(index)?, what, expected, found))
    }

    fn url(&self, index: usize) -> Result<String, DemoError> {
        Ok(self.mesh.node(index)?.url())
    }

    fn name(&self, index: usize) -> Result<String, DemoError> {
        Ok(self.mesh.node(index)?.id().to_string())
    }
}

fn int(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

fn not_as_told<T: std::fmt::Debug>(node: &str, what: &str, expected: &T, found: &T) -> DemoError {
    DemoError::NotAsTold {
        node: node.to_owned(),
        what: what.to_owned(),
        expected: format!("{expected:?}"),
        found: format!("{found:?}"),
    }
}
