//! A bounded queue of lines in front of a sink that may block, so that logging never blocks.
//!
//! The reader of a process's stdout can stop reading: for example a stalled log shipper, Docker's blocking
//! log mode or a paused terminal. A write to a full pipe then blocks for ever, and so does everything that
//! logs. So lines are put into a queue, and a separate thread writes them.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::time::{Duration, Instant};

/// The most bytes that may be queued, including the overhead of each line.
pub(super) const CAPACITY: usize = 1 << 20;

/// The memory of a line beside its text.
const LINE_OVERHEAD: usize = mem::size_of::<Line>();

/// How often dropped lines are reported while the reader is still behind.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait before a write is tried again after `WouldBlock`.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The queue in front of a sink. Clones share it.
#[derive(Clone)]
pub(super) struct LineWriter(Arc<SharedQueue>);

/// Which lines are dropped when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Dropped when the queue is full, or to make room for an important line.
    Ordinary,
    /// A warning or an error. It replaces ordinary lines.
    Important,
}

#[derive(Debug, Default)]
struct SharedQueue {
    queue: Mutex<Queue>,
    /// Notified when a line is queued.
    queued: Condvar,
    /// Notified when all lines are written.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    ordinary: VecDeque<Line>,
    important: VecDeque<Line>,
    /// The memory of both.
    bytes: usize,
    /// The sequence number of the next line.
    sequence: u64,
    is_writing: bool,
    dropped: u64,
    /// How many of the dropped lines were reported.
    reported: u64,
}

#[derive(Debug)]
struct Line {
    sequence: u64,
    text: Box<[u8]>,
}

impl LineWriter {
    /// Starts the thread that writes to `sink`. It calls `report` with the number of newly dropped lines when
    /// the reader has caught up, and every ten seconds while it has not.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::<SharedQueue>::default();
        let queue = shared.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || queue.write_all(sink, report))?;
        Ok(Self(shared))
    }

    /// Queues `text`, which ends with a newline. A line is dropped if the queue is full.
    pub(super) fn push(&self, text: &[u8], priority: Priority) {
        self.0.lock().push(text, priority);
        self.0.queued.notify_one();
    }

    /// How many lines were dropped or could not be written.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Waits until all lines are written, but at most `limit`. Returns whether they are.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.is_empty();
        let waited = self
            .0
            .idle
            .wait_timeout_while(self.0.lock(), limit, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl fmt::Debug for LineWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropped = self.dropped();
        f.debug_struct("LineWriter")
            .field("dropped", &dropped)
            .finish()
    }
}

impl SharedQueue {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes queued lines, for ever.
    fn write_all(&self, mut sink: impl Write, report: impl Fn(u64)) {
        let mut last_report: Option<Instant> = None;
        loop {
            let line = self.next();
            let written = write_line(&mut sink, &line.text);
            let dropped = {
                let mut queue = self.lock();
                queue.dropped += u64::from(written.is_err());
                let is_due = queue.is_empty()
                    || last_report.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL);
                // A report would be lost as well if nothing can be written.
                if is_due && written.is_ok() {
                    queue.take_unreported()
                } else {
                    0
                }
            };
            if dropped > 0 {
                last_report = Some(Instant::now());
                report(dropped);
            }
        }
    }

    fn next(&self) -> Line {
        let mut queue = self.lock();
        queue.is_writing = false;
        loop {
            if let Some(line) = queue.pop() {
                queue.is_writing = true;
                return line;
            }
            self.idle.notify_all();
            queue = self
                .queued
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.ordinary.is_empty() && self.important.is_empty()
    }

    fn push(&mut self, text: &[u8], priority: Priority) {
        let size = text.len() + LINE_OVERHEAD;
        // No room can be made for a line that is larger than the whole queue.
        if priority == Priority::Important && size <= CAPACITY {
            self.make_room(size);
        }
        if self.bytes + size > CAPACITY {
            self.dropped += 1;
            return;
        }
        self.bytes += size;
        let line = Line {
            sequence: self.sequence,
            text: text.into(),
        };
        self.sequence += 1;
        match priority {
            Priority::Ordinary => self.ordinary.push_back(line),
            Priority::Important => self.important.push_back(line),
        }
    }

    /// Drops the newest ordinary lines until `size` bytes fit or no ordinary line is left.
    fn make_room(&mut self, size: usize) {
        while self.bytes + size > CAPACITY {
            let Some(line) = self.ordinary.pop_back() else {
                return;
            };
            self.bytes -= line.text.len() + LINE_OVERHEAD;
            self.dropped += 1;
        }
    }

    /// Removes the oldest line.
    fn pop(&mut self) -> Option<Line> {
        let first = |lines: &VecDeque<Line>| lines.front().map_or(u64::MAX, |line| line.sequence);
        let line = if first(&self.important) < first(&self.ordinary) {
            self.important.pop_front()
        } else {
            self.ordinary.pop_front()
        }?;
        self.bytes -= line.text.len() + LINE_OVERHEAD;
        Some(line)
    }

    fn take_unreported(&mut self) -> u64 {
        let unreported = self.dropped - self.reported;
        self.reported = self.dropped;
        unreported
    }
}

