//! What strace saw of one process, in the order in which it saw it.
//!
//! strace holds a thread still between the end of a call and whatever the thread, or one that it wakes, does next: if
//! one call must have returned before another may begin, its line of return stands before the other's line of entry.

use std::collections::BTreeMap;

/// The calls of one process.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// In the order of their beginning.
    pub(crate) calls: Vec<Call>,
}

/// One call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// What its file descriptor is: a path, or something in brackets for a socket.
    pub(crate) file: String,
    /// The bytes that it wrote.
    pub(crate) data: Vec<u8>,
    pub(crate) began: Moment,
    /// When it returned and with what; none if it did not, or was not made.
    pub(crate) returned: Option<(Moment, i64)>,
}

/// A point of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moment {
    /// Line of the trace: orders what one process did.
    pub(crate) line: usize,
    /// Seconds since the epoch: orders what several did, as well as their one clock can.
    pub(crate) at: f64,
}

impl Trace {
    /// Reads what `strace -f -y -xx -ttt -T` has written.
    pub(crate) fn parse(text: &str) -> Self {
        let mut calls: Vec<Call> = Vec::new();
        let mut open = BTreeMap::new();
        for (line, text) in text.lines().enumerate() {
            // The thread's id is padded to a column of its own.
            let Some((thread, rest)) = text.split_once(' ') else { continue };
            let Some((at, said)) = rest.trim_start().split_once(' ') else { continue };
            let Ok(at) = at.parse() else { continue };
            let here = Moment { line, at };
            if said.starts_with("<... ") {
                if let Some(index) = open.remove(thread) {
                    let call: &mut Call = &mut calls[index];
                    call.returned = result(said, here, call.began.at);
                }
            } else if let Some((name, rest)) = said.split_once('(') {
                let is_open = said.ends_with("<unfinished ...>");
                let returned = if is_open { None } else { result(said, here, at) };
                let (file, data) = (file(rest), data(rest));
                if is_open {
                    open.insert(thread.to_owned(), calls.len());
                }
                calls.push(Call { name: name.to_owned(), file, data, began: here, returned });
            }
        }
        Self { calls }
    }

    /// When the bytes in the log with `needle` in them were durable: the first good sync of their file that began
    /// after they were written.
    pub(crate) fn durable(&self, needle: &[u8]) -> Option<Moment> {
        let write = self.calls.iter().find(|call| call.is_log_write() && contains(&call.data, needle))?;
        let (written, _) = write.returned.filter(|(_, bytes)| *bytes > 0)?;
        let is_sync = |call: &&Call| {
            matches!(call.name.as_str(), "fdatasync" | "fsync")
                && call.file == write.file
                && call.began.line > written.line
        };
        let good = self.calls.iter().filter(is_sync).filter_map(|call| call.returned);
        good.filter(|(_, result)| *result == 0).map(|(moment, _)| moment).next()
    }

    /// When the first bytes with `needle` in them began to go out through a socket, of those that `is_meant`.
    pub(crate) fn sent(&self, needle: &[u8], is_meant: impl Fn(&[u8]) -> bool) -> Option<Moment> {
        let is_send =
            |call: &&Call| call.is_to_socket() && contains(&call.data, needle) && is_meant(&call.data);
        self.calls.iter().find(is_send).map(|call| call.began)
    }
}

impl Call {
    fn is_log_write(&self) -> bool {
        let name = self.file.rsplit('/').next().and_then(|name| name.strip_suffix(".seg"));
        self.file.starts_with('/') && name.is_some_and(|name| name.starts_with("log-"))
    }

    fn is_to_socket(&self) -> bool {
        !self.file.starts_with('/') && matches!(self.name.as_str(), "sendto" | "sendmsg" | "write" | "writev")
    }
}

/// Whether `needle` stands somewhere in `bytes`.
pub(crate) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// The end of a call's line: `= 0 <0.000123>`. One that strace answered in the kernel's place was never made.
fn result(said: &str, here: Moment, began_at: f64) -> Option<(Moment, i64)> {
    let (_, end) = said.rsplit_once(" = ").filter(|(_, end)| !end.contains("INJECTED"))?;
    let value = end.split(' ').next()?.parse().ok()?;
    let took: f64 = end.rsplit_once('<')?.1.trim_end_matches('>').parse().ok()?;
    Some((Moment { line: here.line, at: began_at + took }, value))
}

/// The first argument's file: `9<\x2f\x74...>`.
fn file(arguments: &str) -> String {
    let named = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    String::from_utf8_lossy(&hex(named.map_or("", |(name, _)| name))).into_owned()
}

/// All strings of the arguments, one after the other.
fn data(arguments: &str) -> Vec<u8> {
    arguments.split('"').skip(1).step_by(2).flat_map(hex).collect()
}

fn hex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).filter_map(|digits| u8::from_str_radix(digits, 16).ok()).collect()
}

#[test]
fn a_trace_is_read_with_calls_that_were_interrupted() {
    let text = r#"
7 100.000001 pwrite64(3<\x2f\x6c\x6f\x67\x2d\x31\x2e\x73\x65\x67>, "\x61\x62", 2, 0) = 2 <0.000013>
7 100.000100 fdatasync(3<\x2f\x6c\x6f\x67\x2d\x31\x2e\x73\x65\x67> <unfinished ...>
8     100.000200 writev(9<\x73\x6f>, [{iov_base="\x63\x64", iov_len=2}, {iov_base="\x65", iov_len=1}], 2) = 3 <0.000014>
7 100.000300 <... fdatasync resumed>) = 0 <0.000200>
8 100.000400 fdatasync(3<\x2f\x78>) = -1 EIO (Input/output error) <0.000001>
8 100.000500 fdatasync(3<\x2f\x78>) = 0 (INJECTED) <0.000001>
7 100.000600 +++ exited with 0 +++"#;
    let trace = Trace::parse(text);
    let names: Vec<_> = trace.calls.iter().map(|call| (call.name.as_str(), call.file.as_str())).collect();
    let expected = [
        ("pwrite64", "/log-1.seg"),
        ("fdatasync", "/log-1.seg"),
        ("writev", "so"),
        ("fdatasync", "/x"),
        ("fdatasync", "/x"),
    ];
    assert_eq!(names, expected);
    let results: Vec<_> =
        trace.calls.iter().map(|call| call.returned.map(|(at, value)| (at.line, value))).collect();
    assert_eq!(results, [Some((1, 2)), Some((4, 0)), Some((3, 3)), Some((5, -1)), None]);
    assert_eq!(trace.calls[2].data, b"cde");
    assert_eq!(trace.durable(b"ab").map(|moment| moment.line), Some(4));
    assert_eq!(trace.sent(b"de", |_| true).map(|moment| moment.line), Some(3));
}
