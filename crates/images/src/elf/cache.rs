//! /etc/ld.so.cache: which library name is where, as ldconfig(8) wrote it down.
//!
//! Format (glibc's dl-cache.h): optionally the old table (`ld.so-1.7.0`, a count, 12 bytes an entry), then, aligned to 8,
//! the new one: `glibc-ld.so.cache1.1`, count, length of strings, 20 bytes of other fields, then 24 bytes an entry:
//! flags, name, path, OS version, hwcap. Name and path are offsets from the start of the new table.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

const OLD: &[u8] = b"ld.so-1.7.0\0";
const NEW: &[u8] = b"glibc-ld.so.cache1.1";
const NEW_HEADER: usize = 48;
const ENTRY: usize = 24;
/// Larger caches are not ours to read.
pub const MAX_BYTES: u64 = 64 << 20;

/// Name → paths in the cache's order of preference.
pub type Cache = HashMap<OsString, Vec<PathBuf>>;

/// Reads a cache. What makes no sense is left out: the loader, too, ignores a cache that it cannot use.
pub fn parse(bytes: &[u8]) -> Cache {
    let table = match bytes.strip_prefix(OLD).and_then(|rest| number(rest, 0)) {
        Some(count) => {
            let end = OLD.len() + 4 + usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(12);
            bytes.get(end.checked_next_multiple_of(8).unwrap_or(usize::MAX)..).unwrap_or_default()
        }
        None => bytes,
    };
    if !table.starts_with(NEW) {
        return Cache::new();
    }
    let count = number(table, NEW.len()).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let entries = table.get(NEW_HEADER..).unwrap_or_default().chunks_exact(ENTRY).take(count);
    let mut cache = Cache::new();
    for entry in entries {
        let name = number(entry, 4).and_then(|at| text(table, at));
        let path = number(entry, 8).and_then(|at| text(table, at));
        if let (Some(name), Some(path)) = (name, path) {
            cache.entry(name).or_default().push(path.into());
        }
    }
    cache
}

/// The cache is written in the machine's own byte order.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

fn text(table: &[u8], at: u32) -> Option<OsString> {
    let rest = table.get(usize::try_from(at).ok()?..)?;
    let rest = rest.get(..4096).unwrap_or(rest);
    let end = rest.iter().position(|b| *b == 0)?;
    (end > 0).then(|| OsString::from_vec(rest.get(..end).unwrap_or_default().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(old: bool) -> Vec<u8> {
        let mut new = NEW.to_vec();
        new.extend(1u32.to_ne_bytes());
        new.resize(NEW_HEADER, 0);
        let strings = u32::try_from(NEW_HEADER + ENTRY).unwrap();
        for field in [0x303, strings, strings + 9, 0, 0, 0] {
            new.extend(u32::to_ne_bytes(field));
        }
        new.extend(b"libx.so.1\0".map(|b| b));
        let end = new.len() - 1;
        new.truncate(end);
        new.splice(end.., *b"\0");
        // "libx.so.1" is nine bytes: the path starts after its NUL.
        let path_at = strings + 10;
        new[NEW_HEADER + 8..NEW_HEADER + 12].copy_from_slice(&path_at.to_ne_bytes());
        new.extend(b"/opt/libx.so.1\0");
        if !old {
            return new;
        }
        let mut all = OLD.to_vec();
        all.extend(1u32.to_ne_bytes());
        all.extend([0; 12]);
        all.resize(all.len().next_multiple_of(8), 0);
        all.extend(new);
        all
    }

    #[test]
    fn both_formats() {
        for old in [false, true] {
            let cache = parse(&sample(old));
            assert_eq!(cache[&OsString::from("libx.so.1")], [PathBuf::from("/opt/libx.so.1")], "{old}");
        }
    }

    #[test]
    fn damage_is_left_out() {
        let good = sample(true);
        for end in 0..good.len() {
            parse(&good[..end]);
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            parse(&bad);
        }
    }
}
