use federation_net::config::PeerEndpoint;
use federation_net::transport::{BoxFuture, Connection, FrameSource, Frames, TransportError};
use federation_wire::identity::PeerUrl;
use tokio::time::Instant;

use super::*;

const DELAY_MAX: Duration = Duration::from_millis(3);
const SECOND: Duration = Duration::from_secs(1);

/// Answers each frame with itself after a while, and remembers what came and what it finished.
#[derive(Clone, Default)]
struct Echo {
    patience: Duration,
    came: Arc<Mutex<Vec<Bytes>>>,
    finished: Arc<Mutex<usize>>,
}

impl Echo {
    fn came(&self) -> Vec<Bytes> {
        self.came.lock().unwrap().clone()
    }
}

impl PeerService for Echo {
    fn call(&self, _: &ChannelIdentity, _: Route, frame: Bytes) -> BoxFuture<'static, Answer> {
        let echo = self.clone();
        Box::pin(async move {
            echo.came.lock().unwrap().push(frame.clone());
            tokio::time::sleep(echo.patience).await;
            *echo.finished.lock().unwrap() += 1;
            Answer { status: 200, frames: Some(Frames::one(frame)), slug: "ok" }
        })
    }
}

/// A stream that gives a frame every second, for ever.
struct Endless;

impl FrameSource for Endless {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, TransportError>>> {
        Box::pin(async {
            tokio::time::sleep(SECOND).await;
            Some(Ok(Bytes::from_static(b"item")))
        })
    }
}

impl PeerService for Endless {
    fn call(&self, _: &ChannelIdentity, _: Route, _: Bytes) -> BoxFuture<'static, Answer> {
        Box::pin(async { Answer { status: 200, frames: Some(Frames::new(Endless)), slug: "ok" } })
    }
}

/// A panic that a frame sets off.
struct Fragile;

impl PeerService for Fragile {
    fn call(&self, _: &ChannelIdentity, _: Route, _: Bytes) -> BoxFuture<'static, Answer> {
        Box::pin(async { panic!("fragile") })
    }
}

/// Two nodes, the second of which answers.
struct Pair {
    network: Network,
    echo: Echo,
    a: NodeId,
    b: NodeId,
}

impl Pair {
    fn new(seed: u64) -> Self {
        Self::with(seed, Duration::ZERO)
    }

    fn with(seed: u64, patience: Duration) -> Self {
        let network = Network::new(seed, DELAY_MAX);
        let echo = Echo { patience, ..Echo::default() };
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        network.attach(&b, Arc::new(echo.clone()));
        Self { network, echo, a, b }
    }

    async fn connect(&self) -> Result<Arc<dyn Connection>, TransportError> {
        let url = PeerUrl::parse("http://127.0.0.1:1").unwrap();
        self.network.transport(&self.a).connect(&PeerEndpoint { id: self.b.clone(), url }).await
    }

    fn counts(&self) -> NetworkCounts {
        self.network.counts()
    }
}

