//! Many memories in one request: rows in, one outcome per row out, both as streams.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use federation_core::id::AgentId;
use federation_wire::api::DotText;
use federation_wire::api::status::BulkRow;
use http_body::Frame;
use http_body_util::BodyExt as _;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use crate::api::auth::Caller;
use crate::api::body::{self, BODY_BYTES_MAX, Media};
use crate::api::error::{ApiError, ErrorAnswer};
use crate::api::guard::PanicGuard;
use crate::api::memories::{create_one, error_body, quorum_of};
use crate::api::params::{self, Promise};
use crate::api::state::ApiState;

/// Rows of one request that are written at once: enough for them to share group commits and pages.
const ROWS_IN_FLIGHT_MAX: usize = 64;
/// Rows of one request. More go into another: an answer that is cut off must not cost hours of work.
const ROWS_MAX: u64 = 100_000;
/// Bytes of a JSON array, which is read whole; NDJSON is read line by line and has no such limit.
const ARRAY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// `POST /api/v1/memories/bulk`
pub(super) async fn create_many(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let media = Media::of(&headers, &[Media::Ndjson, Media::Json])?;
    let (author, promise) = (caller.author(&headers)?, params::promise(&headers)?);
    let permit = Arc::clone(&state.bulk_permits).try_acquire_owned().map_err(|_| {
        let message = "this node serves as many bulk requests as it may: try again, or another node";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    })?;
    let guard = PanicGuard(state.failed.clone());
    let (outcomes, rows) = mpsc::channel(ROWS_IN_FLIGHT_MAX);
    let mut writer = RowWriter { state: state.clone(), caller, author, promise, next_row: 0, outcomes };
    match media {
        Media::Json => {
            let bytes = body::read(&headers, body, ARRAY_BYTES_MAX, state.body_deadline).await?;
            let array: Vec<Box<RawValue>> =
                federation_wire::api::error::from_json(&bytes).map_err(ApiError::json)?;
            state.tasks.spawn(async move {
                let _held = (permit, guard);
                for row in array {
                    if writer.write(Bytes::from(row.get().to_owned())).await.is_err() {
                        return;
                    }
                }
            });
        }
        Media::Ndjson => {
            let idle = state.body_deadline;
            state.tasks.spawn(async move {
                let _held = (permit, guard);
                // An error here means that there is nothing more to do for it.
                let _ = write_lines(&mut writer, body, idle).await;
            });
        }
    }
    let answer = Body::new(OutcomeBody { rows, current: None });
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, "application/x-ndjson")], answer).into_response())
}

/// No further row is read: the client does not listen any more, has sent too many, or is not let in any more.
#[derive(Debug)]
struct Gone;

/// Starts the write of each row, in order, as long as there is room.
struct RowWriter {
    state: ApiState,
    caller: Caller,
    author: AgentId,
    promise: Promise,
    next_row: u64,
    outcomes: mpsc::Sender<oneshot::Receiver<BulkRow>>,
}

impl RowWriter {
    /// Starts a row. Waits while too many are under way.
    async fn write(&mut self, row: Bytes) -> Result<(), Gone> {
        let number = self.take_number();
        if number >= ROWS_MAX {
            self.refuse(number, &too_many()).await?;
            return Err(Gone);
        }
        // The request may be under way for longer than its token lives: each row is held against what holds now.
        let caller = match self.caller.renewed() {
            Ok(caller) => caller,
            Err(error) => {
                self.refuse(number, &error).await?;
                return Err(Gone);
            }
        };
        let (done, outcome) = oneshot::channel();
        self.outcomes.send(outcome).await.map_err(|_| Gone)?;
        let (state, author, promise) = (self.state.clone(), self.author.clone(), self.promise);
        let guard = PanicGuard(state.failed.clone());
        let mut writing = Box::pin(async move {
            let _guard = guard;
            let outcome = outcome_of(number, create_one(&state, &caller, &author, promise, &row).await);
            // Nobody listens any more: the row is written all the same.
            let _ = done.send(outcome);
        });
        // A write is handed to the store when it is first polled: doing that here keeps the rows in their order,
        // so that of two with one id the first wins.
        let first = std::future::poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await;
        if first.is_pending() {
            self.state.tasks.spawn(writing);
        }
        Ok(())
    }

