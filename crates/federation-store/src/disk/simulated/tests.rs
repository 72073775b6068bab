//! What the simulated disk does to those who trust it too far.

use super::content::TEAR_BYTES;
use super::*;

fn content(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut all = vec![0; usize::try_from(file.len_bytes().unwrap()).unwrap()];
    file.read_at(0, &mut all).unwrap();
    all
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_only_that() {
    let disk = SimulatedDisk::new();
    let file = disk.create("a", 200).unwrap();
    disk.sync_directory().unwrap();
    file.write_at(0, &[1; 100]).unwrap();
    file.sync_data().unwrap();
    file.write_at(100, &[2; 100]).unwrap();
    disk.create("b", 1).unwrap();
    let alive = disk.reopened(Loss::None);
    assert_eq!(content(&alive, "a"), [[1; 100], [2; 100]].concat());
    assert!(file.sync_data().is_err(), "a handle from before the crash");
    let cut = alive.reopened(Loss::All);
    assert_eq!(content(&cut, "a"), [[1; 100], [0; 100]].concat());
    assert_eq!(cut.list().unwrap(), vec!["a"]);
}

#[test]
fn a_power_cut_tears_what_was_not_synced() {
    let (mut torn, mut whole, mut none, mut flipped) = (0, 0, 0, 0);
    for seed in 0..200 {
        let disk = SimulatedDisk::new();
        let file = disk.create("a", 256).unwrap();
        disk.sync_directory().unwrap();
        file.write_at(0, &[1; 256]).unwrap();
        let after = content(&disk.reopened(Loss::Some { seed }), "a");
        match after.iter().map(|b| usize::from(*b == 1)).sum() {
            0 => none += 1,
            256 => whole += 1,
            n if n % TEAR_BYTES != 0 => flipped += 1,
            _ => torn += 1,
        }
    }
    assert!(torn > 0 && whole > 0 && none > 0 && flipped > 0, "{torn} {whole} {none} {flipped}");
}

#[test]
fn a_sync_that_failed_has_lost_its_writes_for_good() {
    let disk = SimulatedDisk::new();
    let file = disk.create("a", 4).unwrap();
    disk.sync_directory().unwrap();
    file.write_at(0, b"lost").unwrap();
    disk.fail_after(0);
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_ok(), "as real kernels do");
    let disk = disk.restarted();
    assert_eq!(content(&disk, "a"), b"lost", "memory has it");
    disk.open("a").unwrap().sync_data().unwrap();
    assert_eq!(content(&disk.fork().reopened(Loss::All), "a"), b"\0\0\0\0");
    let stays =
        (0..50).filter(|seed| content(&disk.fork().reopened(Loss::Some { seed: *seed }), "a") == b"lost");
    assert!((1..50).contains(&stays.count()), "the disk may have it or not");
}

#[test]
fn what_a_failed_sync_has_lost_is_durable_once_it_is_written_again() {
    let disk = SimulatedDisk::new();
    let file = disk.create("a", 300).unwrap();
    disk.sync_directory().unwrap();
    file.write_at(0, &[1; 300]).unwrap();
    disk.fail_after(0);
    assert!(file.sync_data().is_err());
    file.write_at(100, &[2; 100]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(content(&disk.fork().reopened(Loss::All), "a"), [[0; 100], [2; 100], [0; 100]].concat());
    for seed in 0..50 {
        let after = content(&disk.fork().reopened(Loss::Some { seed }), "a");
        assert_eq!(after[100..200], [2; 100], "what was lost before comes over what was synced since");
    }
}

#[test]
fn a_failed_sync_of_the_directory_has_lost_its_names_for_good() {
    let disk = SimulatedDisk::new();
    disk.create("a", 1).unwrap();
    disk.fail_after(0);
    assert!(disk.sync_directory().is_err());
    disk.create("b", 1).unwrap();
    assert!(disk.sync_directory().is_ok());
    let disk = disk.restarted();
    assert_eq!(disk.list().unwrap(), ["a", "b"]);
    assert_eq!(disk.fork().reopened(Loss::All).list().unwrap(), ["b"]);
    disk.rename("a", "c").unwrap();
    disk.rename("c", "a").unwrap();
    disk.sync_directory().unwrap();
    assert_eq!(disk.reopened(Loss::All).list().unwrap(), ["a", "b"]);
}

#[test]
fn a_failed_write_has_written_its_first_half() {
    let disk = SimulatedDisk::new();
    let file = disk.create("a", 4).unwrap();
    disk.sync_directory().unwrap();
    disk.fail_after(0);
    assert!(file.write_at(0, b"half").is_err());
    assert_eq!(content(&disk, "a"), b"ha\0\0");
    file.sync_data().unwrap();
    assert_eq!(content(&disk.reopened(Loss::All), "a"), b"ha\0\0");
}

#[test]
fn it_is_off_after_the_given_operation_and_full_at_its_capacity() {
    let disk = SimulatedDisk::new();
    disk.crash_after(1);
    disk.create("a", 4).unwrap();
    assert!(disk.create("b", 4).is_err());
    let disk = disk.reopened(Loss::None);
    disk.set_capacity_bytes(Some(6));
    assert!(matches!(disk.create("b", 4), Err(DiskError::Full { .. })));
    assert_eq!(disk.list().unwrap(), vec!["a"]);
    assert_eq!(disk.free_bytes().unwrap(), 2);
}
