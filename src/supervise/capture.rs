//! What services print, line by line into the log; bounded in memory, in length and in rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::secret::Secret;

/// A longer line is cut.
const MAX_LINE_BYTES: usize = 4096;
/// Lines of one run that are logged in one [`WINDOW`]; those beyond are counted.
const LINES_PER_WINDOW: u32 = 200;
const WINDOW: Duration = Duration::from_secs(1);
/// Lines kept for the report of a failure.
const TAIL_LINES: usize = 50;
/// A kept line is cut shorter than a logged one.
const MAX_TAIL_LINE_BYTES: usize = 512;
/// In place of a secret.
const REDACTED: &str = "<redacted>";

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One thing to log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Line(Stream, String),
    /// So many lines were not logged since the last entry of this kind.
    Dropped(u64),
}

/// The output of one run.
pub(super) struct Capture {
    partial: [Partial; 2],
    window: Instant,
    used: u32,
    dropped: u64,
    tail: VecDeque<String>,
    last_complaint: Option<String>,
    /// What must not be shown.
    secrets: Vec<Secret<String>>,
}

#[derive(Default)]
struct Partial {
    bytes: Vec<u8>,
    /// More came than is kept, or an earlier part of the line is gone.
    cut: bool,
}

impl Partial {
    fn extend(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES.saturating_sub(self.bytes.len());
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn finish(&mut self, secrets: &[Secret<String>]) -> String {
        let mut line = clean(&self.bytes, secrets, self.cut);
        if self.cut {
            line.push('…');
        }
        self.bytes.clear();
        self.cut = false;
        line
    }
}

/// Printable text only: control characters could forge log lines or drive a terminal. Without secrets that the service knows,
/// nor the beginning of one where the line was cut off.
fn clean(bytes: &[u8], secrets: &[Secret<String>], cut: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    let mut text: String =
        text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect();
    for secret in secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), REDACTED);
        let begun = (1..secret.len()).rev().filter_map(|length| secret.get(..length));
        if cut && let Some(begun) = begun.into_iter().find(|begun| text.ends_with(begun)) {
            text.truncate(text.len() - begun.len());
            text.push_str(REDACTED);
        }
    }
    text
}

impl Capture {
    pub(super) fn new(now: Instant, secrets: Vec<Secret<String>>) -> Self {
        Self {
            secrets,
            partial: Default::default(),
            window: now,
            used: 0,
            dropped: 0,
            tail: VecDeque::new(),
            last_complaint: None,
        }
    }

