//! The entries of a tar archive, one after the other, from any reader: ustar, GNU and pax (POSIX.1-2001) headers, long
//! names, sparse files in all four encodings. Source: tar(5), pax(1), GNU tar's manual.
//!
//! The tar crate takes a header block apart; which block is a header is decided here, so that memory and counts are
//! bounded and every mistake names the entry.

use super::pax::Pax;
use super::sparse;
use drydock_core::{Error, Result};
use std::io::Read;
use tar::{EntryType, Header};

/// A header block, and what data is padded to.
pub const BLOCK: usize = 512;
/// Extended headers and long names, each at most this long.
const MAX_EXTENDED: u64 = 1 << 20;

/// What kind of file an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A further name of a file of the same archive, or of what is there already.
    HardLink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
}

/// One entry. Names are bytes as they stand in the archive.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u64,
    /// Name.
    pub name: Vec<u8>,
    /// Kind.
    pub kind: Kind,
    /// Permission bits, with set-user-ID, set-group-ID and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: i64,
    /// Group.
    pub gid: i64,
    /// Size of the file that it makes, holes included.
    pub size: u64,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// What a link leads to.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offsets and lengths of what is not a hole; `None`: all of it.
    pub segments: Option<Vec<(u64, u64)>>,
}

impl Entry {
    /// How errors name it.
    pub fn shown(&self) -> String {
        shown(self.number, &self.name)
    }

    /// The archive is wrong in this entry.
    pub fn bad(&self, problem: impl Into<String>) -> Error {
        Error::bad_input(self.shown(), problem)
    }
}

fn shown(number: u64, name: &[u8]) -> String {
    let name = drydock_core::text::escape_bytes(name.get(..400).unwrap_or(name));
    format!("entry {number} '{}'", drydock_core::text::shorten(&name, 200))
}

/// Reads entries; see the module.
#[derive(Debug)]
pub struct Tarball<R> {
    input: R,
    /// Bytes read so far.
    at: u64,
    /// Data of the current entry not yet read, and its padding.
    left: u64,
    padding: u64,
    number: u64,
}

impl<R: Read> Tarball<R> {
    /// An archive that begins with the reader's next byte.
    pub fn new(input: R) -> Self {
        Self { input, at: 0, left: 0, padding: 0, number: 0 }
    }

