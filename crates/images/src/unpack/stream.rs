//! A layer's bytes on their way to the unpacker: read and hashed, decompressed, hashed again, each in a thread of its own,
//! with a few chunks between them. Memory is bounded by the chunks and by the decompressor's window.

use drydock_core::{Error, Result};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Bytes between two threads at a time, and how many such chunks may wait.
const CHUNK: usize = 512 << 10;
const WAITING: usize = 6;
/// The decompressor's window, at most 128 MiB: what zstd(1) takes without --long=31.
const WINDOW_LOG: u32 = 27;
/// What xz may use.
const XZ_MEMORY: u64 = 128 << 20;
/// A ratio says nothing about small layers.
const RATIO_FROM: u64 = 32 << 20;

/// How a layer is compressed. Known by its first bytes, never by what a manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz format.
    Xz,
}

impl Compression {
    /// By the first bytes of a file.
    ///
    /// # Errors
    /// What others compress with and we do not read.
    pub fn of(start: &[u8]) -> Result<Self> {
        let is = |magic: &[u8]| start.starts_with(magic);
        let bad = |what: &str| {
            let problem = format!("{what} (allowed: tar, plain or compressed by gzip, zstd or xz)");
            Err(Error::bad_input("archive", problem))
        };
        if is(&[0x1f, 0x8b]) {
            Ok(Self::Gzip)
        } else if is(&[0x28, 0xb5, 0x2f, 0xfd])
            || (start.get(1..4) == Some(&[0x2a, 0x4d, 0x18])
                && start.first().is_some_and(|b| b & 0xf0 == 0x50))
        {
            Ok(Self::Zstd)
        } else if is(b"\xfd7zXZ\0") {
            Ok(Self::Xz)
        } else if is(b"BZh") {
            bad("is compressed by bzip2")
        } else if is(b"PK\x03\x04") {
            bad("is a zip archive")
        } else if is(&[0x04, 0x22, 0x4d, 0x18]) {
            bad("is compressed by lz4")
        } else if start.is_empty() {
            bad("is empty")
        } else {
            Ok(Self::None)
        }
    }

    /// As media types end.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
            Self::Xz => "+xz",
        }
    }
}

/// What has been read when all has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// SHA-256 of the file as it is, and its size.
    pub blob: String,
    /// Bytes of it.
    pub size: u64,
    /// SHA-256 of the tar archive in it: the layer's diff id.
    pub diff: String,
    /// Bytes of that.
    pub diff_size: u64,
}

/// The tar archive in a file that may be compressed.
#[derive(Debug)]
pub struct Stream {
    chunks: Option<Receiver<Message>>,
    spent: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    sums: Option<Sums>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Chunk(Vec<u8>),
    End(Sums),
    Failed(Error),
}

/// SHA-256 and length of what passes through.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    size: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        self.size += n as u64;
        Ok(n)
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// An error of ours that went through a reader, or the reader's own.
pub fn unwrap(error: std::io::Error) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return match error.into_inner().map(|inner| inner.downcast::<Error>()) {
            Some(Ok(ours)) => *ours,
            _ => Error::failed("archive", "cannot be read"),
        };
    }
    Error::call("read(archive)", error)
}

