//! Extended headers: `LENGTH KEY=VALUE\n` records before a file. Source: pax(1), "pax Interchange Format".

use super::sparse::{MAX_SEGMENTS, Map};

/// What a file's extended header says; later records win.
#[derive(Debug, Default)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `GNU.sparse.name`: the real name, where `path` is one for programs that do not know sparse files.
    pub sparse_name: Option<Vec<u8>>,
    major_minor: (u32, u32),
    real_size: Option<u64>,
    /// Formats 0.0 and 0.1: offsets and lengths in turns.
    numbers: Vec<u64>,
}

/// Prefix of the records that hold extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

impl Pax {
    /// Reads the records of one extended header.
    pub fn add(&mut self, mut text: &[u8]) -> Result<(), String> {
        while !text.is_empty() {
            // Some writers pad with NULs.
            if text.iter().all(|b| *b == 0) {
                break;
            }
            let wrong = || "extended header: not LENGTH KEY=VALUE".to_string();
            let space = text.iter().take(20).position(|b| *b == b' ').ok_or_else(wrong)?;
            let length = text.get(..space).and_then(decimal).ok_or_else(wrong)?;
            let length = usize::try_from(length).map_err(|_| wrong())?;
            if length > text.len() || length <= space + 1 {
                return Err(wrong());
            }
            let (record, rest) = text.split_at(length);
            let record = record.get(space + 1..).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(wrong)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            let (key, value) = record.split_at(equals);
            self.record(key, value.get(1..).unwrap_or_default())?;
            text = rest;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let wrong = || {
            let shown = |b: &[u8]| drydock_core::text::shorten(&drydock_core::text::escape_bytes(b), 60);
            format!("extended header: {}='{}' (allowed: a number)", shown(key), shown(value))
        };
        let id = || decimal(value).and_then(|n| i64::try_from(n).ok()).ok_or_else(wrong);
        let count = || decimal(value).ok_or_else(wrong);
        match key {
            b"path" => self.path = Some(value.to_vec()).filter(|v| !v.is_empty()),
            b"linkpath" => self.linkpath = Some(value.to_vec()),
            b"size" => self.size = Some(count()?),
            b"uid" => self.uid = Some(id()?),
            b"gid" => self.gid = Some(id()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(wrong)?),
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.major" => self.major_minor.0 = u32::try_from(count()?).map_err(|_| wrong())?,
            b"GNU.sparse.minor" => self.major_minor.1 = u32::try_from(count()?).map_err(|_| wrong())?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.real_size = Some(count()?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.number(count()?)?,
            b"GNU.sparse.map" => {
                for word in value.split(|b| *b == b',') {
                    self.number(decimal(word).ok_or_else(wrong)?)?;
                }
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.is_empty()) {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, number: u64) -> Result<(), String> {
        if self.numbers.len() >= 2 * MAX_SEGMENTS {
            return Err(format!("sparse file of more than {MAX_SEGMENTS} pieces"));
        }
        self.numbers.push(number);
        Ok(())
    }

    /// Format 1.0: the map stands before the data. Its version and the file's size.
    pub fn sparse_in_data(&self) -> Option<(u32, u64)> {
        (self.major_minor.0 == 1).then_some((1, self.real_size?))
    }

    /// Formats 0.0 and 0.1: the map stands in the extended header.
    pub fn sparse_map(&self) -> Result<Option<Map>, String> {
        if self.numbers.is_empty() && self.sparse_name.is_none() {
            return Ok(None);
        }
        let Some(size) = self.real_size else { return Err("sparse file without its size".into()) };
        let mut map = Map::sized(size);
        for pair in self.numbers.chunks(2) {
            match pair {
                [offset, length] => map.push(*offset, *length)?,
                _ => return Err("sparse map with an offset too many".into()),
            }
        }
        Ok(Some(map))
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// `1700000000.123456789`, `-5.5`: seconds, rounded down, and nanoseconds.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = nine.parse().ok()?;
    Some(match (negative, nanoseconds) {
        (false, n) => (seconds, n),
        (true, 0) => (-seconds, 0),
        (true, n) => (-seconds - 1, 1_000_000_000 - n),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_by_their_length() {
        let mut pax = Pax::default();
        pax.add(b"12 path=a\nb\n30 SCHILY.xattr.user.x=1\n2=3\n\0\0").unwrap_err();
        let mut pax = Pax::default();
        pax.add(b"12 path=a\nb\n26 SCHILY.xattr.user.x=\n=\n19 mtime=-1.500000\n").unwrap();
        assert_eq!(pax.path.unwrap(), b"a\nb");
        assert_eq!(pax.xattrs, [(b"user.x".to_vec(), b"\n=".to_vec())]);
        assert_eq!(pax.mtime, Some((-2, 500_000_000)));
        for bad in [&b"x"[..], b"99 path=a\n", b"3 a", b"8 size=x\n", b"0 a=b\n", b"9 path=abc"] {
            assert!(Pax::default().add(bad).is_err(), "{bad:?}");
        }
    }
}
