//! Which crate may depend on which, and what each must never have.
//!
//! [`LAYERS`] is the one table. A package that is not in it fails the check: whoever adds a crate says where it
//! stands.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::repository::{Repository, shown};
use crate::source::SourceFile;
use crate::violation::Violation;

/// Where a package stands.
struct Layer {
    package: &'static str,
    /// Its directory, from the root.
    directory: &'static str,
    /// Packages of this workspace that it may depend on, for its tests too.
    may_use: &'static [&'static str],
    /// Packages from elsewhere that it must never depend on, not for its tests either.
    never_packages: &'static [&'static str],
    /// Effects that its sources must never have outside tests.
    never_effects: &'static [Effect],
}

const CORE: &str = "federation-core";
const WIRE: &str = "federation-wire";
const STORE: &str = "federation-store";
const NET: &str = "federation-net";
const DAEMON: &str = "federation-daemon";

/// Names by which an effect shows in a source.
type Effect = &'static [&'static str];

const FILES: Effect = &["std::fs", "std::env"];
/// Addresses are values, sockets are not.
const SOCKETS: Effect =
    &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener", "ToSocketAddrs"];
const PROCESSES: Effect = &["std::process"];
const THREADS: Effect = &["std::thread"];
const WALL_CLOCK: Effect = &["SystemTime"];
const CLOCKS: Effect = &["SystemTime", "Instant"];
/// Maps whose order differs from run to run.
const ORDER: Effect = &["HashMap", "HashSet"];
const PRINTING: Effect = &["print!", "println!", "eprint!", "eprintln!"];

const LAYERS: [Layer; 8] = [
    Layer {
        package: CORE,
        directory: "crates/federation-core",
        may_use: &[],
        never_packages: &[
            "axum",
            "bincode",
            "bytes",
            "clap",
            "http",
            "hyper",
            "hyper-util",
            "rand",
            "serde",
            "serde_json",
            "sled",
            "tokio",
            "tokio-util",
            "toml",
            "tracing",
        ],
        never_effects: &[FILES, SOCKETS, PROCESSES, THREADS, CLOCKS, ORDER, PRINTING],
    },
    Layer {
        package: WIRE,
        directory: "crates/federation-wire",
        may_use: &[CORE],
        never_packages: &[
            "axum",
            "clap",
            "hyper",
            "hyper-util",
            "sled",
            "tokio",
            "tokio-util",
            "toml",
            "tracing",
        ],
        never_effects: &[FILES, SOCKETS, PROCESSES, THREADS, CLOCKS],
    },
    Layer {
        package: STORE,
        directory: "crates/federation-store",
        may_use: &[CORE, WIRE],
        never_packages: &[
            "axum",
            "bincode",
            "clap",
            "http",
            "hyper",
            "hyper-util",
            "tokio",
            "tokio-util",
            "toml",
        ],
        never_effects: &[SOCKETS, PROCESSES, WALL_CLOCK],
    },
    Layer {
        package: NET,
        directory: "crates/federation-net",
        may_use: &[CORE, WIRE],
        never_packages: &["axum", "bincode", "clap", "sled", "toml"],
        never_effects: &[FILES, PROCESSES],
    },
    Layer {
        package: DAEMON,
        directory: "crates/federation-daemon",
        may_use: &[CORE, WIRE, STORE, NET],
        never_packages: &["bincode", "ed25519-dalek", "sled"],
        never_effects: &[],
    },
    Layer {
        package: "federation-tests",
        directory: "tests",
        may_use: &[CORE, WIRE, STORE, NET, DAEMON],
        never_packages: &["bincode", "sled"],
        never_effects: &[],
    },
    Layer {
        package: "federation-examples",
        directory: "examples",
        may_use: &[CORE, WIRE, STORE, NET, DAEMON],
        never_packages: &["bincode", "sled"],
        never_effects: &[],
    },
    Layer {
        package: "xtask",
        directory: "xtask",
        may_use: &[],
        never_packages: &["hyper", "sled", "tokio"],
        never_effects: &[],
    },
];

/// What `cargo metadata` says, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev` or `build`; none for an ordinary one.
    kind: Option<String>,
}

/// Checks the workspace.
///
/// # Errors
/// If cargo or a manifest cannot be read.
pub(crate) fn check(repository: &Repository) -> Result<Vec<Violation>> {
    let mut cargo = repository.cargo();
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let output = cargo.output().with_context(|| format!("{} cannot be started", shown(&cargo)))?;
    if !output.status.success() {
        bail!("{} failed:\n{}", shown(&cargo), String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo metadata printed something else")?;
    let mut violations = edges(&metadata);
    for package in &metadata.packages {
        let manifest = fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("{} cannot be read", package.manifest_path))?;
        violations.extend(lints(&package.name, &manifest)?);
    }
    violations.extend(sources(&repository.files()?));
    violations.sort();
    Ok(violations)
}

/// Edges between packages: of the workspace by what is allowed, to others by what is not.
fn edges(metadata: &Metadata) -> Vec<Violation> {
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut violations = Vec::new();
    for package in &metadata.packages {
        let Some(layer) = LAYERS.iter().find(|layer| layer.package == package.name) else {
            let message =
                format!("{} stands in no layer: add it to the table in xtask/src/layers.rs", package.name);
            violations.push(Violation::of("Cargo.toml", "layer", message));
            continue;
        };
        let manifest = format!("{}/Cargo.toml", layer.directory);
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            let refused = if members.contains(name) {
                !layer.may_use.contains(&name)
            } else {
                layer.never_packages.contains(&name)
            };
            if refused {
                let message = format!("{} must not depend on {name} ({kind} dependency)", package.name);
                violations.push(Violation::of(&manifest, "edge", message));
            }
        }
    }
    violations
}

