//! Listing visible records in key order.

use federation_core::port::store::{ListPage, ListQuery, StoreError};
use federation_core::record::VersionState;

use super::Reads;
use crate::disk::Disk;
use crate::index::Index;
use crate::schema::keys;
use crate::schema::values::Stored;

/// The records whose visible version is not archived.
pub(super) fn page<D: Disk, I: Index>(
    reads: &Reads<D, I>,
    query: &ListQuery,
) -> Result<ListPage, StoreError> {
    let mut page = ListPage { records: Vec::new(), next: None };
    let mut bytes = 0;
    let pin = reads.shared.log.pin();
    let (start, end) = match &query.namespace {
        Some(namespace) => {
            let prefix = keys::namespace_and_kind(namespace, &query.kind);
            let end = keys::behind(&prefix);
            (prefix, end)
        }
        None => (vec![keys::RECORD], vec![keys::RECORD + 1]),
    };
    let mut from =
        query.after.as_ref().map_or_else(|| start.clone(), |key| keys::after(&keys::record(key))).max(start);
    loop {
        let entries = reads.answer(reads.shared.index.scan(&from, &end, SCAN_ENTRIES).map_err(Into::into))?;
        let Some((last, _)) = entries.last() else { return Ok(page) };
        let mut next = keys::after(last);
        for (key, value) in &entries {
            let key = reads.answer(keys::read_record(key).map_err(Into::into))?;
            if key.kind != query.kind {
                // The records of the wanted kind begin later in this namespace, or in the next one.
                let wanted = keys::namespace_and_kind(&key.namespace, &query.kind);
                next = if key.kind < query.kind { wanted } else { next_namespace(&key.namespace) };
                break;
            }
            let stored = reads.answer(Stored::decode(value).map_err(Into::into))?;
            let record = stored.record();
            let Some(visible) = record.visible().filter(|v| v.state == VersionState::Present) else {
                continue;
            };
            let Some((_, place)) = stored.version(&visible.dot) else { continue };
            let size = place.bytes as usize;
            let is_full = page.records.len() >= query.limit || bytes + size > query.bytes_max;
            if is_full && !page.records.is_empty() {
                page.next = page.records.last().map(|(key, _, _)| key.clone());
                return Ok(page);
            }
            bytes += size;
            let op = reads.op(&pin, visible, *place)?;
            page.records.push((key, visible.clone(), op));
        }
        from = next;
    }
}

/// The first key behind all of a namespace: its text ends with a zero byte, and the next byte that may stand there
/// in a longer namespace is larger than one.
fn next_namespace(namespace: &federation_core::id::Namespace) -> Vec<u8> {
    keys::behind(&keys::namespace(namespace))
}

const SCAN_ENTRIES: usize = 128;
