//! Every bound of the protocol, each with its reason. Relations between them are asserted at compile time.

use crate::time::DurationMs;

/// Bytes of a node id. Ids stand in every dot of every context, so they stay short.
pub const NODE_ID_BYTES_MAX: usize = 64;
/// Characters of a namespace, as in the shared JSON contract.
pub const NAMESPACE_CHARS_MAX: usize = 512;
/// Segments of a namespace, as in the shared JSON contract.
pub const NAMESPACE_DEPTH_MAX: usize = 8;
/// Bytes of a record id, as in the shared JSON contract.
pub const RECORD_ID_BYTES_MAX: usize = 128;
/// Bytes of a kind name: a word, not a text.
pub const KIND_BYTES_MAX: usize = 32;
/// Bytes of an agent id.
pub const AGENT_ID_BYTES_MAX: usize = 128;
/// Bytes of the name of an embedding model.
pub const EMBEDDING_MODEL_BYTES_MAX: usize = 128;
/// Components of a vector: twice the largest that models of today make.
pub const EMBEDDING_DIM_MAX: usize = 8_192;

/// Characters of a memory's title, as in the shared JSON contract.
pub const MEMORY_TITLE_CHARS_MAX: usize = 512;
/// Bytes of a memory's content, as in the shared JSON contract.
pub const MEMORY_CONTENT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a memory's metadata as compact JSON, as in the shared JSON contract.
pub const MEMORY_METADATA_BYTES_MAX: usize = 64 * 1024;
/// Depth of a memory's metadata, the object itself included, as in the shared JSON contract.
pub const MEMORY_METADATA_DEPTH_MAX: usize = 32;
/// Tags of a memory, as in the shared JSON contract.
pub const MEMORY_TAGS_MAX: usize = 50;
/// Characters of a tag, as in the shared JSON contract.
pub const MEMORY_TAG_CHARS_MAX: usize = 128;
/// Characters of a memory's other words (source, kind, entity), as in the shared JSON contract.
pub const MEMORY_WORD_CHARS_MAX: usize = 64;
/// Citations of a memory, as in the shared JSON contract.
pub const MEMORY_CITATIONS_MAX: usize = 64;

/// Bytes of one record payload. A memory needs about 200 KiB at the contract's limits
/// (64 KiB content, 64 KiB metadata, escapes); opaque kinds get the same room.
pub const PAYLOAD_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one encoded op: a payload, a vector of `EMBEDDING_DIM_MAX`, and a context in the worst case.
pub const OP_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one proof: a path of `log2(GROUP_OPS_MAX)` hashes and the fixed part, with room.
pub const PROOF_BYTES_MAX: usize = 1024;
/// Ranges of one causal context. Simulation of the design saw at most 9 (5 nodes); refusing more bounds a decode.
pub const CONTEXT_RANGES_MAX: usize = 16_384;
/// Ranges of a node clock on the wire in one page: at most 96 bytes each, so a page stays under 4 MiB.
pub const CLOCK_RANGES_PER_PAGE_MAX: usize = 32_768;

/// Ops of one group commit or one page: past this the sync is amortised already.
pub const GROUP_OPS_MAX: usize = 1_024;
/// Bytes of ops in one group commit or one page.
pub const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of ops in one page of a session: small enough that a live page never waits long behind it.
pub const SESSION_PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one frame on the wire, header included; more is refused from its length, unread.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a frame header: ids, a path and fixed fields.
pub const FRAME_HEADER_BYTES_MAX: usize = 1_024;
/// How far a frame's time may be from the receiver's, either way.
pub const FRAME_AGE_MAX: DurationMs = DurationMs(120_000);
/// Frames of one sender that are remembered against replay: all that its rate allows within the window, at 32 bytes
/// each.
pub const NONCES_PER_PEER_MAX: usize = 524_288;
/// Frames of one sender that are taken in a second. A page waits for a sync at both ends, two are under way at a time,
/// and what comes meanwhile shares the next: few frames carry many ops.
pub const PEER_FRAMES_PER_SECOND: u32 = 2_000;
/// Frames of one sender that may come at once after it was silent.
pub const PEER_FRAMES_BURST: u32 = 2_000;
/// Frames that a node sends to one peer in a second: below what the peer takes, so that a disk that is fast enough for
/// more makes pages larger and never has one refused.
pub const PACED_FRAMES_PER_SECOND: u32 = 1_800;
/// Frames that a node sends to one peer at once.
pub const PACED_FRAMES_BURST: u32 = 1_000;
/// Signed acks that cost whoever asks for them as much of its rate as one frame: to sign takes less than to verify a frame
/// and to write its page, and is no less real work.
pub const SIGNED_ACKS_PER_FRAME: u32 = 4;
/// Pages of one node clock: with full pages two million ranges, more than a node has live records while
/// a peer has not completed.
pub const CLOCK_PAGES_MAX: usize = 64;

