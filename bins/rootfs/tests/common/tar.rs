//! Tar archives made block by block, so that they can have everything that a tar program would never write.
#![allow(dead_code)] // each test file uses its part

/// An archive in the making.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// One entry's header fields.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: u8,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub mtime: Vec<u8>,
    pub size: Vec<u8>,
    pub device: (u32, u32),
}

fn octal(field: &mut [u8], value: u64) {
    let text = format!("{value:0width$o}", width = field.len() - 1);
    field[..text.len()].copy_from_slice(text.as_bytes());
}

impl Tar {
    /// Any entry, with its data.
    pub fn raw(&mut self, entry: &Entry, data: &[u8]) -> &mut Self {
        let mut block = [0; 512];
        let n = entry.name.len().min(100);
        block[..n].copy_from_slice(&entry.name[..n]);
        octal(&mut block[100..108], entry.mode.into());
        octal(&mut block[108..116], entry.uid);
        octal(&mut block[116..124], 0);
        block[124..124 + entry.size.len()].copy_from_slice(&entry.size);
        block[136..136 + entry.mtime.len()].copy_from_slice(&entry.mtime);
        block[156] = entry.kind;
        let n = entry.link.len().min(100);
        block[157..157 + n].copy_from_slice(&entry.link[..n]);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], entry.device.0.into());
        octal(&mut block[337..345], entry.device.1.into());
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn one(&mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, data: &[u8]) -> &mut Self {
        let mut entry = entry(kind, name);
        entry.link = link.to_vec();
        entry.mode = mode;
        entry.size = format!("{:011o}", data.len()).into_bytes();
        self.raw(&entry, data)
    }

    pub fn file(&mut self, name: &str, data: &str) -> &mut Self {
        self.one(b'0', name.as_bytes(), b"", 0o644, data.as_bytes())
    }
    pub fn mode(&mut self, name: &str, mode: u32) -> &mut Self {
        self.one(b'0', name.as_bytes(), b"", mode, b"")
    }
    pub fn bytes(&mut self, name: &[u8], data: &str) -> &mut Self {
        self.one(b'0', name, b"", 0o644, data.as_bytes())
    }
    pub fn dir(&mut self, name: &str, mode: u32) -> &mut Self {
        self.one(b'5', name.as_bytes(), b"", mode, b"")
    }
    pub fn symlink(&mut self, name: &str, to: &str) -> &mut Self {
        self.one(b'2', name.as_bytes(), to.as_bytes(), 0o777, b"")
    }
    pub fn hard(&mut self, name: &str, to: &str) -> &mut Self {
        self.one(b'1', name.as_bytes(), to.as_bytes(), 0o644, b"")
    }
    pub fn fifo(&mut self, name: &str) -> &mut Self {
        self.one(b'6', name.as_bytes(), b"", 0o600, b"")
    }
    pub fn device(&mut self, name: &str, kind: u8, major: u32, minor: u32) -> &mut Self {
        let mut entry = entry(kind, name.as_bytes());
        entry.device = (major, minor);
        self.raw(&entry, b"")
    }

    /// An extended header for the next entry.
    pub fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            text.extend(format!("{length} {key}=").as_bytes());
            text.extend(*value);
            text.push(b'\n');
        }
        self.one(b'x', b"PaxHeaders/x", b"", 0o644, &text)
    }

    /// The whole archive.
    pub fn end(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

/// A header with usual fields.
pub fn entry(kind: u8, name: &[u8]) -> Entry {
    Entry {
        name: name.to_vec(),
        kind,
        link: Vec::new(),
        mode: 0o644,
        uid: 0,
        mtime: b"14000000000".to_vec(),
        size: b"00000000000".to_vec(),
        device: (0, 0),
    }
}