    /// Answers a row without writing it.
    async fn refuse(&mut self, number: u64, error: &ApiError) -> Result<(), Gone> {
        let (done, outcome) = oneshot::channel();
        let _ = done.send(refused(number, error));
        self.outcomes.send(outcome).await.map_err(|_| Gone)
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next_row;
        self.next_row += 1;
        number
    }
}

/// Reads lines and starts each. Ends at the end of the body, or when it breaks off or stands still.
async fn write_lines(writer: &mut RowWriter, mut body: Body, idle: Duration) -> Result<(), Gone> {
    let mut buffer = BytesMut::new();
    let mut is_skipping = false;
    loop {
        let frame = match tokio::time::timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) => return refuse_next(writer, &body::broken()).await,
            Err(_) => return refuse_next(writer, &body::slow(idle)).await,
        };
        let Ok(data) = frame.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let mut line = buffer.split_to(end + 1);
            line.truncate(end);
            if !std::mem::take(&mut is_skipping) {
                write_line(writer, line.freeze()).await?;
            }
        }
        if buffer.len() > BODY_BYTES_MAX {
            if !is_skipping {
                refuse_next(writer, &body::too_large(BODY_BYTES_MAX)).await?;
            }
            is_skipping = true;
            buffer.clear();
        }
    }
    if is_skipping { Ok(()) } else { write_line(writer, buffer.freeze()).await }
}

async fn write_line(writer: &mut RowWriter, line: Bytes) -> Result<(), Gone> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    if line.len() > BODY_BYTES_MAX {
        return refuse_next(writer, &body::too_large(BODY_BYTES_MAX)).await;
    }
    writer.write(line).await
}

async fn refuse_next(writer: &mut RowWriter, error: &ApiError) -> Result<(), Gone> {
    let number = writer.take_number();
    writer.refuse(number, error).await
}

fn too_many() -> ApiError {
    let message = format!("a bulk request has at most {ROWS_MAX} rows: send the rest in another");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_rows", message).with("limit", ROWS_MAX)
}

type Created = (federation_core::id::RecordId, federation_net::WriteReceipt);

fn outcome_of(row: u64, result: Result<Created, ApiError>) -> BulkRow {
    match result {
        Ok((id, receipt)) => BulkRow {
            row,
            status: StatusCode::CREATED.as_u16(),
            id: Some(id.to_string()),
            dot: Some(DotText(receipt.written.op.dot.clone())),
            quorum: Some(quorum_of(&receipt)),
            error: None,
        },
        Err(error) => refused(row, &error),
    }
}

fn refused(row: u64, error: &ApiError) -> BulkRow {
    let (id, dot) = match &*error.body {
        ErrorAnswer::QuorumNotMet(body) => (Some(body.id.clone()), Some(body.dot.clone())),
        ErrorAnswer::Plain(body) => {
            (body.fields.get("id").and_then(|id| id.as_str()).map(str::to_owned), None)
        }
    };
    BulkRow { row, status: error.status.as_u16(), id, dot, quorum: None, error: Some(error_body(error)) }
}

/// The answer: one line per row, in the order of the rows, each as soon as it and those before it are known.
struct OutcomeBody {
    rows: mpsc::Receiver<oneshot::Receiver<BulkRow>>,
    current: Option<oneshot::Receiver<BulkRow>>,
}

impl http_body::Body for OutcomeBody {
    type Data = Bytes;
    type Error = Arc<serde_json::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let Some(current) = &mut self.current {
                let outcome = ready!(Pin::new(current).poll(cx));
                self.current = None;
                // A row whose task panicked ends the answer early, which tells the client that the rest is unknown.
                let Ok(outcome) = outcome else { return Poll::Ready(None) };
                let line = serde_json::to_vec(&outcome).map(|mut line| {
                    line.push(b'\n');
                    Frame::data(Bytes::from(line))
                });
                return Poll::Ready(Some(line.map_err(Arc::new)));
            }
            match ready!(self.rows.poll_recv(cx)) {
                Some(next) => self.current = Some(next),
                None => return Poll::Ready(None),
            }
        }
    }
}