impl Stream {
    /// Starts reading. `max_ratio`: how many times larger the archive may be than the file.
    ///
    /// # Errors
    /// The file's; a compression that is not known.
    pub fn new(mut file: impl Read + Send + 'static, max_ratio: u64) -> Result<Self> {
        let mut start = vec![0; 8];
        let mut have = 0;
        while let Some(rest) = start.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match file.read(rest) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unwrap(e)),
            }
        }
        start.truncate(have);
        let compression = Compression::of(&start)?;
        let input = Hashing { inner: std::io::Cursor::new(start).chain(file), hash: Sha256::new(), size: 0 };
        let (spent, empty) = channel();
        let (sender, chunks) = sync_channel(WAITING);
        let mut threads = Vec::new();
        if compression == Compression::None {
            threads.push(std::thread::spawn(move || pump(input, &sender, &empty)));
        } else {
            let (packed, unpacked) = sync_channel(WAITING);
            threads.push(std::thread::spawn(move || inflate(compression, input, max_ratio, &packed, &empty)));
            threads.push(std::thread::spawn(move || check(&unpacked, &sender)));
        }
        Ok(Self { chunks: Some(chunks), spent, current: Vec::new(), at: 0, sums: None, threads })
    }

    /// Digests and sizes, once everything has been read.
    pub fn sums(&self) -> Option<&Sums> {
        self.sums.as_ref()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at >= self.current.len() {
            if self.sums.is_some() {
                return Ok(0);
            }
            let Some(chunks) = &self.chunks else { return Ok(0) };
            match chunks.recv() {
                Ok(Message::Chunk(chunk)) => {
                    let old = std::mem::replace(&mut self.current, chunk);
                    // Nobody to take it back at the end.
                    let _ = self.spent.send(old);
                    self.at = 0;
                }
                Ok(Message::End(sums)) => self.sums = Some(sums),
                Ok(Message::Failed(error)) => return Err(std::io::Error::other(error)),
                Err(_) => return Err(std::io::Error::other("a thread has ended early")),
            }
        }
        let rest = self.current.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n;
        Ok(n)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // With nobody to send to, the threads end.
        drop(self.chunks.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A buffer to fill: one that has been used, or a new one.
fn buffer(empty: &Receiver<Vec<u8>>) -> Vec<u8> {
    let mut buffer = empty.try_recv().unwrap_or_default();
    buffer.resize(CHUNK, 0);
    buffer
}

fn fill(input: &mut impl Read, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut have = 0;
    while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(have);
    Ok(())
}

/// Not compressed: one digest is both.
fn pump<R: Read>(mut input: Hashing<R>, to: &SyncSender<Message>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = buffer(empty);
        if let Err(error) = fill(&mut input, &mut chunk) {
            let _ = to.send(Message::Failed(unwrap(error)));
            return;
        }
        if chunk.is_empty() {
            let (size, digest) = (input.size, hex(input.hash));
            let sums = Sums { blob: digest.clone(), size, diff: digest, diff_size: size };
            let _ = to.send(Message::End(sums));
            return;
        }
        if to.send(Message::Chunk(chunk)).is_err() {
            return;
        }
    }
}

fn inflate<R: Read>(
    compression: Compression,
    mut input: Hashing<R>,
    max_ratio: u64,
    to: &SyncSender<Message>,
    empty: &Receiver<Vec<u8>>,
) {
    let result = match compression {
        Compression::None => Ok(()),
        Compression::Gzip => {
            let reader = BufReader::with_capacity(128 << 10, &mut input);
            chunks(&mut Members::new(reader), |d| d.read_so_far(), max_ratio, to, empty)
        }
        Compression::Zstd => match zstd(&mut input) {
            Ok(mut decoder) => chunks(&mut decoder, |d| d.get_ref().get_ref().size, max_ratio, to, empty),
            Err(e) => Err(e),
        },
        Compression::Xz => {
            match liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED) {
                Ok(stream) => {
                    let reader = BufReader::with_capacity(128 << 10, &mut input);
                    let mut decoder = liblzma::bufread::XzDecoder::new_stream(reader, stream);
                    chunks(&mut decoder, |d| d.get_ref().get_ref().size, max_ratio, to, empty)
                }
                Err(e) => Err(Some(Error::failed("xz", e.to_string()))),
            }
        }
    };
    match result {
        // The receiver is gone.
        Err(None) => {}
        Err(Some(error)) => drop(to.send(Message::Failed(error))),
        Ok(()) => {
            let (size, blob) = (input.size, hex(input.hash));
            let _ = to.send(Message::End(Sums { blob, size, diff: String::new(), diff_size: 0 }));
        }
    }
}

/// The members of a gzip file, one after the other (RFC 1952, 2.2); after the last one there may be zeros, as gzip(1)
/// has it, and nothing else.
struct Members<'a, R: Read>(Option<flate2::bufread::GzDecoder<BufReader<&'a mut Hashing<R>>>>);

impl<'a, R: Read> Members<'a, R> {
    fn new(input: BufReader<&'a mut Hashing<R>>) -> Self {
        Self(Some(flate2::bufread::GzDecoder::new(input)))
    }

    fn read_so_far(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, |d| d.get_ref().get_ref().size)
    }
}

impl<R: Read> Read for Members<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let n = member.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            let Some(mut input) = self.0.take().map(flate2::bufread::GzDecoder::into_inner) else { break };
            match input.fill_buf()?.first() {
                None => break,
                Some(0x1f) => self.0 = Some(flate2::bufread::GzDecoder::new(input)),
                Some(_) => loop {
                    let rest = input.fill_buf()?;
                    let length = rest.len();
                    if length == 0 {
                        return Ok(0);
                    }
                    if rest.iter().any(|b| *b != 0) {
                        return Err(std::io::Error::other(Error::bad_input(
                            "archive",
                            "has data after the end of its gzip stream (allowed: zeros)",
                        )));
                    }
                    input.consume(length);
                },
            }
        }
        Ok(0)
    }
}

