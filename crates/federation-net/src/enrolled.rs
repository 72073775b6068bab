//! Who is enrolled, as of now.

use std::sync::Arc;

use arc_swap::ArcSwap;
use federation_wire::identity::Directory;

/// The directory of enrolled nodes, behind one handle: the gate and the TLS handshakes of a node read it on each use,
/// so that [`Enrolled::replace`] counts at once. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Enrolled(Arc<ArcSwap<Directory>>);

impl Enrolled {
    /// These nodes.
    pub fn new(directory: Directory) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(directory)))
    }

    /// The directory that holds now.
    pub fn directory(&self) -> Arc<Directory> {
        self.0.load_full()
    }

    /// From here on these nodes are enrolled. Whoever is not any more fails its next handshake and its next frame; its
    /// open connections are closed by [`crate::http::server::PeerServer::close_unproven`] and
    /// [`crate::http::client::HttpTransport::close_unproven`].
    pub fn replace(&self, directory: Directory) {
        self.0.store(Arc::new(directory));
    }
}