    /// Bytes of the archive read so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The reader, after the end of the archive.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Fills as much of the buffer as there is; less only at the end.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut have = 0;
        while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(super::stream::unwrap(e)),
            }
        }
        self.at += have as u64;
        Ok(have)
    }

    /// Reads the next bytes of the current entry's data; 0 at its end.
    ///
    /// # Errors
    /// The reader's; an archive that ends in the middle.
    pub fn data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let Some(part) = buffer.get_mut(..want) else { return Ok(0) };
        match self.input.read(part) {
            Ok(0) => Err(self.truncated()),
            Ok(n) => {
                self.left -= n as u64;
                self.at += n as u64;
                Ok(n)
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => self.data(buffer),
            Err(e) => Err(super::stream::unwrap(e)),
        }
    }

    fn truncated(&self) -> Error {
        Error::bad_input("archive", format!("ends in the middle of entry {} (truncated)", self.number))
    }

    fn skip(&mut self, mut bytes: u64) -> Result<()> {
        let mut buffer = [0; 16 * BLOCK];
        while bytes > 0 {
            let want = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..want).unwrap_or_default();
            let got = self.fill(part)?;
            if got < want {
                return Err(self.truncated());
            }
            bytes -= got as u64;
        }
        Ok(())
    }

    /// Reads what is left to the end: zeros, as tar pads its archives. Anything else is refused: another program may
    /// read it as further entries.
    ///
    /// # Errors
    /// The reader's; data after the end.
    pub fn finish(&mut self) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let got = self.fill(&mut buffer)?;
            if buffer.get(..got).unwrap_or_default().iter().any(|b| *b != 0) {
                return Err(Error::bad_input("archive", "has data after its end (allowed: zeros)"));
            }
            if got < buffer.len() {
                return Ok(());
            }
        }
    }

    /// The next entry; what was not read of the last one's data is skipped. `None` after the last.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for what is not a tar archive; the reader's.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let rest = self.left.saturating_add(self.padding);
        self.skip(rest)?;
        (self.left, self.padding) = (0, 0);
        let mut pax = Pax::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            self.number += 1;
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader => {
                    let text = self.extended(&header, "extended header")?;
                    pax.add(&text).map_err(|why| Error::bad_input(format!("entry {}", self.number), why))?;
                }
                // Defaults for all that follow: nobody uses them for files but git-archive(1), for a comment.
                EntryType::XGlobalHeader => drop(self.extended(&header, "global header")?),
                EntryType::GNULongName => long_name = Some(until_nul(self.extended(&header, "long name")?)),
                EntryType::GNULongLink => long_link = Some(until_nul(self.extended(&header, "long link")?)),
                _ => return self.entry(&header, &pax, long_name, long_link).map(Some),
            }
            // The file that the headers before it belong to counts, not they.
            self.number -= 1;
        }
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let offset = self.at;
        let mut block = [0; BLOCK];
        let got = self.fill(&mut block)?;
        if got == 0 && self.number > 0 {
            // Without the two blocks of zeros: many programs leave them out.
            return Ok(None);
        }
        if got < BLOCK {
            let what = if self.number == 0 { "not a tar archive" } else { "truncated tar archive" };
            return Err(Error::bad_input("archive", format!("{what} ({got} bytes at {offset})")));
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = |signed: bool| -> i64 {
            let byte = |b: u8| if signed { i64::from(b.cast_signed()) } else { i64::from(b) };
            let all: i64 = block.iter().map(|b| byte(*b)).sum();
            let field: i64 = block.get(148..156).unwrap_or_default().iter().map(|b| byte(*b)).sum();
            all - field + 8 * i64::from(b' ')
        };
        let stored = number(&header.as_old().cksum);
        if stored != Some(sum(false)) && stored != Some(sum(true)) {
            let what = if self.number == 0 { "not a tar archive" } else { "damaged tar archive" };
            return Err(Error::bad_input("archive", format!("{what} (bad checksum at {offset})")));
        }
        Ok(Some(header))
    }

    fn extended(&mut self, header: &Header, what: &str) -> Result<Vec<u8>> {
        let bad = |why: String| Error::bad_input(format!("entry {}", self.number), why);
        let size = number(&header.as_old().size).and_then(|n| u64::try_from(n).ok());
        let size = size.ok_or_else(|| bad(format!("{what} of a size that is no number")))?;
        if size > MAX_EXTENDED {
            return Err(bad(format!("{what} of {size} bytes (allowed: up to {MAX_EXTENDED})")));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        if self.fill(&mut bytes)? < bytes.len() {
            return Err(self.truncated());
        }
        self.skip(padding(size))?;
        Ok(bytes)
    }

    fn entry(
        &mut self,
        header: &Header,
        pax: &Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let name = pax.path.clone().or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let named = shown(self.number, &name);
        let bad = |why: String| Error::bad_input(named.clone(), why);
        let old = header.as_old();
        let field =
            |what: &str, bytes: &[u8]| number(bytes).ok_or_else(|| bad(format!("{what} is not a number")));
        let kind = match header.entry_type() {
            EntryType::Regular if old.linkflag == [0] && name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Char => Kind::Char,
            EntryType::Block => Kind::Block,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            other => {
                let letter = drydock_core::text::escape_bytes(&[other.as_byte()]);
                return Err(bad(format!("unknown type '{letter}' (allowed: 0 to 7, S, x, g, L, K)")));
            }
        };
        let packed = match (kind, pax.size) {
            // Links and nodes have no data, whatever their size says: so has everybody read them.
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => u64::try_from(field("size", &old.size)?)
                .map_err(|_| bad("size is negative (allowed: 0 and more)".into()))?,
            _ => 0,
        };
        self.left = packed;
        self.padding = padding(packed);
        let numbers = match kind {
            Kind::Char | Kind::Block => match header.as_ustar() {
                Some(u) => (field("device number", &u.dev_major)?, field("device number", &u.dev_minor)?),
                None => match header.as_gnu() {
                    Some(g) => (field("device number", &g.dev_major)?, field("device number", &g.dev_minor)?),
                    None => (0, 0),
                },
            },
            _ => (0, 0),
        };
        let device = |n: i64| u32::try_from(n).map_err(|_| bad(format!("device number {n} is out of range")));
        let link = pax.linkpath.clone().or(long_link);
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let mut entry = Entry {
            number: self.number,
            kind,
            mode: u32::try_from(field("mode", &old.mode)? & 0o7777).unwrap_or(0),
            uid: pax.uid.map_or_else(|| field("user id", &old.uid), Ok)?,
            gid: pax.gid.map_or_else(|| field("group id", &old.gid), Ok)?,
            size: packed,
            mtime: match pax.mtime {
                Some(time) => time,
                None => (field("time", &old.mtime)?, 0),
            },
            link: link.unwrap_or_default(),
            device: (device(numbers.0)?, device(numbers.1)?),
            xattrs: pax.xattrs.clone(),
            segments: None,
            name,
        };
        if kind == Kind::File {
            self.holes(header, pax, &mut entry)?;
        }
        if entry.name.is_empty() || entry.name.contains(&0) || entry.link.contains(&0) {
            return Err(entry.bad("has no name, or a NUL byte in it"));
        }
        Ok(entry)
    }

    /// Finds out whether the file is sparse, and where it is not.
    fn holes(&mut self, header: &Header, pax: &Pax, entry: &mut Entry) -> Result<()> {
        let number = entry.number;
        let map = if header.entry_type() == EntryType::GNUSparse {
            let Some(gnu) = header.as_gnu() else { return Err(entry.bad("sparse without a GNU header")) };
            let mut map = sparse::Map::of_gnu(gnu);
            let mut more = gnu.is_extended();
            while more {
                let mut block = [0; BLOCK];
                if self.fill(&mut block)? < BLOCK {
                    return Err(self.truncated());
                }
                more = map.extend(&block).map_err(|why| entry.bad(why))?;
            }
            Some(map)
        } else if let Some((_, size)) = pax.sparse_in_data() {
            let mut map = sparse::Map::sized(size);
            let mut text = sparse::Text::default();
            while !text.complete() {
                let mut block = [0; BLOCK];
                let want = usize::try_from(self.left).unwrap_or(BLOCK).min(BLOCK);
                if want < BLOCK || self.fill(&mut block)? < BLOCK {
                    return Err(Error::bad_input(shown(number, &entry.name), "its sparse map is cut off"));
                }
                self.left -= BLOCK as u64;
                text.add(&block, &mut map).map_err(|why| entry.bad(why))?;
            }
            Some(map)
        } else {
            pax.sparse_map().map_err(|why| entry.bad(why))?
        };
        if let Some(name) = &pax.sparse_name {
            entry.name.clone_from(name);
        }
        if let Some(map) = map {
            let (size, segments) = map.checked(self.left).map_err(|why| entry.bad(why))?;
            entry.size = size;
            entry.segments = Some(segments);
        }
        Ok(())
    }
}