type Zstd<'a, R> = zstd::stream::read::Decoder<'static, BufReader<&'a mut Hashing<R>>>;

fn zstd<R: Read>(input: &mut Hashing<R>) -> Result<Zstd<'_, R>, Option<Error>> {
    let reader = BufReader::with_capacity(zstd::zstd_safe::DCtx::in_size(), input);
    let made = zstd::stream::read::Decoder::with_buffer(reader).and_then(|mut decoder| {
        decoder.window_log_max(WINDOW_LOG)?;
        Ok(decoder)
    });
    made.map_err(|e| Some(Error::failed("zstd", e.to_string())))
}

/// Sends what a decoder gives. `Err(None)`: nobody receives.
fn chunks<D: Read>(
    decoder: &mut D,
    read: impl Fn(&D) -> u64,
    max_ratio: u64,
    to: &SyncSender<Message>,
    empty: &Receiver<Vec<u8>>,
) -> Result<(), Option<Error>> {
    let mut total: u64 = 0;
    loop {
        let mut chunk = buffer(empty);
        fill(decoder, &mut chunk).map_err(|e| Some(damaged(e)))?;
        if chunk.is_empty() {
            return Ok(());
        }
        total += chunk.len() as u64;
        let packed = read(decoder);
        if total > RATIO_FROM && total / packed.max(1) > max_ratio {
            let problem = format!(
                "expands more than {max_ratio} times: {packed} bytes have become {total} (allowed: {max_ratio}:1)"
            );
            return Err(Some(Error::bad_input("archive", problem).hint("--max-ratio N, if you trust it")));
        }
        to.send(Message::Chunk(chunk)).map_err(|_| None)?;
    }
}

fn damaged(error: std::io::Error) -> Error {
    use std::io::ErrorKind as K;
    if error.raw_os_error().is_some() || error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return unwrap(error);
    }
    let text = error.to_string();
    let problem = if text.contains("too much memory") {
        format!("needs a window of more than {} MiB (allowed: up to that)", (1_u64 << WINDOW_LOG) >> 20)
    } else if error.kind() == K::UnexpectedEof || text.contains("incomplete frame") {
        "is cut off (truncated compressed data)".to_string()
    } else {
        format!("is damaged: {}", drydock_core::text::escape(&text))
    };
    Error::bad_input("archive", problem)
}

/// Hashes the archive on its way.
fn check(from: &Receiver<Message>, to: &SyncSender<Message>) {
    let mut hash = Sha256::new();
    let mut size = 0;
    for message in from {
        let message = match message {
            Message::Chunk(chunk) => {
                hash.update(&chunk);
                size += chunk.len() as u64;
                Message::Chunk(chunk)
            }
            Message::End(sums) => Message::End(Sums { diff: hex(hash.clone()), diff_size: size, ..sums }),
            failed @ Message::Failed(_) => failed,
        };
        if to.send(message).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(bytes: Vec<u8>, ratio: u64) -> Result<(Vec<u8>, Sums)> {
        let mut stream = Stream::new(std::io::Cursor::new(bytes), ratio)?;
        let mut out = Vec::new();
        stream.read_to_end(&mut out).map_err(unwrap)?;
        Ok((out, stream.sums().unwrap().clone()))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn each_compression_gives_the_same_and_its_digests() {
        let text = b"what a layer holds".repeat(1000);
        let plain = all(text.clone(), 200).unwrap();
        assert_eq!(plain.1.blob, plain.1.diff);
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&text).unwrap();
        let two = [gzip(&text[..100]), gzip(&text[100..])].concat();
        for packed in [gzip(&text), two, zstd::encode_all(&text[..], 1).unwrap(), xz.finish().unwrap()] {
            let (out, sums) = all(packed.clone(), 200).unwrap();
            assert_eq!(out, text);
            assert_eq!((&sums.diff, sums.diff_size), (&plain.1.diff, text.len() as u64));
            assert_eq!(sums.size, packed.len() as u64);
            // Cut off, and flipped.
            assert_eq!(all(packed[..packed.len() - 3].to_vec(), 200).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn bombs_and_junk() {
        let bomb = zstd::encode_all(&vec![0; 80 << 20][..], 1).unwrap();
        assert!(all(bomb, 200).unwrap_err().to_string().contains("200:1"));
        let mut junk = gzip(b"x");
        junk.extend(b"junk");
        assert_eq!(all(junk, 200).unwrap_err().exit_code(), 2);
        for other in [&b"BZh91AY"[..], b"PK\x03\x04....", b""] {
            assert_eq!(all(other.to_vec(), 200).unwrap_err().exit_code(), 2);
        }
    }
}
