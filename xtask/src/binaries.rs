//! The binaries of a campaign: which profile they are built with, and where cargo puts them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::repository::{Repository, shown};

/// The profile that is built unless `--profile` names another: CI names `dev`, which its tests have built already.
const PROFILE: &str = "release";

/// What a campaign runs.
pub(crate) struct Binaries {
    paths: Vec<(String, PathBuf)>,
}

/// Whether the build has defects that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defects {
    /// It has none, like every release.
    None,
    /// It has those of the feature `planted-bugs`.
    Plantable,
}

impl Binaries {
    /// Builds the binaries of these names.
    ///
    /// # Errors
    /// If one does not build.
    pub(crate) fn build(
        repository: &Repository,
        profile: &str,
        defects: Defects,
        names: &[&str],
    ) -> Result<Self> {
        let mut build = repository.cargo();
        // The whole workspace is selected, so that features, and with them what is built, are those of the tests.
        build.args(["build", "--quiet", "--workspace", "--profile", profile]);
        for name in names {
            build.args(["--bin", name]);
        }
        if defects == Defects::Plantable {
            build.args(["--features", "federation-tests/planted-bugs"]);
        }
        build.arg("--message-format=json-render-diagnostics");
        Ok(Self { paths: executables(&mut build)? })
    }

    /// The command that runs one of them in the project's root.
    ///
    /// # Errors
    /// If it is not one that was built.
    pub(crate) fn command(&self, repository: &Repository, name: &str) -> Result<Command> {
        let mut command = Command::new(self.path(name)?);
        command.current_dir(repository.root());
        Ok(command)
    }

    /// Where one of them is.
    ///
    /// # Errors
    /// If it is not one that was built.
    pub(crate) fn path(&self, name: &str) -> Result<&PathBuf> {
        let path = self.paths.iter().find(|(binary, _)| binary == name).map(|(_, path)| path);
        path.with_context(|| format!("cargo did not say where it put {name}"))
    }
}

/// The profile, and the arguments without it.
///
/// # Errors
/// If `--profile` has no name.
pub(crate) fn split_profile(args: &[String]) -> Result<(String, Vec<String>)> {
    let mut profile = PROFILE.to_owned();
    let mut rest = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--profile" {
            profile.clone_from(args.next().context("--profile needs a name: release or dev")?);
        } else if let Some(name) = arg.strip_prefix("--profile=") {
            name.clone_into(&mut profile);
        } else {
            rest.push(arg.clone());
        }
    }
    Ok((profile, rest))
}

/// Builds, showing what goes wrong, and returns each binary's name and path.
fn executables(build: &mut Command) -> Result<Vec<(String, PathBuf)>> {
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} cannot be started", shown(build)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(build), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect())
}

/// What a line of cargo's messages says of a binary.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?;
    Some((message.pointer("/target/name")?.as_str()?.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_taken_out_wherever_it_stands() {
        let check = |line: &str, profile: &str, rest: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let (found, left) = split_profile(&args).unwrap();
            assert_eq!((found.as_str(), left.join(" ").as_str()), (profile, rest), "{line}");
        };
        check("--quick", "release", "--quick");
        check("--quick --profile dev --seed 3", "dev", "--quick --seed 3");
        check("--profile=dev", "dev", "");
        assert!(split_profile(&["--profile".to_owned()]).is_err());
    }

    #[test]
    fn binaries_are_found_among_the_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"chaos"},"executable":"a/chaos"}"#;
        assert_eq!(executable(line), Some(("chaos".to_owned(), PathBuf::from("a/chaos"))));
        let library = r#"{"reason":"compiler-artifact","target":{"name":"x"},"executable":null}"#;
        assert_eq!((executable(library), executable("not json")), (None, None));
    }
}
