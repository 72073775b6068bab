//! `federationd config`: the settings with their defaults, as a config file to begin with. `config check`: whether a node
//! would start or reload with the settings as they are.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;

use crate::command::serve::{hostname, node_id_env};
use crate::config::{Config, Faults, Given, RawConfig, SETTINGS};

/// Options of `config`.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    /// What to do, if not to print.
    #[command(subcommand)]
    pub action: Option<ConfigAction>,
}

/// What to do with settings.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigAction {
    /// Read all that `serve` would read, with the same options, and tell what is wrong. Nothing is changed, nothing
    /// listens, and a node that runs is not disturbed.
    Check(Box<CheckArgs>),
}

/// Options of `config check`: those of `serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The settings.
    #[command(flatten)]
    pub settings: RawConfig,
    /// Config file (TOML), with the same settings; must exist when named.
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Every fault of the settings.
pub fn run(args: ConfigArgs) -> Result<(), Faults> {
    match args.action {
        None => print!("{}", template()),
        Some(ConfigAction::Check(check)) => {
            let CheckArgs { settings, config } = *check;
            let given = Given {
                flags: settings,
                config_file: config,
                new_mesh: false,
                node_id_env: node_id_env(),
                hostname: hostname(),
            };
            let found = Config::read(&given)?;
            let n = found.peers.len() + 1;
            let peers: Vec<_> =
                found.peers.iter().map(|peer| format!("{} at {}", peer.id, peer.url)).collect();
            println!("node {}, key {}", found.node, found.keys.active().id());
            let levels = &found.write_levels;
            println!("a write is on {} of {n} nodes before it is answered", levels.default.needed(n));
            for (scope, level) in &levels.by_namespace {
                println!("in {scope}: on {}", level.needed(n));
            }
            println!("peers: {}", if peers.is_empty() { "none".to_owned() } else { peers.join(", ") });
            match found.clients.tokens {
                None => println!("tokens: none configured, the client address is open to this machine"),
                Some(tokens) => println!("tokens: {}", tokens.iter().len()),
            }
            println!("no fault found");
        }
    }
    Ok(())
}

/// A config file that sets nothing: every setting with its default, commented out.
pub fn template() -> String {
    let mut text = String::from(
        "# Settings of `federationd serve`. Flags go before this file, FEDERATION_NODE_ID too.\n",
    );
    for setting in SETTINGS {
        let is_number = setting.default.parse::<u64>().is_ok();
        let quote = if is_number { "" } else { "\"" };
        let _ =
            write!(text, "\n# {}.\n# {} = {quote}{}{quote}\n", setting.about, setting.key, setting.default);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_config_file_also_without_its_comment_signs() {
        assert!(toml::from_str::<RawConfig>(&template()).is_ok());
        let settings: String = template()
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.contains(" = ") && !line.contains('<'))
            .flat_map(|line| [line, "\n"])
            .collect();
        let raw = toml::from_str::<RawConfig>(&settings).unwrap();
        assert_eq!(raw.quorum_timeout_ms, Some(2_000));
        let without_default = SETTINGS.iter().filter(|setting| setting.default.contains('<')).count();
        assert_eq!(settings.lines().count() + without_default, SETTINGS.len());
    }

    #[test]
    fn the_documentation_names_every_setting_with_its_default() {
        let docs = include_str!("../../../../docs/CONFIG.md");
        for setting in SETTINGS {
            let flag = format!("`--{}`", setting.key.replace('_', "-"));
            let row = docs.lines().find(|line| line.contains(&flag));
            assert!(row.is_some_and(|row| row.contains(setting.default)), "{flag} with {}", setting.default);
        }
    }
}