/// The workspace's lints hold in every package.
fn lints(package: &str, manifest: &str) -> Result<Option<Violation>> {
    let table: toml::Table = manifest.parse().with_context(|| format!("the manifest of {package}"))?;
    let inherits = table.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    Ok((inherits != Some(true)).then(|| {
        let message = format!("{package} lacks `[lints] workspace = true`");
        Violation::of("Cargo.toml", "lints", message)
    }))
}

/// What the sources of a layer name outside tests.
fn sources(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for layer in &LAYERS {
        let directory = format!("{}/src", layer.directory);
        for file in files.iter().filter(|file| file.is_rust() && file.is_under(&directory)) {
            let tests = file.test_lines();
            for name in layer.never_effects.iter().copied().flatten() {
                for (line, _) in file.code_lines_with(name).filter(|(line, _)| !tests.contains(line)) {
                    let message = format!("{} must never have {name}", layer.package);
                    violations.push(Violation::at(&file.path, line, "effect", message));
                }
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        Package {
            name: name.to_owned(),
            manifest_path: String::new(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) })
                .collect(),
        }
    }

    fn check_edges(packages: Vec<Package>, expected: &[&str]) {
        let found: Vec<String> =
            edges(&Metadata { packages }).into_iter().map(|violation| violation.message).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_edges_of_the_design_pass() {
        check_edges(
            vec![
                package(CORE, &[("thiserror", None), ("proptest", Some("dev"))]),
                package(WIRE, &[(CORE, None), ("serde", None), ("bincode", None)]),
                package(STORE, &[(CORE, None), (WIRE, None), ("sled", None)]),
                package(NET, &[(CORE, None), (WIRE, None), ("tokio", None), ("hyper", None)]),
                package(DAEMON, &[(NET, None), (STORE, None), ("clap", None), ("toml", None)]),
                package("xtask", &[("clap", None)]),
            ],
            &[],
        );
    }

    #[test]
    fn an_edge_upwards_fails() {
        check_edges(
            vec![package(CORE, &[]), package(WIRE, &[(NET, None)]), package(NET, &[])],
            &["federation-wire must not depend on federation-net (normal dependency)"],
        );
    }

    #[test]
    fn an_edge_beside_fails_for_tests_too() {
        check_edges(
            vec![package(NET, &[(STORE, Some("dev"))]), package(STORE, &[(NET, Some("build"))])],
            &[
                "federation-net must not depend on federation-store (dev dependency)",
                "federation-store must not depend on federation-net (build dependency)",
            ],
        );
    }

    #[test]
    fn nothing_depends_on_the_tools_and_they_on_nothing() {
        check_edges(
            vec![
                package(DAEMON, &[("xtask", None), ("federation-tests", Some("dev"))]),
                package("federation-tests", &[(DAEMON, None)]),
                package("xtask", &[(CORE, None)]),
                package(CORE, &[]),
            ],
            &[
                "federation-daemon must not depend on xtask (normal dependency)",
                "federation-daemon must not depend on federation-tests (dev dependency)",
                "xtask must not depend on federation-core (normal dependency)",
            ],
        );
    }

    #[test]
    fn a_package_that_a_layer_must_never_have_fails() {
        let forbidden = [
            (CORE, "serde"),
            (CORE, "tokio"),
            (CORE, "tracing"),
            (CORE, "rand"),
            (WIRE, "tokio"),
            (WIRE, "hyper"),
            (STORE, "tokio"),
            (NET, "sled"),
            (NET, "clap"),
            (NET, "toml"),
        ];
        for (layer, dependency) in forbidden {
            check_edges(
                vec![package(layer, &[(dependency, None)])],
                &[&format!("{layer} must not depend on {dependency} (normal dependency)")],
            );
        }
    }

    #[test]
    fn an_unknown_package_fails() {
        check_edges(
            vec![package("federation-new", &[])],
            &["federation-new stands in no layer: add it to the table in xtask/src/layers.rs"],
        );
    }

    #[test]
    fn lints_are_inherited() {
        assert_eq!(lints("a", "[lints]\nworkspace = true\n").unwrap(), None);
        for manifest in ["", "[lints]\nworkspace = false\n", "[lints.clippy]\nall = \"allow\"\n"] {
            assert!(lints("a", manifest).unwrap().is_some(), "{manifest:?}");
        }
    }

    #[test]
    fn effects_are_seen_in_code_and_not_in_tests_or_comments() {
        let check = |path: &str, text: &str| sources(&[SourceFile::new(path, text)]).len();
        assert_eq!(check("crates/federation-store/src/a.rs", "use std::net::TcpStream;"), 1);
        assert_eq!(check("crates/federation-store/src/a.rs", "use std::net::IpAddr; // no TcpStream\n"), 0);
        assert_eq!(check("crates/federation-core/src/a/b.rs", "fn f() { let _ = Instant::now(); }"), 1);
        assert_eq!(check("crates/federation-core/src/a.rs", "#[cfg(test)]\nmod t { use std::fs; }"), 0);
        assert_eq!(check("crates/federation-daemon/src/a.rs", "use std::net::TcpStream;"), 0);
    }
}
