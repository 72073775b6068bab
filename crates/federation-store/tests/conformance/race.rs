//! A client's write while a page of a session is read: only the threaded store does both at once, so an index that
//! writes from within a read stands in for the second thread.

use crate::script::{open_epoch, put};
use crate::world::{begin_session, commit, setup, small};
use federation_core::attest::Trust;
use federation_core::node_clock::NodeClock;
use federation_core::port::store::{Request, SessionQuery};
use federation_store::index::OrderedIndex;
use federation_store::index::{Batch, Entry, Index, IndexError, IndexOpener};
use federation_store::{Engine, OrderedIndexes, SimulatedDisk};
use std::sync::{Arc, Mutex};

type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;
/// An index that runs a hook within its first read once it is armed.
struct Hooked {
    inner: OrderedIndex,
    hook: Hook,
    armed: Arc<Mutex<bool>>,
}
impl Index for Hooked {
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        if *self.armed.lock().unwrap() {
            let hook = self.hook.lock().unwrap().take();
            if let Some(hook) = hook {
                hook();
            }
        }
        self.inner.read(key)
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