impl<R: Read + std::io::Seek> Tarball<std::io::BufReader<R>> {
    /// Passes over the current entry's data without reading it.
    ///
    /// # Errors
    /// lseek(2)'s.
    pub fn seek_over(&mut self) -> Result<()> {
        let rest = self.left.saturating_add(self.padding);
        let offset = i64::try_from(rest).map_err(|_| self.truncated())?;
        self.input.seek_relative(offset).map_err(|e| Error::call("lseek(archive)", e))?;
        self.at += rest;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

/// Bytes from the end of so much data to the end of its last block.
pub fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// A number of a header: octal digits, or GNU's big-endian two's complement with the first bit set. Empty is 0.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let start = if negative { i128::from(first | 0x80) - 256 } else { i128::from(first & 0x7f) };
        let mut value = start;
        for byte in rest {
            value = (value << 8) | i128::from(*byte);
            if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    let text = field.get(..end)?.trim_ascii();
    if text.is_empty() {
        return Some(0);
    }
    i64::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok().filter(|n| *n >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b" 644 \0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0"), Some(0));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b"9"), None);
    }

    #[test]
    fn an_entry_and_its_data() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o640);
        builder.append_data(&mut header, "a/".to_string() + &"b".repeat(150), &b"hello"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        let mut tarball = Tarball::new(&bytes[..]);
        let entry = tarball.next_entry().unwrap().unwrap();
        assert_eq!((entry.number, entry.name.len(), entry.size, entry.mode), (1, 152, 5, 0o640));
        let mut data = [0; 9];
        assert_eq!(tarball.data(&mut data).unwrap(), 5);
        assert_eq!(&data[..5], b"hello");
        assert!(tarball.next_entry().unwrap().is_none());
        tarball.finish().unwrap();
    }

    #[test]
    fn every_cut_and_every_flip_is_survived() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(600);
        builder.append_data(&mut header, "x", &[7; 600][..]).unwrap();
        let good = builder.into_inner().unwrap();
        let read = |bytes: &[u8]| {
            let mut tarball = Tarball::new(bytes);
            while let Ok(Some(_)) = tarball.next_entry() {}
        };
        (0..good.len()).step_by(7).for_each(|end| read(&good[..end]));
        for at in 0..BLOCK {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            read(&bad);
        }
    }
}
