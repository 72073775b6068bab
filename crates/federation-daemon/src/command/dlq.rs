//! `federationd dlq list|show|retry|discard`: the ops that peers of a running node refused for good.

use clap::Subcommand;
use federation_core::id::NodeId;
use federation_wire::api::DotText;
use federation_wire::api::dlq::{DeadLetterDetail, DeadLetterList, DeadLetterView, DeadLettersRetried};

use crate::command::node_client::{AskError, NodeArgs, NodeClient};

/// Options of `dlq`.
#[derive(Clone, Debug, clap::Args)]
pub struct DlqArgs {
    /// Which node is asked.
    #[command(flatten)]
    pub node: NodeArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: DlqAction,
}

/// What to do with dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum DlqAction {
    /// List them, a line each: peer, dot, reason, state, record.
    List {
        /// Of this peer alone.
        #[arg(long)]
        peer: Option<NodeId>,
    },
    /// Show one: who wrote it, when, how large it is.
    Show(LetterArgs),
    /// Send one once more, also if it was discarded; or all that the peer refused and nobody discarded.
    Retry {
        /// The peer.
        peer: NodeId,
        /// The op, as `list` prints it.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        dot: Option<DotText>,
        /// All of the peer.
        #[arg(long)]
        all: bool,
    },
    /// Give one up: it goes to that peer only if it is retried by name.
    Discard(LetterArgs),
}

/// Names a dead letter.
#[derive(Clone, Debug, clap::Args)]
pub struct LetterArgs {
    /// The peer.
    pub peer: NodeId,
    /// The op, as `list` prints it.
    pub dot: DotText,
}

/// Runs the command.
///
/// # Errors
/// [`AskError`].
pub async fn run(args: &DlqArgs) -> Result<(), AskError> {
    let client = NodeClient::new(&args.node)?;
    match &args.action {
        DlqAction::List { peer } => list(&client, peer.as_ref()).await,
        DlqAction::Show(letter) => {
            let found: DeadLetterDetail = client.get(&letter.path("")).await?;
            print!("{}", shown(&found));
            Ok(())
        }
        DlqAction::Retry { peer, dot, .. } => {
            let path = match dot {
                Some(dot) => LetterArgs { peer: peer.clone(), dot: dot.clone() }.path("/retry"),
                None => format!("{ROUTE}/{peer}/retry"),
            };
            let DeadLettersRetried { retried } = client.post(&path).await?;
            println!("{retried} sent to {peer} once more: what it refuses again is listed again");
            Ok(())
        }
        DlqAction::Discard(letter) => {
            let found: DeadLetterDetail = client.post(&letter.path("/discard")).await?;
            println!("{}", line(&found.letter));
            Ok(())
        }
    }
}

const ROUTE: &str = "/api/v1/dlq";
/// Letters asked for at once.
const PAGE: usize = 1_000;

impl LetterArgs {
    fn path(&self, action: &str) -> String {
        format!("{ROUTE}/{}/{}{action}", self.peer, self.dot)
    }
}

async fn list(client: &NodeClient, peer: Option<&NodeId>) -> Result<(), AskError> {
    let of_peer = peer.map_or_else(String::new, |peer| format!("&peer={peer}"));
    let mut behind = String::new();
    loop {
        let page: DeadLetterList = client.get(&format!("{ROUTE}?limit={PAGE}{of_peer}{behind}")).await?;
        if page.letters.is_empty() && behind.is_empty() {
            println!("there are no dead letters");
        }
        for letter in &page.letters {
            println!("{}", line(letter));
        }
        match page.next_cursor {
            Some(next) => behind = format!("&cursor={next}"),
            None => return Ok(()),
        }
    }
}

fn line(letter: &DeadLetterView) -> String {
    let DeadLetterView { peer, dot, reason, state, record } = letter;
    let record = record.as_ref().map_or_else(
        || "(replaced since)".to_owned(),
        |record| format!("{} {} {}", record.kind, record.namespace, record.id),
    );
    format!("{peer}  {dot}  {reason}  {state}  {record}")
}

fn shown(found: &DeadLetterDetail) -> String {
    let DeadLetterDetail { letter, author, written_at, deletes, bytes, hash } = found;
    let what = if *deletes { "a delete" } else { "a version" };
    format!(
        "{}\n    {what} by {author}, written {written_at}\n    {bytes} bytes, hash {hash}\n",
        line(letter)
    )
}
