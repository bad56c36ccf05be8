//! The output of several containers on one terminal: each line behind its service's name.

use drydock_core::error::CallExt;
use drydock_core::{Result, text};
use drydock_supervise::log::{Line, Stream, read_lines};
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// ANSI foreground colours that can be read on dark and on light.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Prints lines.
#[derive(Debug)]
pub struct Printer {
    prefixes: Vec<String>,
    colour: [bool; 2],
    /// Whose line is not finished, on each stream.
    open: [Option<usize>; 2],
}

impl Printer {
    /// For these services.
    pub fn new(names: &[&str]) -> Self {
        let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
        Self {
            prefixes: names.iter().map(|name| format!("{:<width$} | ", text::escape(name))).collect(),
            colour: [drydock_cli::output::colour_on_stdout(), drydock_cli::output::colour_on_stderr()],
            open: [None, None],
        }
    }

    /// One line, or a part of one, on the stream that it came from. The container's bytes are passed on as they are.
    ///
    /// # Errors
    /// When the caller's stream cannot be written.
    pub fn print(&mut self, service: usize, line: &Line) -> Result<()> {
        let number = usize::from(line.stream == Stream::Stderr);
        let (Some(open), Some(colour)) = (self.open.get_mut(number), self.colour.get(number)) else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        if *open != Some(service) {
            if open.is_some() {
                bytes.push(b'\n');
            }
            let prefix = self.prefixes.get(service).map_or("", String::as_str);
            match COLOURS.get(service % COLOURS.len()).filter(|_| *colour) {
                Some(number) => bytes.extend_from_slice(format!("\x1b[{number}m{prefix}\x1b[0m").as_bytes()),
                None => bytes.extend_from_slice(prefix.as_bytes()),
            }
        }
        bytes.extend_from_slice(&line.bytes);
        *open = if line.bytes.last() == Some(&b'\n') { None } else { Some(service) };
        write(line.stream, &bytes)
    }

    /// Ends lines that nobody has ended.
    pub fn finish(&mut self) {
        for (open, stream) in self.open.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            if open.take().is_some() {
                let _ = write(stream, b"\n");
            }
        }
    }
}

fn write(stream: Stream, bytes: &[u8]) -> Result<()> {
    let written = match stream {
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Stderr => std::io::stderr().lock().write_all(bytes),
    };
    written.call(|| "write(output)").map_err(|e| e.on("stdout"))
}

/// A container's log, read as it grows.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    offset: u64,
}

impl Follower {
    /// Of the container with this state directory.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(crate::attach::LOG), reader: None, offset: 0 }
    }

    /// The lines that came since the last time.
    ///
    /// # Errors
    /// lseek(2)'s and read(2)'s.
    pub fn lines(&mut self) -> Result<Vec<Line>> {
        if self.reader.is_none() {
            // The supervisor makes it a moment after the container runs.
            self.reader = File::open(&self.path).ok().map(BufReader::new);
        }
        let mut lines = Vec::new();
        if let Some(reader) = &mut self.reader {
            reader.seek(SeekFrom::Start(self.offset)).call(|| "lseek(log)")?;
            self.offset += read_lines(reader, |line| lines.push(line))?;
        }
        Ok(lines)
    }
}
