//! What an eavesdropper has of mutual TLS: ciphertext, which is good for nothing.

use federation_daemon::supervisor::MeshLinks;
use tokio::io::AsyncWriteExt as _;

use crate::bench::{Bench, CONTENT, HONEST, VICTIM, WITHIN};
use crate::line::{ATTACKER, connect};
use crate::poll::until;

/// Where in a record something is changed.
const FLIPS: [usize; 4] = [0, 5, 60, 400];

#[tokio::test(flavor = "multi_thread")]
async fn recorded_ciphertext_opens_no_connection_whole_cut_or_flipped() {
    let bench = Bench::start(MeshLinks::Tls, 2).await;
    for number in 0..20 {
        bench.write(HONEST, &format!("m-{number}")).await;
    }
    bench.settled().await;
    let connections = bench.recorder.connections();
    let marker = CONTENT.as_bytes();
    for side in connections.iter().flat_map(|one| [&one.asked, &one.answered]) {
        assert!(!side.windows(marker.len()).any(|part| part == marker), "content in the clear");
    }
    let asked: Vec<&Vec<u8>> =
        connections.iter().map(|one| &one.asked).filter(|side| side.len() > 1_000).collect();
    assert!(!asked.is_empty());

    let before = bench.state(VICTIM).await;
    let failed = bench.counted(VICTIM, "refused_connections", "handshake").await;
    let address = bench.mesh.node(VICTIM).unwrap().peer_address();
    let mut sent = 0;
    for side in asked {
        let flipped = FLIPS.map(|at| {
            let mut bytes = side.clone();
            bytes[at] ^= 1;
            bytes
        });
        let replays = [side.clone(), side[..side.len() / 2].to_vec()];
        for bytes in replays.into_iter().chain(flipped) {
            let mut stream = connect(ATTACKER, address).await.unwrap();
            // The node may have hung up before all of it is sent.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            sent += 1;
        }
    }
    until(WITHIN, &format!("all of {sent} handshakes fail"), async || {
        (bench.counted(VICTIM, "refused_connections", "handshake").await >= failed + sent).then_some(())
    })
    .await;
    assert_eq!(bench.state(VICTIM).await, before);
    bench.write(HONEST, "afterwards").await;
    bench.settled().await;
    bench.stop().await;
}
