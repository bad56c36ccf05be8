//! A container's log file, in the CRI log format that kubelet and crictl read:
//! `2026-01-02T03:04:05.678901234Z stdout F the line`. `P` marks a part of a line that was longer than a buffer.

use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use rustix::fs::{FallocateFlags, SeekFrom};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest piece that is kept before a newline comes.
const MAX_LINE: usize = 16 * 1024;
/// A longer stretch without a newline is no line of ours.
const MAX_RECORD: u64 = 64 * 1024;
/// The last output that is always kept, in bytes of the file. Twice as much may be held: the state directory is in
/// memory, and a container must not fill it.
const KEPT: u64 = 16 << 20;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output (and a terminal's).
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Writes a log file line by line; at most one unfinished line per stream is kept in memory.
#[derive(Debug)]
pub struct Writer {
    file: File,
    pending: [Vec<u8>; 2],
    /// The file's length, and where what is still kept begins.
    size: u64,
    kept_from: u64,
}

impl Writer {
    /// Creates the file, 0600; never through a link.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(path)
            .call(|| format!("open({path:?}, O_APPEND|O_CREAT)"))?;
        let size = file.metadata().call(|| format!("fstat({path:?})"))?.len();
        Ok(Self { file, pending: [Vec::new(), Vec::new()], size, kept_from: 0 })
    }

    /// Takes a piece of output. A full disk loses log lines, never the container.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let [out, err] = &mut self.pending;
        let pending = if stream == Stream::Stdout { out } else { err };
        let mut record = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            pending.extend_from_slice(piece);
            let complete = pending.last() == Some(&b'\n');
            if complete || pending.len() >= MAX_LINE {
                line(&mut record, stream, pending);
                pending.clear();
            }
        }
        self.write(&record);
    }

    /// Writes what has no newline yet.
    pub fn finish(&mut self) {
        let mut record = Vec::new();
        for (stream, pending) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&mut self.pending) {
            if !pending.is_empty() {
                line(&mut record, stream, pending);
                pending.clear();
            }
        }
        self.write(&record);
    }
}

impl Writer {
    /// Appends, and gives the memory of the oldest output back: a hole, so that readers' offsets stay what they are.
    fn write(&mut self, record: &[u8]) {
        if self.file.write_all(record).is_err() {
            self.size = self.file.metadata().map_or(self.size, |meta| meta.len());
            return;
        }
        self.size += record.len() as u64;
        if self.size - self.kept_from.min(self.size) < 2 * KEPT {
            return;
        }
        let until = (self.size - KEPT) / 4096 * 4096;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&self.file, flags, 0, until).is_ok() {
            self.kept_from = until;
        } else if self.file.set_len(0).is_ok() {
            // A file system without holes: better all of it than the machine's memory.
            (self.size, self.kept_from) = (0, 0);
        }
    }
}

/// Where what is kept begins, at `offset` or after it.
pub fn kept_from(file: &File, offset: u64) -> u64 {
    rustix::fs::seek(file, SeekFrom::Data(offset)).unwrap_or(offset)
}

fn line(record: &mut Vec<u8>, stream: Stream, bytes: &[u8]) {
    let (text, tag) = match bytes.strip_suffix(b"\n") {
        Some(text) => (text, 'F'),
        None => (bytes, 'P'),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    // Writing to a Vec cannot fail.
    let _ = write!(record, "{} {} {tag} ", timestamp(now), stream.name());
    record.extend_from_slice(text);
    record.push(b'\n');
}

/// RFC 3339 in UTC with nanoseconds.
pub fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date: eras of 400 years that begin in March, so that leap days come last.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        since_epoch.subsec_nanos()
    )
}

/// One log line read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// RFC 3339.
    pub time: String,
    /// Which stream.
    pub stream: Stream,
    /// The bytes, with a newline if the line was whole.
    pub bytes: Vec<u8>,
}

