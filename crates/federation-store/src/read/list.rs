//! Listing visible records in key order.

use federation_core::port::store::{ListPage, ListQuery, Listed, StoreError};
use federation_core::record::{Record, Version, VersionState};

use super::Reads;
use crate::disk::Disk;
use crate::index::Index;
use crate::schema::keys;
use crate::schema::values::Stored;

/// The records that are asked for.
pub(super) fn page<D: Disk, I: Index>(
    reads: &Reads<D, I>,
    query: &ListQuery,
) -> Result<ListPage, StoreError> {
    let mut page = ListPage { records: Vec::new(), next: None };
    let (mut bytes, mut looks) = (0, 0);
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
    // A short page needs few, and one more to know that it is not the last.
    let mut entries_max = query.limit.saturating_add(1).min(SCAN_ENTRIES);
    loop {
        let entries = reads.answer(reads.shared.index.scan(&from, &end, entries_max).map_err(Into::into))?;
        entries_max = SCAN_ENTRIES;
        let Some((last, _)) = entries.last() else {
            page.next = None;
            return Ok(page);
        };
        let mut next = keys::after(last);
        for (key, value) in &entries {
            let key = reads.answer(keys::read_record(key).map_err(Into::into))?;
            if key.kind != query.kind {
                // The records of the wanted kind begin later in this namespace, or in the next one.
                let wanted = keys::namespace_and_kind(&key.namespace, &query.kind);
                next = if key.kind < query.kind { wanted } else { next_namespace(&key.namespace) };
                break;
            }
            if looks >= query.looks_max {
                return Ok(page);
            }
            looks += 1;
            page.next = Some(key.clone());
            let stored = reads.answer(Stored::decode(value).map_err(Into::into))?;
            let record = stored.record();
            let Some(shown) = shown(&record, query.which) else { continue };
            let Some((_, place)) = stored.version(&shown.dot) else { continue };
            let size = place.bytes as usize;
            let is_full = page.records.len() >= query.limit || bytes + size > query.bytes_max;
            if is_full && !page.records.is_empty() {
                page.next = page.records.last().map(|(key, _, _)| key.clone());
                return Ok(page);
            }
            bytes += size;
            let op = reads.op(&pin, shown, *place)?;
            page.records.push((key, shown.clone(), op));
        }
        from = next;
    }
}

/// The version that stands for a record in a list; none: it is not listed.
fn shown(record: &Record, which: Listed) -> Option<&Version> {
    match which {
        Listed::Visible => record.visible().filter(|version| version.state == VersionState::Present),
        Listed::Concurrent => match record.versions() {
            [] | [_] => None,
            [.., last] => Some(record.visible().unwrap_or(last)),
        },
    }
}

/// The first key behind all of a namespace: its text ends with a zero byte, and the next byte that may stand there
/// in a longer namespace is larger than one.
fn next_namespace(namespace: &federation_core::id::Namespace) -> Vec<u8> {
    keys::behind(&keys::namespace(namespace))
}

const SCAN_ENTRIES: usize = 128;
