//! Reads records back, from any thread.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use federation_core::id::OpHash;
use federation_core::op::{EncodedOp, SealedOp};

use crate::disk::DiskFile;
use crate::log::Place;
use crate::log::frame::{RecordKind, op_parts, parse_record};
use crate::log::segment::{SegmentList, holding};

/// Reads the records of a log while it is written. Clones are cheap.
#[derive(Debug)]
pub(crate) struct LogReader<F> {
    segments: Arc<ArcSwap<SegmentList<F>>>,
    /// Whoever reads holds what is in here.
    readers: Arc<ArcSwap<()>>,
}

/// Held by a read from before it asks the index for a place until it has read what is there: meanwhile no segment goes.
#[derive(Debug)]
pub(crate) struct Pin(#[expect(dead_code, reason = "what counts is that it is held")] Arc<()>);

/// The reads that were under way at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Readers(Weak<()>);

impl Readers {
    /// Whether all of them are over.
    pub(crate) fn are_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl<F> Clone for LogReader<F> {
    fn clone(&self) -> Self {
        Self { segments: Arc::clone(&self.segments), readers: Arc::clone(&self.readers) }
    }
}

impl<F: DiskFile> LogReader<F> {
    pub(crate) fn new(segments: Arc<ArcSwap<SegmentList<F>>>) -> Self {
        Self { segments, readers: Arc::new(ArcSwap::from_pointee(())) }
    }

    /// Begins a read.
    pub(crate) fn pin(&self) -> Pin {
        Pin(self.readers.load_full())
    }

    /// The reads that may know places that the index does not name any more.
    pub(crate) fn readers(&self) -> Readers {
        Readers(Arc::downgrade(&self.readers.swap(Arc::default())))
    }

    /// How many segments there are.
    pub(crate) fn segment_count(&self) -> usize {
        self.segments.load().len()
    }

    /// The op at `place`, whose hash the index knows, for a read that began before it asked the index. None if what stands there is not an op that
    /// passes its checksum.
    pub(crate) fn op(&self, _: &Pin, place: Place, hash: OpHash) -> Option<SealedOp> {
        let mut bytes = vec![0; place.bytes as usize];
        {
            let segments = self.segments.load();
            let (_, segment) = holding(&segments, place.position)?;
            if place.position + u64::from(place.bytes) > segment.limit() {
                return None;
            }
            if let Err(error) = segment.file.read_at(segment.offset(place.position), &mut bytes) {
                tracing::error!(segment = segment.number, position = place.position, %error, "cannot read an op");
                return None;
            }
        }
        let Some((record, [])) = parse_record(&bytes, place.position) else {
            tracing::error!(position = place.position, "an op in the log fails its checksum");
            return None;
        };
        let (op, proof) = op_parts(record.content).filter(|_| record.kind == Some(RecordKind::Op))?;
        Some(SealedOp { op: EncodedOp { bytes: Arc::from(op), hash }, proof: Arc::from(proof) })
    }
}
