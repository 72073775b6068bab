//! A file system of its own in a file, whose power can be cut.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::poll::until;
use crate::power::cut_power;
use crate::support::WITHIN;

/// An ext4 in a file, mounted; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct LoopMount {
    image: PathBuf,
    mount_point: PathBuf,
}

/// Room for the first segments of a log, the reserve that a node keeps free, and the journal.
const IMAGE_BYTES: u64 = 256 * 1024 * 1024;

impl LoopMount {
    /// Makes the file system and mounts it.
    ///
    /// # Errors
    /// What cannot be done here, in words.
    pub(crate) fn new(image: PathBuf, mount_point: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&mount_point).unwrap();
        File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &image])?;
        let mount = Self { image, mount_point };
        mount.mount()?;
        Ok(mount)
    }

    /// Cuts its power: what is not synced is gone, and every call fails from here on.
    pub(crate) fn cut(&self) -> io::Result<()> {
        cut_power(&self.mount_point)
    }

    /// Mounts it again after a cut. Nobody may use it any more, but may still be about to close it.
    pub(crate) async fn again(&self) {
        until(WITHIN, "the file system is not in use", async || run("umount", &[&self.mount_point]).ok())
            .await;
        self.mount().unwrap();
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o".as_ref(), "loop".as_ref(), &self.image, &self.mount_point])
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        // Lazily: a test that fails may leave a process behind that is about to end.
        let _ = run("umount", &["-l".as_ref(), &self.mount_point]);
    }
}

fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}
