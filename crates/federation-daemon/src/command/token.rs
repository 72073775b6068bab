//! `federationd token create|list|revoke`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use federation_core::id::AgentId;
use federation_core::port::clock::WallClock as _;
use federation_core::time::{DurationMs, WallMs};
use federation_wire::api::memory::rfc3339;
use federation_wire::api::token::{Agents, ClientSecret, Right, Token, TokenEntry};
use rand::Rng as _;

use crate::clock::SystemClock;
use crate::config::raw::default_of;
use crate::random::system_rng;
use crate::tokens_file::{self, TokensError};

/// Where the commands keep tokens unless told otherwise. A node takes no tokens file that it is not given.
const TOKENS_FILE: &str = "tokens.toml";

/// Options of `token`.
#[derive(Clone, Debug, clap::Args)]
pub struct TokenArgs {
    /// The tokens, mode 0600; give the same file to `serve`.
    #[arg(long, global = true, default_value = TOKENS_FILE)]
    pub tokens_file: PathBuf,
    /// The data directory, which the file must not lie in.
    #[arg(long, global = true, default_value = default_of("data_dir"))]
    pub data_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What to do with the tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenAction {
    /// Make a token and print its secret, once, on standard output.
    Create(CreateArgs),
    /// Show the tokens, without their secrets, which are kept nowhere.
    List,
    /// Take a token away.
    Revoke {
        /// Its id.
        id: String,
    },
}

/// Options of `token create`.
#[derive(Clone, Debug, clap::Args)]
pub struct CreateArgs {
    /// The agent it writes as; several times for a choice, "*" for any.
    #[arg(long = "agent", required = true)]
    pub agents: Vec<String>,
    /// Namespaces that it reaches, as a glob like "team/**"; several times for more.
    #[arg(long = "namespace")]
    pub namespaces: Vec<String>,
    /// What it may do there, comma-separated.
    #[arg(long = "right", required = true, value_enum, value_delimiter = ',')]
    pub rights: Vec<RightArg>,
    /// When it ends: a number and s, m, h or d, as in 30d; or never.
    #[arg(long)]
    pub expires: Lifetime,
    /// Its public name, as it stands in logs [default: drawn].
    #[arg(long)]
    pub id: Option<String>,
}

/// A right, as an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RightArg {
    /// See memories.
    Read,
    /// Create, change and delete memories; with read, for a change.
    Write,
    /// See the node's metrics.
    Metrics,
    /// See and steer the node itself.
    Admin,
}

/// How long a token lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// For so long.
    For(DurationMs),
    /// Until it is revoked.
    Endless,
}

/// The text is not a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lifetime is a number from 1 and s, m, h or d, as in 30d, up to {DAYS_MAX}d; or never")]
pub struct LifetimeError;

/// Days of the longest lifetime that ends: a hundred years.
const DAYS_MAX: u64 = 36_500;

/// Why a command about tokens failed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The tokens file.
    #[error(transparent)]
    File(#[from] TokensError),
    /// There is no token of that id.
    #[error("{}: there is no token {id:?}; `federationd token list` shows all", path.display())]
    NoSuchToken {
        /// The file.
        path: PathBuf,
        /// The id.
        id: String,
    },
}

/// Runs the command.
pub fn run(args: &TokenArgs) -> Result<(), TokenError> {
    match &args.action {
        TokenAction::Create(create) => make(args, create),
        TokenAction::List => list(args),
        TokenAction::Revoke { id } => revoke(args, id),
    }
}

fn make(args: &TokenArgs, create: &CreateArgs) -> Result<(), TokenError> {
    let path = &args.tokens_file;
    let mut file = tokens_file::load_or_new(path, &args.data_dir)?;
    let secret = ClientSecret::generate(&mut system_rng());
    let now = SystemClock.now();
    let expires = match create.expires {
        Lifetime::For(span) => Some(rfc3339(now.saturating_add(span))),
        Lifetime::Endless => None,
    };
    let id = create.id.clone().unwrap_or_else(|| format!("t-{:016x}", system_rng().next_u64()));
    file.tokens.push(TokenEntry {
        id: id.clone(),
        hash: secret.hash().to_string(),
        agents: create.agents.clone(),
        namespaces: create.namespaces.clone(),
        rights: create.rights.iter().map(|right| Right::from(*right)).collect(),
        created: rfc3339(now),
        expires: expires.clone(),
    });
    tokens_file::save(path, &file)?;
    let end = expires.map_or_else(|| "never expires".to_owned(), |end| format!("expires {end}"));
    eprintln!("token {id} in {}, {end}", path.display());
    eprintln!("its secret, which is shown this once and kept nowhere:");
    println!("{}", *secret.to_text());
    Ok(())
}