fn frame(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

async fn call(connection: &Arc<dyn Connection>, number: u32) -> Result<Bytes, TransportError> {
    connection.call(Route::Push, frame(number)).await?.only().await
}

/// A call that has been sent, and waits for its answer on its own.
fn start(
    connection: &Arc<dyn Connection>,
    number: u32,
) -> impl Future<Output = Result<Bytes, TransportError>> + use<> {
    let frames = connection.call(Route::Push, frame(number));
    async move { frames.await?.only().await }
}

async fn span_of<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    let result = what.await;
    (result, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_a_cut_holds_goes_on_once_it_is_mended() {
    let pair = Pair::new(1);
    let connection = pair.connect().await.unwrap();
    pair.network.cut(&pair.a, &pair.b);
    let calls = start(&connection, 1);
    let mend = async {
        tokio::time::sleep(9 * SECOND).await;
        assert!(pair.echo.came().is_empty());
        pair.network.mend(&pair.b, &pair.a);
    };
    let ((answer, ()), span) = span_of(async { tokio::join!(calls, mend) }).await;
    assert_eq!(answer, Ok(frame(1)));
    assert!(span >= 9 * SECOND && span < 10 * SECOND, "{span:?}");
    let counts = pair.counts();
    assert_eq!((counts.held, counts.swallowed, counts.broken), (1, 0, 0));
}

/// An answer waits too, and the request was handled.
#[tokio::test(start_paused = true)]
async fn the_answer_of_a_connection_that_is_cut_one_way_waits() {
    let pair = Pair::new(1);
    let connection = pair.connect().await.unwrap();
    pair.network.cut(&pair.b, &pair.a);
    let mend = async {
        tokio::time::sleep(SECOND).await;
        assert_eq!(pair.echo.came().len(), 1);
        pair.network.heal();
    };
    let ((answer, ()), span) = span_of(async { tokio::join!(start(&connection, 1), mend) }).await;
    assert_eq!(answer, Ok(frame(1)));
    assert!(span >= SECOND, "{span:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_passes_breaks_at_both_ends_and_stays_broken() {
    for one_way in [false, true] {
        let pair = Pair::with(1, 30 * SECOND);
        let connection = pair.connect().await.unwrap();
        let idle = pair.connect().await.unwrap();
        let first = start(&connection, 1);
        tokio::time::sleep(SECOND).await;
        assert_eq!(pair.echo.came().len(), 1, "it is being handled");
        if one_way {
            pair.network.cut(&pair.b, &pair.a);
        } else {
            pair.network.cut_both(&pair.a, &pair.b);
        }
        let second = start(&connection, 2);
        let ((first, second), span) = span_of(async { tokio::join!(first, second) }).await;
        assert_eq!(
            (first, second),
            (Err(TransportError::ConnectionLost), Err(TransportError::ConnectionLost))
        );
        assert_eq!(span.as_secs(), 10, "{span:?}");
        assert_eq!(pair.counts().broken, 2, "the idle one too");
        assert_eq!(pair.counts().swallowed, u64::from(!one_way));

        pair.network.heal();
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(*pair.echo.finished.lock().unwrap(), 0, "the server has let go of the requests");
        for connection in [&connection, &idle] {
            assert_eq!(call(connection, 3).await, Err(TransportError::ConnectionLost));
        }
        assert_eq!(call(&pair.connect().await.unwrap(), 4).await, Ok(frame(4)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_bit_by_bit_breaks_with_its_connection() {
    let pair = Pair::new(1);
    pair.network.attach(&pair.b, Arc::new(Endless));
    let connection = pair.connect().await.unwrap();
    let mut frames = connection.call(Route::Pull, frame(1)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(frames.next().await, Some(Ok(Bytes::from_static(b"item"))));
    }
    pair.network.cut(&pair.a, &pair.b);
    let rest = async { while let Some(Ok(_)) = frames.next().await {} };
    let ((), span) = span_of(rest).await;
    assert_eq!(span.as_secs(), 10, "{span:?}");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_flaps_breaks_no_connection() {
    let pair = Pair::new(1);
    let connection = pair.connect().await.unwrap();
    for number in 0..20 {
        pair.network.cut_both(&pair.a, &pair.b);
        let flap = async {
            tokio::time::sleep(9 * SECOND).await;
            pair.network.mend(&pair.a, &pair.b);
        };
        let (answer, ()) = tokio::join!(start(&connection, number), flap);
        assert_eq!(answer, Ok(frame(number)));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(pair.counts().broken, 0);
}

/// Mended and cut again at one instant, nothing has passed.
#[tokio::test(start_paused = true)]
async fn a_cut_that_is_made_anew_at_once_is_the_same_cut() {
    let pair = Pair::new(1);
    let connection = pair.connect().await.unwrap();
    pair.network.cut(&pair.a, &pair.b);
    let again = async {
        tokio::time::sleep(5 * SECOND).await;
        pair.network.heal();
        pair.network.cut(&pair.a, &pair.b);
    };
    let ((answer, ()), span) = span_of(async { tokio::join!(start(&connection, 1), again) }).await;
    assert_eq!(answer, Err(TransportError::ConnectionLost));
    assert_eq!(span.as_secs(), 10);
    assert!(pair.echo.came().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stands_still_for_long_loses_its_connections() {
    let pair = Pair::new(1);
    let connection = pair.connect().await.unwrap();
    for (length, answer) in [(9, Ok(frame(1))), (11, Err(TransportError::ConnectionLost))] {
        pair.network.pause(&pair.b);
        let resume = async {
            tokio::time::sleep(length * SECOND).await;
            pair.network.resume(&pair.b);
        };
        assert_eq!(tokio::join!(start(&connection, 1), resume).0, answer);
    }
}

#[tokio::test(start_paused = true)]
async fn no_connection_comes_through_a_cut_or_to_nobody() {
    let pair = Pair::new(1);
    pair.network.cut(&pair.b, &pair.a);
    let (answer, span) = span_of(pair.connect()).await;
    assert_eq!(answer.err(), Some(TransportError::Unreachable));
    assert_eq!(span, 2 * SECOND);
    let mend = async {
        tokio::time::sleep(SECOND).await;
        pair.network.mend(&pair.a, &pair.b);
    };
    let (connection, ()) = tokio::join!(pair.connect(), mend);
    pair.network.detach(&pair.b);
    assert_eq!(call(&connection.unwrap(), 1).await, Err(TransportError::ConnectionLost));
    assert_eq!(pair.connect().await.err(), Some(TransportError::Unreachable));
    let counts = pair.counts();
    assert_eq!((counts.connected, counts.refused, counts.unreachable), (1, 1, 1));
}

/// Who is behind a cut does not hear that the other side has ended.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_node_passes_no_cut() {
    let pair = Pair::with(1, 30 * SECOND);
    let connection = pair.connect().await.unwrap();
    let end = async {
        tokio::time::sleep(SECOND).await;
        pair.network.cut(&pair.b, &pair.a);
        pair.network.detach(&pair.b);
        tokio::time::sleep(3 * SECOND).await;
        pair.network.heal();
    };
    let ((answer, ()), span) = span_of(async { tokio::join!(start(&connection, 1), end) }).await;
    assert_eq!(answer, Err(TransportError::ConnectionLost));
    assert_eq!(span.as_secs(), 4, "{span:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_not_handled_a_lost_answer_was_and_both_break_the_connection() {
    let pair = Pair::new(1);
    for lose in [Network::drop_requests, Network::drop_answers] {
        let connection = pair.connect().await.unwrap();
        lose(&pair.network, 100);
        assert_eq!(call(&connection, 1).await, Err(TransportError::ConnectionLost));
        pair.network.heal();
        assert_eq!(call(&connection, 2).await, Err(TransportError::ConnectionLost));
        let connection = pair.connect().await.unwrap();
        assert_eq!(call(&connection, 2).await, Ok(frame(2)));
    }
    assert_eq!(pair.echo.came(), [frame(2), frame(1), frame(2)]);
    let counts = pair.counts();
    assert_eq!((counts.requests_lost, counts.answers_lost), (1, 1));
    assert_eq!((counts.requests, counts.answers), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_comes_after_the_first_and_is_answered_to_nobody() {
    let pair = Pair::new(1);
    let connection = pair.connect().await.unwrap();
    pair.network.duplicate(100);
    for number in 0..20 {
        assert_eq!(call(&connection, number).await, Ok(frame(number)));
    }
    tokio::time::sleep(3 * SECOND).await;
    let came = pair.echo.came();
    assert_eq!(came.len(), 40);
    let counts = pair.counts();
    assert_eq!((counts.requests, counts.answers, counts.duplicated), (20, 20, 20));
    // This service does not look at nonces.
    assert_eq!(counts.taken_twice, 20);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_finds_who_answers_by_then() {
    let pair = Pair::new(1);
    let connection = pair.connect().await.unwrap();
    pair.network.duplicate(100);
    call(&connection, 1).await.unwrap();
    let restarted = Echo::default();
    pair.network.attach(&pair.b, Arc::new(restarted.clone()));
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!((pair.echo.came().len(), restarted.came().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn some_frames_overtake_others() {
    let pair = Pair::new(1);
    let connection = pair.connect().await.unwrap();
    pair.network.reorder(20);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..50 {
        calls.spawn(start(&connection, number));
        tokio::time::sleep(2 * DELAY_MAX).await;
    }
    assert!(calls.join_all().await.into_iter().all(|answer| answer.is_ok()));
    let came = pair.echo.came();
    assert_eq!(came.len(), 50);
    assert!(!came.is_sorted_by_key(|frame| u32::from_le_bytes(frame[..].try_into().unwrap())));
    assert!(pair.counts().reordered > 0);
}

#[tokio::test(start_paused = true)]
async fn slow_links_and_delays_last_until_all_is_healed() {
    let pair = Pair::new(1);
    let connection = pair.connect().await.unwrap();
    let usual = 2 * DELAY_MAX + Duration::from_millis(2);
    assert!(span_of(call(&connection, 1)).await.1 <= usual);
    pair.network.slow_link(&pair.b, &pair.a, SECOND);
    let slow = span_of(call(&connection, 1)).await.1;
    assert!(slow >= SECOND && slow <= SECOND + usual, "one way only: {slow:?}");
    pair.network.heal();
    pair.network.set_delay_max(SECOND);
    let mut spans = Vec::new();
    for _ in 0..20 {
        spans.push(span_of(call(&connection, 1)).await.1);
    }
    assert!(spans.iter().any(|span| *span > SECOND), "{spans:?}");
    pair.network.heal();
    assert!(span_of(call(&connection, 1)).await.1 <= usual);
    assert_eq!(pair.counts().slowed, 1);
}

#[tokio::test(start_paused = true)]
async fn who_listens_has_the_last_requests_and_whether_they_were_handled() {
    let pair = Pair::with(1, SECOND);
    let connection = pair.connect().await.unwrap();
    call(&connection, 1).await.unwrap();
    let pending = start(&connection, 2);
    tokio::time::sleep(SECOND / 2).await;
    let heard: Vec<_> = pair.network.captured().iter().map(|f| (f.frame.clone(), f.is_taken())).collect();
    assert_eq!(heard, [(frame(1), true), (frame(2), false)]);
    pending.await.unwrap();
    for number in 0..300 {
        connection.call(Route::Push, frame(number)).await.unwrap();
    }
    let heard = pair.network.captured();
    assert_eq!(heard.len(), 256);
    assert_eq!(heard.last().map(|last| last.frame.clone()), Some(frame(299)));
    let large = Bytes::from(vec![0; 3 * 1024 * 1024]);
    for _ in 0..3 {
        connection.call(Route::Push, large.clone()).await.unwrap();
    }
    assert_eq!(pair.network.captured().len(), 2, "no more than eight MiB");
}

#[tokio::test(start_paused = true)]
async fn a_frame_from_nowhere_passes_every_cut_and_waits_for_a_node_that_stands_still() {
    let pair = Pair::new(1);
    pair.network.cut_both(&pair.a, &pair.b);
    pair.network.pause(&pair.b);
    let resume = async {
        tokio::time::sleep(SECOND).await;
        assert!(pair.echo.came().is_empty());
        pair.network.resume(&pair.b);
    };
    let (answer, ()) = tokio::join!(pair.network.inject(&pair.b, Route::Push, frame(1)), resume);
    assert_eq!(answer.unwrap().status, 200);
    assert!(pair.network.inject(&pair.a, Route::Push, frame(1)).await.is_none(), "it does not run");
    assert!(pair.network.captured().is_empty(), "what an attacker sends it need not hear");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_seen_whoever_sent_the_frame() {
    let pair = Pair::new(1);
    pair.network.attach(&pair.b, Arc::new(Fragile));
    assert!(pair.network.inject(&pair.b, Route::Push, frame(1)).await.is_none());
    assert!(pair.network.has_panicked());
    let pair = Pair::new(1);
    pair.network.attach(&pair.b, Arc::new(Fragile));
    let connection = pair.connect().await.unwrap();
    let answer = tokio::time::timeout(SECOND, call(&connection, 1)).await;
    assert!(answer.is_err());
    assert!(pair.network.has_panicked());
}

/// What came, when, and what was counted.
async fn history(seed: u64) -> (Vec<Bytes>, Vec<(u32, Duration)>, NetworkCounts) {
    let pair = Pair::with(seed, Duration::from_millis(5));
    let begun = Instant::now();
    pair.network.drop_requests(10);
    pair.network.drop_answers(10);
    pair.network.duplicate(30);
    pair.network.reorder(30);
    let mut connections = Vec::new();
    for _ in 0..60 {
        connections.push(pair.connect().await.unwrap());
    }
    let mut calls = tokio::task::JoinSet::new();
    for (number, connection) in (0..60).zip(connections) {
        match number {
            10 => pair.network.cut(&pair.a, &pair.b),
            20 => pair.network.mend(&pair.a, &pair.b),
            30 => pair.network.pause(&pair.b),
            40 => pair.network.resume(&pair.b),
            50 => pair.network.cut(&pair.b, &pair.a),
            _ => {}
        }
        let call = start(&connection, number);
        calls.spawn(async move {
            // Broken or answered: what counts is when.
            let _answer = tokio::time::timeout(20 * SECOND, call).await;
            (number, begun.elapsed())
        });
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    let mut ends = Vec::new();
    while let Some(end) = calls.join_next().await {
        ends.push(end.unwrap());
    }
    (pair.echo.came(), ends, pair.counts())
}

#[tokio::test(start_paused = true)]
async fn a_seed_is_one_history() {
    let first = history(7).await;
    assert_eq!(first, history(7).await);
    assert_ne!(first, history(8).await);
    let uncounted: Vec<_> =
        first.2.named().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    assert_eq!(uncounted, ["answers_forged", "injected", "refused", "slowed", "unreachable"]);
}
