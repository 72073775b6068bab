//! The working tree: where it is, what is in it, whether a command changed it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::source::SourceFile;

/// The root of the working tree.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    root: PathBuf,
}

impl Repository {
    /// The tree that this package was started from.
    ///
    /// # Errors
    /// If not started by cargo and not inside the tree.
    pub(crate) fn find() -> Result<Self> {
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => env::current_dir().context("the current directory is gone")?,
        };
        let root =
            start.ancestors().find(|dir| dir.join("Cargo.lock").is_file() && dir.join("xtask").is_dir());
        match root {
            Some(root) => Ok(Self { root: root.to_path_buf() }),
            None => bail!("{} is not inside the repository", start.display()),
        }
    }

    /// Its directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The cargo that started this process, to be run at the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// Paths of all files that are in git or would be added, from the root, sorted.
    ///
    /// # Errors
    /// If git is not there or this is no clone.
    pub(crate) fn paths(&self) -> Result<Vec<String>> {
        let listed =
            self.git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])?;
        let mut paths: Vec<String> = listed
            .split('\0')
            .filter(|path| !path.is_empty() && self.root.join(path).is_file())
            .map(str::to_owned)
            .collect();
        paths.sort();
        Ok(paths)
    }

    /// All files. Those that are not UTF-8 text (golden bytes, corpora) come without their content: no rule reads it.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn files(&self) -> Result<Vec<SourceFile>> {
        let mut files = Vec::new();
        for path in self.paths()? {
            let bytes =
                std::fs::read(self.root.join(&path)).with_context(|| format!("{path} cannot be read"))?;
            files.push(SourceFile::new(&path, &String::from_utf8(bytes).unwrap_or_default()));
        }
        Ok(files)
    }

    /// What git says is changed: compared before and after a command that must not write.
    ///
    /// # Errors
    /// If git is not there or this is no clone.
    pub(crate) fn status(&self) -> Result<String> {
        self.git(&["status", "--porcelain"])
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        // The lock is optional: reading the state must not disturb another git at work.
        let output = Command::new("git")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .current_dir(&self.root)
            .args(args)
            .stderr(Stdio::inherit())
            .output()
            .context("git cannot be started")?;
        if !output.status.success() {
            bail!("git {} failed: {}", args.join(" "), output.status);
        }
        String::from_utf8(output.stdout).context("git printed something that is not UTF-8")
    }
}

/// Runs a command with this process's own input and output.
///
/// # Errors
/// If it cannot be started or ends with another code than zero.
pub(crate) fn run_inherited(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} cannot be started", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_else(|| command.get_program());
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}
