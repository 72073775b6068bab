//! Callers that take their time: each is ended by the listener, and others are served meanwhile.

use std::time::Instant;

use federation_net::http::FRAME_MEDIA_TYPE;
use federation_wire::frame::Route;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::bench::{Bench, HONEST, VICTIM, WITHIN};
use crate::line::{ATTACKER, connect};
use crate::loot::Loot;

/// A caller that says this and then a byte now and then.
struct Slow {
    name: &'static str,
    /// What the caller says at once.
    says: fn(&Loot) -> Vec<u8>,
    /// What the listener answers before it ends the connection, if anything.
    hears: &'static str,
}

const SLOW: &[Slow] = &[
    Slow { name: "silence", says: |_| Vec::new(), hears: "" },
    Slow { name: "half of HTTP/2's preface", says: |_| b"PRI * HTTP/2.0\r\n".to_vec(), hears: "" },
    Slow { name: "half of a head", says: |_| b"POST /api/v1/sync/push HTTP/1.1\r\n".to_vec(), hears: "" },
    Slow {
        name: "half of a recorded frame",
        says: |loot| {
            let frame = &loot.undelivered[0];
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: n\r\nconnection: close\r\ncontent-type: {FRAME_MEDIA_TYPE}\r\ncontent-length: {}\r\n\r\n",
                Route::Push.path(),
                frame.len()
            );
            [head.as_bytes(), &frame[..frame.len() / 2]].concat()
        },
        hears: "slow_body",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_slow_is_ended_and_others_are_served_meanwhile() {
    let (bench, loot) = Bench::recorded().await;
    let mut callers = JoinSet::new();
    for slow in SLOW {
        let (address, says) = (loot.victim.address, (slow.says)(&loot));
        callers.spawn(async move {
            let begun = Instant::now();
            let mut stream = connect(ATTACKER, address).await.unwrap();
            stream.write_all(&says).await.unwrap();
            let mut heard = Vec::new();
            // An end and a reset are alike here.
            let end = tokio::time::timeout(WITHIN, stream.read_to_end(&mut heard)).await;
            assert!(end.is_ok(), "{}: still open after {WITHIN:?}", slow.name);
            let heard = String::from_utf8_lossy(&heard).into_owned();
            assert!(heard.contains(slow.hears), "{}: {heard}", slow.name);
            println!("{}: ended after {:?}", slow.name, begun.elapsed());
        });
    }
    let mut writes = 0;
    while !callers.is_empty() {
        bench.write(HONEST, &format!("meanwhile-{writes}")).await;
        writes += 1;
        while let Some(ended) = callers.try_join_next() {
            ended.unwrap();
        }
    }
    assert!(writes > 1);
    assert_eq!(bench.refused(VICTIM, "slow_body").await, 1);
    assert_eq!(
        bench.counted(VICTIM, "refused_connections", "silent").await,
        3,
        "half of a head is no request"
    );
    bench.settled().await;
    bench.stop().await;
}