fn list(args: &TokenArgs) -> Result<(), TokenError> {
    let path = &args.tokens_file;
    let tokens = tokens_file::tokens(path, &tokens_file::load(path, &args.data_dir)?)?;
    if tokens.is_empty() {
        println!("there are no tokens: no client is let in");
    }
    let now = SystemClock.now();
    for token in tokens.iter() {
        println!("{}", shown(token, now));
    }
    Ok(())
}

fn revoke(args: &TokenArgs, id: &str) -> Result<(), TokenError> {
    let path = &args.tokens_file;
    let mut file = tokens_file::load(path, &args.data_dir)?;
    let before = file.tokens.len();
    file.tokens.retain(|token| token.id != id);
    if file.tokens.len() == before {
        return Err(TokenError::NoSuchToken { path: path.clone(), id: id.to_owned() });
    }
    tokens_file::save(path, &file)?;
    println!("revoked {id} in {}", path.display());
    Ok(())
}

/// What is shown of a token: neither its secret, which nobody has, nor the hash of it.
fn shown(token: &Token, now: WallMs) -> String {
    let state = match token.expires {
        None => "never expires".to_owned(),
        Some(end) if token.is_expired(now) => format!("expired {}", rfc3339(end)),
        Some(end) => format!("expires {}", rfc3339(end)),
    };
    let agents = match &token.agents {
        Agents::Any => "*".to_owned(),
        Agents::Only(agents) => joined(agents.iter().map(AgentId::as_str)),
    };
    let namespaces = joined(token.namespaces.globs());
    let rights = joined(token.rights.iter().map(|right| right.as_str()));
    format!(
        "{}  {state}\n    agents     {agents}\n    namespaces {}\n    rights     {rights}\n    created    {}",
        token.id,
        if namespaces.is_empty() { "nothing" } else { &namespaces },
        rfc3339(token.created)
    )
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

impl From<RightArg> for Right {
    fn from(right: RightArg) -> Self {
        match right {
            RightArg::Read => Self::Read,
            RightArg::Write => Self::Write,
            RightArg::Metrics => Self::Metrics,
            RightArg::Admin => Self::Admin,
        }
    }
}

impl FromStr for Lifetime {
    type Err = LifetimeError;
    fn from_str(text: &str) -> Result<Self, LifetimeError> {
        if text == "never" {
            return Ok(Self::Endless);
        }
        let unit = text.chars().next_back().ok_or(LifetimeError)?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(LifetimeError),
        };
        let digits = text.strip_suffix(unit).unwrap_or_default();
        // `parse` would also take a sign.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(LifetimeError);
        }
        let number: u64 = digits.parse().map_err(|_| LifetimeError)?;
        let span = number.checked_mul(seconds).ok_or(LifetimeError)?;
        if span == 0 || span > DAYS_MAX * 86_400 {
            Err(LifetimeError)
        } else {
            Ok(Self::For(DurationMs(span * 1_000)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_a_unit_and_an_end_that_can_be_written() {
        let check = |text: &str, expect: Option<Lifetime>| assert_eq!(text.parse().ok(), expect, "{text}");
        let seconds = |seconds: u64| Some(Lifetime::For(DurationMs(seconds * 1_000)));
        check("never", Some(Lifetime::Endless));
        check("45s", seconds(45));
        check("2m", seconds(120));
        check("1h", seconds(3_600));
        check("30d", seconds(30 * 86_400));
        check("36500d", seconds(36_500 * 86_400));
        for bad in ["", "d", "0d", "30", "-1d", "+1d", "1.5d", "36501d", "99999999999999999999d", "1ü", "1 d"]
        {
            check(bad, None);
        }
    }
}