/// Parses one line of the file; `None` if it is not in the format.
pub fn parse_line(bytes: &[u8]) -> Option<Line> {
    let mut parts = bytes.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?.to_string();
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let whole = match parts.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let mut text = parts.next()?.to_vec();
    if whole {
        text.push(b'\n');
    }
    Some(Line { time, stream, bytes: text })
}

/// Reads lines from where `reader` stands; stops at the end or at a line that is still being written, whose length in
/// bytes is left unread (the second value is what was consumed).
///
/// # Errors
/// read(2)'s.
pub fn read_lines(reader: &mut impl BufRead, mut each: impl FnMut(Line)) -> Result<u64> {
    let mut consumed = 0;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let mut bounded = reader.by_ref().take(MAX_RECORD);
        let n = bounded.read_until(b'\n', &mut buffer).map_err(|e| Error::call("read(log)", e))?;
        if n as u64 == MAX_RECORD {
            // A part that is not kept any more, or not ours.
            consumed += MAX_RECORD;
            continue;
        }
        if n == 0 || buffer.last() != Some(&b'\n') {
            return Ok(consumed);
        }
        consumed += n as u64;
        buffer.pop();
        if let Some(line) = parse_line(&buffer) {
            each(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        assert_eq!(timestamp(Duration::ZERO), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(Duration::new(951_782_400, 5)), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(timestamp(Duration::from_secs(1_795_305_600)), "2026-11-22T00:00:00.000000000Z");
    }

    #[test]
    fn a_flood_keeps_its_end_and_gives_its_beginning_back() {
        use std::os::unix::fs::MetadataExt;
        let path = std::env::temp_dir().join(format!("drydock-log-flood-{}", std::process::id()));
        let mut writer = Writer::create(&path).unwrap();
        let line = [vec![b'x'; 8000], vec![b'\n']].concat();
        for _ in 0..12_000 {
            writer.take(Stream::Stdout, &line);
        }
        writer.take(Stream::Stdout, b"last\n");
        let file = File::open(&path).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 < 2 * KEPT + (1 << 20));
        for begin in [0, kept_from(&file, 0)] {
            let mut reader = std::io::BufReader::new(&file);
            std::io::Seek::seek(&mut reader, std::io::SeekFrom::Start(begin)).unwrap();
            let (mut count, mut last) = (0, Vec::new());
            read_lines(&mut reader, |line| (count, last) = (count + 1, line.bytes)).unwrap();
            assert!((2000..5000).contains(&count) && last == b"last\n", "{count} from {begin}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn lines_survive_the_file() {
        let path = std::env::temp_dir().join(format!("drydock-log-{}", std::process::id()));
        let mut writer = Writer::create(&path).unwrap();
        writer.take(Stream::Stdout, b"one\ntw");
        writer.take(Stream::Stderr, b"err\n");
        writer.take(Stream::Stdout, b"o\nend");
        writer.finish();
        let mut lines = Vec::new();
        let mut reader = std::io::BufReader::new(File::open(&path).unwrap());
        read_lines(&mut reader, |line| lines.push((line.stream, line.bytes))).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            lines,
            [
                (Stream::Stdout, b"one\n".to_vec()),
                (Stream::Stderr, b"err\n".to_vec()),
                (Stream::Stdout, b"two\n".to_vec()),
                (Stream::Stdout, b"end".to_vec())
            ]
        );
    }

    #[test]
    fn long_lines_are_cut() {
        let path = std::env::temp_dir().join(format!("drydock-log-long-{}", std::process::id()));
        let mut writer = Writer::create(&path).unwrap();
        writer.take(Stream::Stdout, &vec![b'x'; MAX_LINE * 3]);
        writer.finish();
        let size = std::fs::metadata(&path).unwrap().len();
        std::fs::remove_file(&path).unwrap();
        assert!(size > (MAX_LINE * 3) as u64);
    }
}
