//! Why a request was refused, as one stable word.

use serde::{Deserialize, Serialize};

macro_rules! slugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)+) => {
        /// Why a request as a whole was refused. An answer tells no more than this word and the numbers beside it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Slug {
            $($(#[$doc])* $name,)+
        }

        impl Slug {
            /// All of them.
            pub const ALL: &'static [Slug] = &[$(Slug::$name),+];

            /// The word.
            pub fn as_str(self) -> &'static str {
                match self { $(Slug::$name => $text,)+ }
            }

            /// The HTTP status that goes with it.
            pub fn http_status(self) -> u16 {
                match self { $(Slug::$name => $status,)+ }
            }
        }
    };
}

slugs! {
    /// The sender is not enrolled.
    UnknownPeer = "unknown_peer", 401;
    /// The sender, or the key it uses, is not accepted any more.
    PeerRevoked = "peer_revoked", 401;
    /// The frame has no signature and its channel proves nothing.
    SignatureMissing = "signature_missing", 401;
    /// The signature is not 64 bytes.
    SignatureMalformed = "signature_malformed", 401;
    /// The signature is not the sender's over this header, or the body is not the signed one.
    SignatureInvalid = "signature_invalid", 401;
    /// The frame is meant for another node.
    WrongRecipient = "wrong_recipient", 401;
    /// The frame was signed for another route.
    WrongRoute = "wrong_route", 401;
    /// The frame's time is outside the window; the answer has the receiver's time.
    Stale = "stale", 401;
    /// The frame is meant for another boot of this node; the answer has the current one.
    WrongBoot = "wrong_boot", 401;
    /// The frame has been here before.
    Replayed = "replayed", 401;
    /// Too many frames in the window: refused, not forgotten.
    NonceWindowFull = "nonce_window_full", 429;
    /// The sender differs from the identity of the connection.
    IdentityMismatch = "identity_mismatch", 403;
    /// The answer does not belong to the request.
    WrongAnswer = "wrong_answer", 401;
    /// The bytes are not a message in its one form.
    Malformed = "malformed", 400;
    /// More bytes or elements than the limit; the answer has the limit.
    TooLarge = "too_large", 413;
    /// Another content type than the ones spoken here.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// No version of the protocol that both sides speak.
    UnsupportedVersion = "unsupported_version", 400;
    /// There is no such route.
    NotFound = "not_found", 404;
    /// The body did not come in time.
    SlowBody = "slow_body", 408;
    /// Too many requests or connections.
    RateLimited = "rate_limited", 429;
    /// The caller must re-bootstrap before anything is taken from it.
    MustRebootstrap = "must_rebootstrap", 409;
    /// No hello of this pair of boots has been seen yet.
    HelloFirst = "hello_first", 409;
    /// No room in a queue: try again.
    Busy = "busy", 503;
    /// No room on the disk: try again.
    DiskFull = "disk_full", 503;
    /// The store takes no writes until it is restarted.
    StoreReadOnly = "store_read_only", 503;
    /// The node is stopping.
    ShuttingDown = "shutting_down", 503;
    /// A later word of the same boot came before this hello: say it again, with what is so now.
    Overtaken = "overtaken", 409;
}

impl std::fmt::Display for Slug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
