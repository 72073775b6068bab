//! Ops of an enrolled origin, well sealed, that leave its scope: `accept = ["team/*"]`, one author, one kind.

use federation_wire::v1::ack::OpRefusal;
use federation_wire::v1::op::encode_op;

use super::{Attack, Gets, Shot, push};
use crate::bench::NAMESPACE;
use crate::loot::Loot;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "namespaces that are none: `..`, `//`, `.`, `*`, backslash, control characters, not in NFC",
        gets: Gets::OpRefused(OpRefusal::Malformed),
        shots: |loot| INVALID.iter().map(|namespace| spelled(loot, namespace)).collect(),
    },
    Attack {
        name: "namespaces that look like the one that is accepted, or lie above or below it",
        gets: Gets::OpRefused(OpRefusal::NamespaceOutOfScope),
        shots: |loot| {
            let mut shots = Vec::new();
            for (seq, namespace) in (1..).zip(OUTSIDE) {
                let mut op = loot.op_of_mallory(seq);
                op.key.namespace = namespace.parse().unwrap();
                shots.push(push(loot.sealed_by_mallory(&encode_op(&op).bytes)));
            }
            shots
        },
    },
    Attack {
        name: "authors that the origin may not speak for",
        gets: Gets::OpRefused(OpRefusal::AuthorNotAllowed),
        shots: |loot| {
            let by = |author: &str| {
                let mut op = loot.op_of_mallory(1);
                op.author = author.parse().unwrap();
                push(loot.sealed_by_mallory(&encode_op(&op).bytes))
            };
            ["ai:alice", "ai:mallory2", "ai:mallor", "AI:mallory"].map(by).into()
        },
    },
    Attack {
        name: "kinds that are not taken from the origin",
        gets: Gets::OpRefused(OpRefusal::KindNotAllowed),
        shots: |loot| {
            let of = |kind: &str| {
                let mut op = loot.op_of_mallory(1);
                op.key.kind = kind.parse().unwrap();
                push(loot.sealed_by_mallory(&encode_op(&op).bytes))
            };
            ["note", "memory2", "link"].map(of).into()
        },
    },
    Attack {
        name: "content that breaks the rules of its kind",
        gets: Gets::OpRefused(OpRefusal::RuleViolation),
        shots: |loot| {
            let mut op = loot.op_of_mallory(1);
            op.body = federation_core::op::Body::Put {
                payload: std::sync::Arc::from(*b"no json"),
                embedding: None,
                archived: false,
            };
            vec![push(loot.sealed_by_mallory(&encode_op(&op).bytes))]
        },
    },
];

/// As long as [`NAMESPACE`], each no namespace.
const INVALID: &[&str] = &[
    "team/../no",
    "../team/no",
    "team/no/..",
    "team//note",
    "/team/note",
    "team/note/",
    "team/./not",
    "team/*note",
    "team/**/no",
    "team\\notes",
    "team/\u{0}note",
    "team/\nnote",
    "team/\u{7f}note",
    "team/cae\u{301}",
];

/// Each a namespace, and not one segment below `team`.
const OUTSIDE: &[&str] = &[
    "team",
    "team/a/b",
    "Team/notes",
    "TEAM/notes",
    "teams/notes",
    "tea/notes",
    "t\u{435}am/notes",
    "\u{ff54}eam/notes",
    "team\u{200b}/notes",
    "team\u{2215}notes",
    "team%2fnotes",
    "x/team/notes",
    "other",
];

/// An op of mallory's with a namespace that no encoder would write.
fn spelled(loot: &Loot, namespace: &str) -> Shot {
    assert_eq!(namespace.len(), NAMESPACE.len(), "{namespace}");
    let mut bytes = encode_op(&loot.op_of_mallory(1)).bytes.to_vec();
    let at = bytes.windows(NAMESPACE.len()).position(|part| part == NAMESPACE.as_bytes()).unwrap();
    bytes[at..at + NAMESPACE.len()].copy_from_slice(namespace.as_bytes());
    push(loot.sealed_by_mallory(&bytes))
}
