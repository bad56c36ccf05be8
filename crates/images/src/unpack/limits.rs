//! How much an archive may ask for, and which names it has made.

use super::tarball::{Entry, Kind};
use drydock_core::{Error, Result, size};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// What unpacking may use. Archives that ask for more are refused, and what has been made of them goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of all files together, holes included.
    pub bytes: u64,
    /// Entries of all layers together.
    pub entries: u64,
    /// How many times larger a layer may be than its compressed form (counted from 32 MiB on).
    pub ratio: u64,
    /// Components of one path.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 32 << 30, entries: 1_000_000, ratio: 200, depth: 1024 }
    }
}

/// What has been used of the limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    bytes: u64,
    entries: u64,
}

impl Used {
    /// Counts one entry.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the limit.
    pub fn count(&mut self, entry: &Entry, limits: &Limits) -> Result<()> {
        self.entries += 1;
        if self.entries > limits.entries {
            let problem = format!("is one too many (allowed: {} entries)", limits.entries);
            return Err(entry.bad(problem).hint("--max-entries N, if you trust it"));
        }
        if entry.kind == Kind::File {
            self.bytes = self.bytes.saturating_add(entry.size);
        }
        if self.bytes > limits.bytes {
            let (would, allowed) = (size::show(self.bytes), size::show(limits.bytes));
            let problem = format!("with it, files would have {would} (allowed: {allowed})");
            return Err(entry.bad(problem).hint("--max-size SIZE, if you trust it"));
        }
        Ok(())
    }
}

/// The names that one layer has made: its whiteouts do not take them away again. Only hashes are kept.
#[derive(Debug, Default)]
pub struct Known {
    hashes: HashSet<u64>,
    key: RandomState,
}

impl Known {
    /// One more, with the directories that it lies in.
    pub fn add(&mut self, path: &[u8]) {
        let mut path = path;
        while !path.is_empty() && self.hashes.insert(self.key.hash_one(path)) {
            path = super::place::split(path).0;
        }
    }

    /// Whether it is one of them.
    pub fn has(&self, path: &[u8]) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&self.key.hash_one(path))
    }

    /// None of them any more: the next layer begins.
    pub fn clear(&mut self) {
        self.hashes.clear();
    }
}

/// A name of an archive as a path below the root, without `.`, doubled slashes and a leading slash; `..` is resolved by
/// the text. Empty: the root itself.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] when it leaves the root, is too deep or too long.
pub fn clean(entry: &Entry, name: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    return Err(leaves(entry, name));
                }
            }
            part => parts.push(part),
        }
        if parts.len() > limits.depth {
            return Err(entry.bad(format!("is deeper than {} directories", limits.depth)));
        }
    }
    if let Some(long) = parts.iter().map(|p| p.len()).max().filter(|n| *n > 255) {
        return Err(entry.bad(format!("has a name of {long} bytes (allowed: 255)")));
    }
    let path = parts.join(&b'/');
    if path.len() >= 4096 {
        return Err(entry.bad(format!("has a path of {} bytes (allowed: 4095)", path.len())));
    }
    Ok(path)
}

fn leaves(entry: &Entry, name: &[u8]) -> Error {
    if name == entry.name {
        return entry.bad("leaves the root file system (allowed: names below it)");
    }
    let shown = drydock_core::text::shorten(&drydock_core::text::escape_bytes(name), 200);
    entry.bad(format!("links to '{shown}', which leaves the root file system"))
}
