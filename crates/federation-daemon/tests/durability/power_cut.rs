//! All nodes lose power at once, under load.

use std::path::PathBuf;

use federation_daemon::supervisor::Mesh;

use crate::loop_mount::LoopMount;
use crate::support::{
    WITHIN, alone, drawn, equal_within, kill_all, lost, prepared, program, skipped, stores, urls,
};
use crate::traffic::{History, Traffic};

const CLIENTS: usize = 16;
/// Acknowledged writes after which the power goes.
const ACKS_BEFORE: std::ops::Range<usize> = 200..800;
/// W of three nodes by default.
const NEEDED: usize = 2;

/// Nodes that had a power cut, with their disks. The mesh stands first: it ends before they go.
struct Cut {
    mesh: Mesh,
    history: History,
    _mounts: Vec<LoopMount>,
    _dir: tempfile::TempDir,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_of_all_nodes_loses_nothing_acknowledged() {
    let _alone = alone().await;
    let Some(mut cut) = power_cut("a_power_cut_of_all_nodes_loses_nothing_acknowledged", program()).await
    else {
        return;
    };
    let found = lost(&stores(&cut.mesh), &cut.history.acked, NEEDED);
    assert!(found.is_empty(), "in too few stores: {found:?}");

    cut.mesh.start_all(WITHIN).await.unwrap();
    let (client, urls) = (cut.mesh.client().clone(), urls(&cut.mesh));
    equal_within(&client, &urls, WITHIN).await;
    for url in &urls {
        assert_eq!(cut.history.broken(&client, url).await, Vec::<String>::new());
    }
    println!("{} acknowledged, none lost", cut.history.acked.len());
}

#[cfg(feature = "planted-bugs")]
#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_goes_red_without_the_sync() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let lazy = crate::support::program_behind(dir.path(), "FEDERATION_PLANTED_BUG=lazy-fsync exec");
    let Some(cut) = power_cut("a_power_cut_goes_red_without_the_sync", lazy).await else { return };
    let left = crate::support::whatever_is_left(&cut.mesh);
    let found = lost(&left, &cut.history.acked, NEEDED);
    let (acked, stores) = (cut.history.acked.len(), left.len());
    println!("{acked} acknowledged, {} of them lost; {stores} of 3 stores can be read", found.len());
    assert!(!found.is_empty(), "nothing was synced, and nothing was lost: the cut drops no bytes");
}

/// Runs three nodes under load, each on a file system of its own, and cuts the power of all three.
async fn power_cut(test: &str, under_test: PathBuf) -> Option<Cut> {
    let dir = tempfile::tempdir().unwrap();
    let mesh_dir = dir.path().join("mesh");
    let mut mounts = Vec::new();
    for node in ["node-1", "node-2", "node-3"] {
        match LoopMount::new(dir.path().join(format!("{node}.img")), mesh_dir.join(node)) {
            Ok(mount) => mounts.push(mount),
            Err(why) => {
                skipped(test, &why);
                return None;
            }
        }
    }
    // What the bug of a first start leaves of a store cannot even be opened: the cut is to be of stores that were sound.
    let mut first = prepared(&mesh_dir, program(), &[]);
    first.start_all(WITHIN).await.unwrap();
    first.stop_all(WITHIN).await.unwrap();
    let mut mesh = prepared(&mesh_dir, under_test, &[]);
    mesh.start_all(WITHIN).await.unwrap();
    let traffic = Traffic::start(mesh.client(), &urls(&mesh), CLIENTS, "cut");
    traffic.acked(drawn(ACKS_BEFORE)).await;
    for mount in &mounts {
        mount.cut().unwrap();
    }
    kill_all(&mut mesh).await;
    let history = traffic.finish().await;
    assert_eq!(history.ended.len(), CLIENTS, "every client was cut off: {:?}", history.ended);
    for mount in &mounts {
        mount.again().await;
    }
    Some(Cut { mesh, history, _mounts: mounts, _dir: dir })
}
