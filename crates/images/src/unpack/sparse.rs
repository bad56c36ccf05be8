//! Where a sparse file has data. Source: GNU tar's manual, "Storing Sparse Files".

use super::tarball::number;

/// Pieces of one file, at most: 16 bytes each.
pub const MAX_SEGMENTS: usize = 1 << 18;

/// The pieces of a sparse file, in order.
#[derive(Debug, Default)]
pub struct Map {
    size: u64,
    segments: Vec<(u64, u64)>,
}

impl Map {
    /// A file of this size, without pieces yet.
    pub fn sized(size: u64) -> Self {
        Self { size, segments: Vec::new() }
    }

    /// From a GNU header: the first four pieces.
    pub fn of_gnu(header: &tar::GnuHeader) -> Self {
        let size = number(&header.realsize).and_then(|n| u64::try_from(n).ok());
        let mut map = Self::sized(size.unwrap_or(u64::MAX));
        for piece in &header.sparse {
            if map.piece(&piece.offset, &piece.numbytes).is_err() {
                // Refused by `checked`.
                map.size = u64::MAX;
            }
        }
        map
    }

    /// From a GNU extension block: 21 pieces; true if another block follows.
    pub fn extend(&mut self, block: &[u8; 512]) -> Result<bool, String> {
        for piece in block.get(..504).unwrap_or_default().chunks_exact(24) {
            let (offset, length) = piece.split_at(12);
            self.piece(offset, length)?;
        }
        Ok(block.get(504).is_some_and(|more| *more == 1))
    }

    fn piece(&mut self, offset: &[u8], length: &[u8]) -> Result<(), String> {
        if offset.first() == Some(&0) || length.first() == Some(&0) {
            return Ok(());
        }
        let read = |field: &[u8]| number(field).and_then(|n| u64::try_from(n).ok());
        match (read(offset), read(length)) {
            (Some(offset), Some(length)) => self.push(offset, length),
            _ => Err("sparse map: not a number".into()),
        }
    }

    /// One more piece.
    pub fn push(&mut self, offset: u64, length: u64) -> Result<(), String> {
        if self.segments.len() >= MAX_SEGMENTS {
            return Err(format!("sparse file of more than {MAX_SEGMENTS} pieces"));
        }
        self.segments.push((offset, length));
        Ok(())
    }

    /// The file's size and pieces, if they fit together: in order, apart, within the file, as long as the archive's data.
    pub fn checked(self, packed: u64) -> Result<(u64, Vec<(u64, u64)>), String> {
        let mut end = 0;
        let mut total: u64 = 0;
        for (offset, length) in &self.segments {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= self.size);
            end = next.ok_or("sparse map: pieces overlap or lie beyond the end")?;
            total = total.saturating_add(*length);
        }
        if total != packed {
            return Err(format!("sparse map: pieces of {total} bytes, but data of {packed}"));
        }
        Ok((self.size, self.segments))
    }
}

/// Format 1.0: decimal numbers, each on a line, in blocks before the data: a count, then offset and length in turns.
#[derive(Debug, Default)]
pub struct Text {
    word: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    read: u64,
}

impl Text {
    /// All that was announced is there.
    pub fn complete(&self) -> bool {
        self.count == Some(self.read)
    }

    /// One more block.
    pub fn add(&mut self, block: &[u8; 512], map: &mut Map) -> Result<(), String> {
        for byte in block {
            if self.complete() {
                break;
            }
            if *byte != b'\n' {
                if self.word.len() > 20 || !byte.is_ascii_digit() {
                    return Err("sparse map: not a number".into());
                }
                self.word.push(*byte);
                continue;
            }
            let number = std::str::from_utf8(&self.word).ok().and_then(|w| w.parse::<u64>().ok());
            let number = number.ok_or("sparse map: not a number")?;
            self.word.clear();
            match (self.count, self.offset.take()) {
                (None, _) => self.count = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => {
                    map.push(offset, number)?;
                    self.read += 1;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_must_fit() {
        let map = |size, pieces: &[(u64, u64)]| Map { size, segments: pieces.to_vec() };
        assert!(map(100, &[(0, 10), (50, 50)]).checked(60).is_ok());
        for (size, pieces, packed) in [
            (100, &[(0, 10), (5, 10)][..], 20),
            (100, &[(95, 10)], 10),
            (100, &[(0, 10)], 11),
            (u64::MAX, &[(u64::MAX - 1, 2)], 2),
            (100, &[(u64::MAX, 2)], 2),
        ] {
            assert!(map(size, pieces).checked(packed).is_err(), "{pieces:?}");
        }
    }

    #[test]
    fn the_map_before_the_data() {
        let mut block = [0; 512];
        block[..14].copy_from_slice(b"2\n0\n10\n50\n50\n\n");
        let (mut text, mut map) = (Text::default(), Map::sized(100));
        text.add(&block, &mut map).unwrap();
        assert!(text.complete());
        assert_eq!(map.checked(60).unwrap().1, [(0, 10), (50, 50)]);
    }
}
