//! What a program may ask for while it runs, of which its headers say nothing: libraries that it opens by name, modules of
//! the name service and of iconv. Found in the functions that it imports. Sources: dlopen(3), nsswitch.conf(5), iconv(3).

use super::facts::{Facts, file_offset, take};
use object::endian::Endianness;
use object::pod;
use object::read::elf::{FileHeader, Sym};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::PathBuf;

/// Bytes of symbols and of their names that are looked at, at most.
const MAX_TABLE: u64 = 8 << 20;
/// Bytes of a file in which names of libraries are looked for, at most.
const MAX_TEXT: usize = 32 << 20;
/// Names of libraries, at most.
const MAX_NAMES: usize = 16;

/// Which functions one object imports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// dlopen(3).
    pub opens: bool,
    /// getaddrinfo(3), getpwnam(3) and their like.
    pub names: bool,
    /// iconv_open(3).
    pub converts: bool,
}

/// What to think of when a program is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Whose.
    pub object: PathBuf,
    /// What it does.
    pub what: What,
    /// Libraries of this host whose names are in it and that are not among what it needs.
    pub libraries: Vec<PathBuf>,
}

/// What a program does while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It opens libraries by name.
    Dlopen,
    /// It asks for users, groups or hosts.
    NameService,
    /// It converts between character sets.
    Iconv,
}

/// The GNU C library's own objects: what they import is what their callers ask for.
pub fn is_libc(facts: &Facts) -> bool {
    const OWN: [&str; 9] =
        ["libc.", "libdl.", "libpthread.", "libm.", "librt.", "libresolv.", "libnss_", "ld-", "libutil."];
    let name = facts.soname.as_ref().map(|n| n.to_string_lossy()).unwrap_or_default();
    OWN.iter().any(|own| name.starts_with(own))
}

/// Reads the undefined symbols between the addresses of the symbol table and of the string table behind it, as linkers
/// lay them out. A file that has them elsewhere asks for nothing that we know of.
pub fn read<E: FileHeader<Endian = Endianness>>(
    file: &File,
    endian: Endianness,
    headers: &[E::ProgramHeader],
    symbols: u64,
    strings: (u64, u64),
) -> Asks {
    let mut asks = Asks::default();
    let Some(size) = strings.0.checked_sub(symbols).filter(|n| *n <= MAX_TABLE) else { return asks };
    let place = |address| file_offset::<E>(headers, endian, address);
    let (Some(table), Some(text)) = (place(symbols), place(strings.0)) else { return asks };
    let bytes =
        |at, size: u64| take(file, at, usize::try_from(size.min(MAX_TABLE)).unwrap_or(0)).unwrap_or_default();
    let (table, text) = (bytes(table, size), bytes(text, strings.1));
    let count = table.len() / size_of::<E::Sym>();
    let Ok((entries, _)) = pod::slice_from_bytes::<E::Sym>(&table, count) else { return asks };
    for entry in entries.iter().filter(|e| e.st_shndx(endian) == 0) {
        let start = usize::try_from(entry.st_name(endian)).unwrap_or(usize::MAX);
        let name = text.get(start..).and_then(|rest| rest.split(|b| *b == 0).next()).unwrap_or_default();
        match name {
            b"dlopen" | b"dlmopen" => asks.opens = true,
            b"iconv_open" => asks.converts = true,
            b"getaddrinfo" | b"getnameinfo" | b"initgroups" | b"getgrouplist" => asks.names = true,
            _ => {
                let starts = [&b"gethostby"[..], b"getpw", b"getgr", b"getservby", b"getnetby", b"getspnam"];
                asks.names |= starts.iter().any(|start| name.starts_with(start));
            }
        }
    }
    asks
}

/// Names in a file that look like a library's: `libNAME.so` with a version or without.
pub fn library_names(file: &File) -> Vec<String> {
    let bytes = take(file, 0, MAX_TEXT).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_.+-".contains(b);
    for word in bytes.split(|b| *b == 0).filter(|w| (7..64).contains(&w.len()) && w.starts_with(b"lib")) {
        let text = String::from_utf8_lossy(word);
        let known = names.iter().any(|n| *n == text);
        if word.iter().all(plain) && (text.ends_with(".so") || text.contains(".so.")) && !known {
            names.push(text.into_owned());
        }
        if names.len() >= 4 * MAX_NAMES {
            break;
        }
    }
    names
}

/// As many as are worth being told.
pub fn few(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.truncate(MAX_NAMES);
    paths
}