/// Writes all of `text`. Another process that shares the pipe may have set it to non-blocking.
fn write_line(sink: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match sink.write(text) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => text = text.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_INTERVAL),
            Err(error) => return Err(error),
        }
    }
    sink.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A sink that accepts a line only when it is told to.
    struct Stalled {
        go: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Stalled {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.go
                .recv()
                .map_err(|_| io::Error::from(ErrorKind::BrokenPipe))?;
            let line = String::from_utf8_lossy(text).into_owned();
            self.written.send(line).unwrap();
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Pipe {
        writer: LineWriter,
        go: Sender<()>,
        written: Receiver<String>,
        reports: Receiver<u64>,
    }

    fn stalled() -> Pipe {
        let (go, wait) = channel();
        let (written, lines) = channel();
        let (report, reports) = channel();
        let sink = Stalled { go: wait, written };
        let writer = LineWriter::start(sink, move |count| report.send(count).unwrap()).unwrap();
        Pipe {
            writer,
            go,
            written: lines,
            reports,
        }
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn nobody_waits_for_a_stalled_sink_and_what_is_dropped_is_told_of_when_it_goes_on() {
        let pipe = stalled();
        let line = [b'x'; 1000];
        for _ in 0..3000 {
            pipe.writer.push(&line, Priority::Ordinary);
        }
        let dropped = pipe.writer.dropped();
        let kept = CAPACITY / (line.len() + LINE_OVERHEAD);
        // The thread may hold one more.
        assert!(
            (2999 - kept as u64..=3000 - kept as u64).contains(&dropped),
            "{dropped}"
        );
        assert!(!pipe.writer.flush(Duration::from_millis(10)));

        (0..3000 - dropped).for_each(|_| pipe.go.send(()).unwrap());
        let told: u64 = pipe.reports.recv_timeout(LIMIT).unwrap();
        let rest: u64 = pipe
            .reports
            .recv_timeout(Duration::from_millis(200))
            .unwrap_or(0);
        assert_eq!(told + rest, dropped);
        assert!(pipe.writer.flush(LIMIT));
        assert_eq!(pipe.written.try_iter().count() as u64, 3000 - dropped);
    }

    #[test]
    fn a_warning_takes_the_room_of_other_lines_and_lines_keep_their_order() {
        let mut queue = Queue::default();
        let line = |text: &str| [text.as_bytes(), &[b' '; 100_000]].concat();
        for text in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"] {
            queue.push(&line(text), Priority::Ordinary);
        }
        queue.push(&line("no room"), Priority::Ordinary);
        queue.push(&line("warning"), Priority::Important);
        assert_eq!(queue.dropped, 2);
        let mut left: Vec<String> = Vec::new();
        while let Some(line) = queue.pop() {
            left.push(String::from_utf8_lossy(&line.text).trim().to_owned());
        }
        assert_eq!(
            left,
            ["1", "2", "3", "4", "5", "6", "7", "8", "9", "warning"]
        );
        assert_eq!(queue.bytes, 0);

        for _ in 0..20 {
            queue.push(&line("warning"), Priority::Important);
        }
        assert_eq!(queue.important.len(), 10, "the first ones stay");
        assert_eq!(queue.dropped, 12);

        let mut queue = Queue::default();
        queue.push(b"1", Priority::Ordinary);
        queue.push(&vec![b' '; CAPACITY], Priority::Important);
        assert_eq!(
            (queue.ordinary.len(), queue.dropped),
            (1, 1),
            "a line that can never fit"
        );
    }

    #[test]
    fn lines_that_cannot_be_written_count_as_dropped() {
        let pipe = stalled();
        drop(pipe.go);
        pipe.writer.push(b"line\n", Priority::Important);
        assert!(pipe.writer.flush(LIMIT));
        assert_eq!(pipe.writer.dropped(), 1);
    }

    #[test]
    fn a_sink_that_takes_a_part_or_nothing_for_now_is_tried_again() {
        struct Odd(Vec<u8>, u32);
        impl Write for Odd {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 % 3 {
                    0 => Err(ErrorKind::Interrupted.into()),
                    1 => Err(ErrorKind::WouldBlock.into()),
                    _ => self.0.write(text.get(..2).unwrap_or(text)),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut sink = Odd(Vec::new(), 0);
        write_line(&mut sink, b"a line\n").unwrap();
        assert_eq!(sink.0, b"a line\n");
    }
}
