//! A client's write, or compaction, while a page of a session is read: only the threaded store does both at once, so an index that
//! writes from within a read stands in for the second thread.

use crate::script::{PIECE_BYTES, compact, key, open_epoch, put};
use crate::world::{begin_session, commit, setup, small};
use federation_core::attest::Trust;
use federation_core::node_clock::NodeClock;
use federation_core::port::store::{Request, SessionQuery};
use federation_store::index::OrderedIndex;
use federation_store::index::{Batch, Entry, Index, IndexError, IndexOpener};
use federation_store::{Compacted, Engine, OrderedIndexes, SimulatedDisk};
use std::sync::{Arc, Mutex};

type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;
/// An index that runs a hook within its first read once it is armed. What is read of a record is of before.
struct Hooked {
    inner: OrderedIndex,
    hook: Hook,
    armed: Arc<Mutex<bool>>,
}
impl Index for Hooked {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let hook = if *self.armed.lock().unwrap() { self.hook.lock().unwrap().take() } else { None };
        let is_late = hook.is_some() && key.first() == Some(&b'R');
        let read = if is_late { Some(self.inner.read(key)) } else { None };
        if let Some(hook) = hook {
            hook();
        }
        read.unwrap_or_else(|| self.inner.read(key))
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Entry>, IndexError> {
        self.inner.scan(from, to, limit)
    }
    fn apply(&self, batch: Batch) -> Result<(), IndexError> {
        self.inner.apply(batch)
    }
    fn checkpoint(&self) -> Result<(), IndexError> {
        self.inner.checkpoint()
    }
}
struct Opener {
    inner: OrderedIndexes,
    hook: Hook,
    armed: Arc<Mutex<bool>>,
}
impl IndexOpener for Opener {
    type Index = Hooked;
    fn open(&self) -> Result<Hooked, IndexError> {
        Ok(Hooked { inner: self.inner.open()?, hook: self.hook.clone(), armed: self.armed.clone() })
    }
    fn create(&self) -> Result<Hooked, IndexError> {
        Ok(Hooked { inner: self.inner.create()?, hook: self.hook.clone(), armed: self.armed.clone() })
    }
}

#[test]
fn a_write_while_a_page_is_read_takes_nothing_out_of_the_session() {
    let (hook, armed): (Hook, _) = (Arc::default(), Arc::new(Mutex::new(false)));
    let opener = Opener { inner: OrderedIndexes::new(), hook: hook.clone(), armed: armed.clone() };
    let (engine, _) =
        Engine::open(SimulatedDisk::new(), &opener, setup(small(), false), &mut |_, _| {}).unwrap();
    let engine = Arc::new(Mutex::new(engine));
    let start = {
        let mut e = engine.lock().unwrap();
        commit(&mut e, vec![open_epoch()]).unwrap();
        commit(&mut e, vec![Request::Change(put(0, "one"))]).unwrap();
        begin_session(&mut e, "b")
    };
    let reads = engine.lock().unwrap().reads();
    let again = Arc::clone(&engine);
    *hook.lock().unwrap() = Some(Box::new(move || {
        commit(&mut again.lock().unwrap(), vec![Request::Change(put(0, "two"))]).unwrap();
    }));
    *armed.lock().unwrap() = true;
    let page = reads
        .session_page(&SessionQuery {
            session: start.session,
            known: NodeClock::new(),
            trust: Trust::full(),
            after: None,
            ops_max: 10,
            bytes_max: 1 << 20,
        })
        .unwrap();
    let sent: Vec<u64> = page.ops.iter().map(|op| op.dot.seq).collect();
    assert_eq!((sent, page.next), (vec![2], None), "the claim covers a/1: what replaced it must be sent");
}

#[test]
fn compaction_takes_no_segment_away_under_a_read() {
    let (hook, armed): (Hook, _) = (Arc::default(), Arc::new(Mutex::new(false)));
    let opener = Opener { inner: OrderedIndexes::new(), hook: hook.clone(), armed: armed.clone() };
    let (engine, _) =
        Engine::open(SimulatedDisk::new(), &opener, setup(small(), false), &mut |_, _| {}).unwrap();
    let engine = Arc::new(Mutex::new(engine));
    {
        let mut e = engine.lock().unwrap();
        commit(&mut e, vec![open_epoch(), Request::Change(put(0, "old and live"))]).unwrap();
        for i in 0..60 {
            commit(&mut e, vec![Request::Change(put(1, &format!("{i} {}", "y".repeat(300))))]).unwrap();
        }
    }
    let reads = engine.lock().unwrap().reads();
    let again = Arc::clone(&engine);
    // The index has said where the op is; before it is read there, compaction comes as far as it can.
    *hook.lock().unwrap() = Some(Box::new(move || {
        let mut engine = again.lock().unwrap();
        let mut waited = 0;
        while waited < 3 {
            match engine.compact(PIECE_BYTES).unwrap() {
                Compacted::Waits => {
                    waited += 1;
                    engine.checkpoint().unwrap();
                }
                Compacted::More => {}
                Compacted::Done => panic!("there is nothing to compact"),
            }
        }
        assert_eq!(engine.metrics().segments_removed.value(), 0, "a read goes on");
    }));
    *armed.lock().unwrap() = true;
    assert_eq!(reads.record(&key(0)).unwrap().ops.len(), 1);
    let mut engine = engine.lock().unwrap();
    compact(&mut engine).unwrap();
    assert!(engine.metrics().segments_removed.value() > 3, "it goes on when the read is over");
    assert_eq!(reads.record(&key(0)).unwrap().ops.len(), 1);
}