/// Live versions of one record beyond which a coordinator refuses to add one (409 `too_many_siblings`).
/// `apply` never drops for a bound: replicas that drop different versions never agree again.
pub const SIBLINGS_MAX: usize = 16;
/// Nodes of one mesh, this one included: quorum and membership are made for a handful.
pub const NODES_MAX: usize = 64;
/// Globs of one scope: an operator writes them by hand.
pub const SCOPE_GLOBS_MAX: usize = 64;
/// Patterns of authors that one node may speak for.
pub const AUTHOR_PATTERNS_MAX: usize = 256;
/// Kinds that are taken from one node.
pub const KINDS_MAX: usize = 64;
/// Client tokens of one node. Every request looks at each of them, in well under a millisecond.
pub const TOKENS_MAX: usize = 4_096;
/// Bytes of a client token's public name.
pub const TOKEN_ID_BYTES_MAX: usize = 64;
/// Agents that one client token may write as by name; more is what `*` is for.
pub const TOKEN_AGENTS_MAX: usize = 256;
/// Boots that a node lists in its hello; older ones that every peer has recorded are dropped.
pub const BOOTS_MAX: usize = 4_096;

/// How far ahead of this node's wall clock an HLC may be. Beyond it the op is refused for now.
pub const CLOCK_DRIFT_MAX: DurationMs = DurationMs(60_000);
/// How far ahead of this node's wall clock a store may have been created, as a peer says. Which of a node's stores is the later
/// is told by it, so one of a time that never comes would be the last for ever. A day, not [`CLOCK_DRIFT_MAX`]: a store keeps
/// the time of its creation when the clock is set right, also one that was an hour or a time zone ahead.
pub const STORE_AHEAD_MAX: DurationMs = DurationMs(24 * 60 * 60 * 1_000);

/// Ops in a peer's live lane that wait to be sent. Past it the lane is cut and a session delivers: nothing is lost.
pub const LIVE_LANE_OPS_MAX: usize = 16_384;
/// Bytes in a peer's live lane that wait to be sent.
pub const LIVE_LANE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Live pages under way to one peer: one at its disk, one on its way. More would make each page smaller, and each
/// page costs a signature and a sync.
pub const LIVE_PAGES_IN_FLIGHT_MAX: usize = 2;
/// Writes whose quorum is open at one coordinator; past it a client gets 503 `busy`.
pub const OPEN_WRITES_MAX: usize = 65_536;

/// Shortest wait between two attempts to reach a peer.
pub const BACKOFF_MIN: DurationMs = DurationMs(100);
/// Longest wait between two attempts to reach a peer. Short, because what heals must converge within seconds also
/// where nobody writes; an attempt costs a peer that is down nothing.
pub const BACKOFF_MAX: DurationMs = DurationMs(2_000);

const _: () = assert!(PAYLOAD_BYTES_MAX + 4 * EMBEDDING_DIM_MAX < OP_BYTES_MAX);
const _: () = assert!(OP_BYTES_MAX + PROOF_BYTES_MAX + 8 <= GROUP_BYTES_MAX, "any op fits a page");
const _: () = assert!(GROUP_BYTES_MAX + FRAME_HEADER_BYTES_MAX + 128 * 1024 <= FRAME_BYTES_MAX);
const _: () = assert!(SESSION_PAGE_BYTES_MAX <= GROUP_BYTES_MAX);
// A frame is remembered from the first instant at which it is taken to the last: twice its greatest age.
const _: () = assert!(
    PEER_FRAMES_BURST as u64 + PEER_FRAMES_PER_SECOND as u64 * (2 * FRAME_AGE_MAX.0 / 1_000)
        <= NONCES_PER_PEER_MAX as u64
);
const _: () = assert!(PACED_FRAMES_PER_SECOND < PEER_FRAMES_PER_SECOND);
const _: () = assert!(PACED_FRAMES_BURST < PEER_FRAMES_BURST);
// The receipts of a whole page put nobody in debt who is within its pace.
const _: () = assert!(GROUP_OPS_MAX <= PACED_FRAMES_BURST as usize * SIGNED_ACKS_PER_FRAME as usize);
const _: () = assert!(BACKOFF_MIN.0 < BACKOFF_MAX.0);
const _: () = assert!(LIVE_LANE_OPS_MAX >= LIVE_PAGES_IN_FLIGHT_MAX * GROUP_OPS_MAX);
