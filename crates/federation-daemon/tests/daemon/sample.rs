//! `examples/memories.ndjson`: each line is a create that every node takes, with the vector of the toy model.

use std::collections::BTreeSet;

use federation_core::id::RecordId;
use federation_core::time::WallMs;
use federation_daemon::sample::{DIM, MEMORIES, MODEL, embed};
use federation_wire::api::error::from_json;
use federation_wire::api::memory::CreateMemory;

#[test]
fn each_line_is_valid_and_its_vector_is_the_models() {
    let mut ids = BTreeSet::new();
    let mut titles = BTreeSet::new();
    let mut namespaces = BTreeSet::new();
    for (at, line) in MEMORIES.lines().enumerate() {
        let create: CreateMemory =
            from_json(line.as_bytes()).unwrap_or_else(|e| panic!("line {}: {e:?}", at + 1));
        assert_eq!(create.model.as_deref(), Some(MODEL));
        let expected = embed(&format!("{} {}", create.title, create.content));
        titles.insert(create.title.clone());
        let write = create
            .into_write(RecordId::new("unused").unwrap(), WallMs(1))
            .unwrap_or_else(|faults| panic!("line {}: {faults:?}", at + 1));
        let vector = write.embedding.expect("a vector").vector;
        assert_eq!(vector.len(), DIM);
        assert_eq!(vector, expected, "line {}: the bits of the model", at + 1);
        namespaces.insert(write.key.namespace);
        assert!(ids.insert(write.key.id), "line {}: an id of its own", at + 1);
    }
    assert_eq!(ids.len(), 300);
    assert_eq!(titles.len(), 300);
    assert!(namespaces.len() >= 10);
}

#[test]
fn texts_that_share_words_get_vectors_that_are_near() {
    let near = |a: &str, b: &str| embed(a).iter().zip(embed(b).iter()).map(|(x, y)| x * y).sum::<f32>();
    assert!(
        near("restore the backup", "the backup was restored") > near("restore the backup", "night trains")
    );
    assert!(embed("...").iter().all(|component| *component == 0.0));
}