    /// Takes what was read, and gives what is to be logged.
    pub(super) fn take(&mut self, stream: Stream, bytes: &[u8], now: Instant) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.turn_window(now, &mut entries);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            if self.is_flooded() {
                // Not looked at one by one; the last complete line is kept for the tail.
                let last = rest.iter().rposition(|byte| *byte == b'\n').unwrap_or(end);
                let whole = &rest[..last];
                let begin = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let count = rest.iter().filter(|byte| **byte == b'\n').count();
                self.dropped = self.dropped.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                let partial = &mut self.partial[index(stream)];
                if begin > 0 {
                    partial.bytes.clear();
                    partial.cut = false;
                }
                partial.extend(&whole[begin..]);
                let line = partial.finish(&self.secrets);
                self.keep(stream, &line);
                rest = &rest[last + 1..];
                break;
            }
            let partial = &mut self.partial[index(stream)];
            partial.extend(&rest[..end]);
            let line = partial.finish(&self.secrets);
            rest = &rest[end + 1..];
            if line.is_empty() {
                continue;
            }
            self.used += 1;
            self.keep(stream, &line);
            entries.push(Entry::Line(stream, line));
        }
        self.partial[index(stream)].extend(rest);
        entries
    }

    /// The stream has ended: its last line may lack a newline.
    pub(super) fn end(&mut self, stream: Stream, now: Instant) -> Vec<Entry> {
        let unfinished = !self.partial[index(stream)].bytes.is_empty();
        let mut entries = if unfinished { self.take(stream, b"\n", now) } else { Vec::new() };
        if self.dropped > 0 {
            entries.push(Entry::Dropped(std::mem::take(&mut self.dropped)));
        }
        entries
    }

    /// Whether more came in this window than is logged.
    pub(super) fn is_flooded(&self) -> bool {
        self.used >= LINES_PER_WINDOW
    }

    /// The last line on stderr, one that is not finished included.
    pub(super) fn last_complaint(&self) -> Option<String> {
        let unfinished = clean(&self.partial[index(Stream::Stderr)].bytes, &self.secrets, true);
        if unfinished.is_empty() { self.last_complaint.clone() } else { Some(short(&unfinished)) }
    }

    /// The last lines of both streams.
    pub(super) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    fn turn_window(&mut self, now: Instant, entries: &mut Vec<Entry>) {
        if now.duration_since(self.window) >= WINDOW {
            (self.window, self.used) = (now, 0);
            if self.dropped > 0 {
                entries.push(Entry::Dropped(std::mem::take(&mut self.dropped)));
            }
        }
    }

    fn keep(&mut self, stream: Stream, line: &str) {
        let line = short(line);
        if stream == Stream::Stderr {
            self.last_complaint = Some(line.clone());
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

fn short(line: &str) -> String {
    line[..line.floor_char_boundary(MAX_TAIL_LINE_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Entry {
        Entry::Line(Stream::Stderr, text.to_owned())
    }

    #[test]
    fn lines_are_put_together_from_any_chunks_and_cleaned() {
        let now = Instant::now();
        let mut capture = Capture::new(now, Vec::new());
        assert_eq!(capture.take(Stream::Stderr, b"fir", now), []);
        assert_eq!(capture.take(Stream::Stdout, b"other\n", now).len(), 1);
        let entries = capture.take(Stream::Stderr, b"st\r\n\x1b[31mred\x07\tink\n\nlast", now);
        assert_eq!(entries, [line("first"), line("[31mred ink")]);
        assert_eq!(capture.last_complaint().as_deref(), Some("last"));
        assert_eq!(capture.end(Stream::Stderr, now), [line("last")]);
        assert_eq!(capture.tail(), ["other", "first", "[31mred ink", "last"]);
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory_and_is_marked_as_cut() {
        let now = Instant::now();
        let mut capture = Capture::new(now, Vec::new());
        for _ in 0..1000 {
            assert_eq!(capture.take(Stream::Stderr, &[b'x'; 1000], now), []);
        }
        assert!(capture.partial[1].bytes.capacity() <= 2 * MAX_LINE_BYTES);
        assert_eq!(capture.take(Stream::Stderr, b"\n", now), [line(&("x".repeat(4096) + "…"))]);
    }

    #[test]
    fn beyond_the_rate_lines_are_counted_said_once_a_second_and_the_last_is_kept() {
        let now = Instant::now();
        let mut capture = Capture::new(now, Vec::new());
        let flood: String = (0..1000).map(|n| format!("{n}\n")).collect();
        assert_eq!(capture.take(Stream::Stderr, flood.as_bytes(), now).len(), 200);
        assert!(capture.is_flooded());
        assert_eq!(capture.take(Stream::Stderr, b"a\nb\nbegun ", now), []);
        assert_eq!(capture.last_complaint().as_deref(), Some("begun"));
        let later = now + Duration::from_secs(1);
        let entries = capture.take(Stream::Stderr, b"and ended\n", later);
        assert_eq!(entries, [Entry::Dropped(802), line("begun and ended")]);
        assert_eq!(capture.tail().len(), 50);
    }

    #[test]
    fn a_secret_that_a_service_prints_is_not_shown_whole_cut_or_unfinished() {
        let now = Instant::now();
        let mut capture = Capture::new(now, vec![Secret::new("k3y-canary".to_owned())]);
        let entries = capture.take(Stream::Stderr, b"argv: --api-key=k3y-canary --x\n", now);
        assert_eq!(entries, [Entry::Line(Stream::Stderr, "argv: --api-key=<redacted> --x".to_owned())]);
        let mut long = vec![b'x'; MAX_LINE_BYTES - 5];
        long.extend_from_slice(b"k3y-canary\n");
        let Entry::Line(_, line) = capture.take(Stream::Stderr, &long, now).remove(0) else { panic!() };
        assert!(line.ends_with("xxx<redacted>…"), "{}", &line[MAX_LINE_BYTES - 20..]);
        capture.take(Stream::Stderr, b"at last k3y-can", now);
        assert_eq!(capture.last_complaint().as_deref(), Some("at last <redacted>"));
        assert!(!capture.tail().concat().contains("k3y"));
    }
}
