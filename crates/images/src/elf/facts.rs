//! What one file says about itself: ELF headers and dynamic section, or a script's first line.
//!
//! The file is hostile: every size is bounded before memory is taken, every offset is checked by pread(2) itself.

use super::asks::{self, Asks};
use object::elf::{FileHeader32, FileHeader64};
use object::endian::Endianness;
use object::pod;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Program headers looked at, at most; real files have about a dozen.
const MAX_HEADERS: u16 = 1024;
/// Bytes of dynamic section, at most; real ones have about 1 KiB.
const MAX_DYNAMIC: u64 = 1 << 20;
/// Bytes of one name, at most (PATH_MAX).
const MAX_NAME: usize = 4096;
/// DT_NEEDED entries, at most.
const MAX_NEEDED: usize = 1024;
/// Bytes of all names of one file, at most.
const MAX_NAMES: usize = 64 << 10;
/// The kernel reads this much of a script's first line (BINPRM_BUF_SIZE, execve(2)).
const SCRIPT_LINE: usize = 256;

/// What kind of file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An ELF executable or shared object.
    Elf(Box<Facts>),
    /// A script: its interpreter and the one argument, as execve(2) reads them.
    Script {
        /// The path after `#!`.
        interpreter: PathBuf,
        /// The rest of the line, if any.
        argument: Option<OsString>,
    },
    /// Neither.
    Other,
}

/// What the headers say.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Facts {
    /// 64-bit (ELFCLASS64).
    pub is_64: bool,
    /// Little-endian.
    pub little: bool,
    /// e_machine: 62 is x86-64, 183 aarch64.
    pub machine: u16,
    /// e_type is ET_EXEC: an executable at a fixed address.
    pub fixed: bool,
    /// PT_INTERP: the dynamic loader.
    pub interpreter: Option<PathBuf>,
    /// DT_NEEDED, in order.
    pub needed: Vec<OsString>,
    /// DT_RPATH.
    pub rpath: Option<OsString>,
    /// DT_RUNPATH.
    pub runpath: Option<OsString>,
    /// DT_SONAME.
    pub soname: Option<OsString>,
    /// DF_1_NODEFLIB: the default directories are not searched.
    pub no_default: bool,
    /// Functions that it imports, as far as they matter here.
    pub asks: Asks,
}

impl Facts {
    /// Whether the loader would accept `library` for a program of this kind: same class, byte order and machine.
    pub fn fits(&self, library: &Facts) -> bool {
        (self.is_64, self.little, self.machine) == (library.is_64, library.little, library.machine)
    }
}

/// Why a file's headers make no sense: half a sentence, for `FILE: …`.
pub type Damage = String;

/// Reads a file's kind and headers.
///
/// # Errors
/// What is damaged or not supported, in words.
pub fn read(file: &File) -> Result<Content, Damage> {
    let start = take(file, 0, 4096)?;
    match start.as_slice() {
        [b'#', b'!', line @ ..] => script(line),
        [0x7f, b'E', b'L', b'F', 1, ..] => elf::<FileHeader32<Endianness>>(file, &start),
        [0x7f, b'E', b'L', b'F', 2, ..] => elf::<FileHeader64<Endianness>>(file, &start),
        [0x7f, b'E', b'L', b'F', class, ..] => {
            Err(format!("unsupported ELF class {class} (allowed: 1 and 2)"))
        }
        [0x7f, b'E', b'L', b'F'] => Err("truncated ELF file".into()),
        _ => Ok(Content::Other),
    }
}

fn script(line: &[u8]) -> Result<Content, Damage> {
    let line = line.get(..SCRIPT_LINE - 2).unwrap_or(line);
    let line = line.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii();
    if line.is_empty() || line.contains(&0) {
        return Ok(Content::Other);
    }
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let (path, rest) = line.split_at(end);
    let rest = rest.trim_ascii();
    Ok(Content::Script {
        interpreter: OsString::from_vec(path.to_vec()).into(),
        argument: (!rest.is_empty()).then(|| OsString::from_vec(rest.to_vec())),
    })
}

/// Up to `size` bytes at `offset`; fewer at the end of the file.
pub(super) fn take(file: &File, offset: u64, size: usize) -> Result<Vec<u8>, Damage> {
    let mut bytes = vec![0; size];
    let mut have = 0;
    while let Some(rest) = bytes.get_mut(have..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(u64::try_from(have).unwrap_or(u64::MAX));
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            // An offset beyond what the kernel can express is as good as beyond the end.
            Err(e) if e.raw_os_error() == Some(nix::libc::EINVAL) => break,
            Err(e) => return Err(format!("cannot be read: {e}")),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

fn exactly(file: &File, offset: u64, size: usize, what: &str) -> Result<Vec<u8>, Damage> {
    let bytes = take(file, offset, size)?;
    if bytes.len() == size { Ok(bytes) } else { Err(format!("damaged ELF file: {what} lies beyond its end")) }
}

fn elf<E: FileHeader<Endian = Endianness>>(file: &File, start: &[u8]) -> Result<Content, Damage> {
    let (header, _) = pod::from_bytes::<E>(start).map_err(|()| "truncated ELF file")?;
    let endian = header.endian().map_err(|_| "damaged ELF file: unknown byte order")?;
    let fixed = match header.e_type(endian) {
        object::elf::ET_EXEC => true,
        object::elf::ET_DYN => false,
        // Object files, kernel modules, core dumps: nothing that is run.
        _ => return Ok(Content::Other),
    };
    let mut facts = Facts {
        is_64: header.is_type_64(),
        little: endian == Endianness::Little,
        machine: header.e_machine(endian),
        fixed,
        ..Facts::default()
    };
    let count = header.e_phnum(endian);
    if count > MAX_HEADERS {
        return Err(format!("damaged ELF file: {count} program headers (allowed: up to {MAX_HEADERS})"));
    }
    if count > 0 && usize::from(header.e_phentsize(endian)) != size_of::<E::ProgramHeader>() {
        return Err("damaged ELF file: program headers of a wrong size".into());
    }
    let size = usize::from(count) * size_of::<E::ProgramHeader>();
    let bytes = exactly(file, header.e_phoff(endian).into(), size, "program header table")?;
    let (headers, _) = pod::slice_from_bytes::<E::ProgramHeader>(&bytes, usize::from(count))
        .map_err(|()| "damaged ELF file: program header table")?;
    for header in headers {
        match header.p_type(endian) {
            object::elf::PT_INTERP if facts.interpreter.is_none() => {
                let size: u64 = header.p_filesz(endian).into();
                let size = usize::try_from(size).ok().filter(|n| (2..=MAX_NAME).contains(n));
                let size = size.ok_or("damaged ELF file: interpreter name of a wrong size")?;
                let name = exactly(file, header.p_offset(endian).into(), size, "interpreter name")?;
                facts.interpreter =
                    Some(until_nul(&name).ok_or("damaged ELF file: endless interpreter name")?.into());
            }
            object::elf::PT_DYNAMIC => dynamic::<E>(file, endian, headers, header, &mut facts)?,
            _ => {}
        }
    }
    Ok(Content::Elf(Box::new(facts)))
}

fn until_nul(bytes: &[u8]) -> Option<OsString> {
    let end = bytes.iter().position(|b| *b == 0)?;
    Some(OsString::from_vec(bytes.get(..end)?.to_vec()))
}

fn dynamic<E: FileHeader<Endian = Endianness>>(
    file: &File,
    endian: Endianness,
    headers: &[E::ProgramHeader],
    section: &E::ProgramHeader,
    facts: &mut Facts,
) -> Result<(), Damage> {
    let size: u64 = section.p_filesz(endian).into();
    if size > MAX_DYNAMIC {
        return Err(format!(
            "damaged ELF file: dynamic section of {size} bytes (allowed: up to {MAX_DYNAMIC})"
        ));
    }
    let size = usize::try_from(size).unwrap_or(0);
    let bytes = exactly(file, section.p_offset(endian).into(), size, "dynamic section")?;
    let (entries, _) = pod::slice_from_bytes::<E::Dyn>(&bytes, size / size_of::<E::Dyn>())
        .map_err(|()| "damaged ELF file: dynamic section")?;
    let (mut strings, mut strings_size, mut symbols) = (None, 0, None);
    let mut names: Vec<(u32, u64)> = Vec::new();
    for entry in entries {
        let value: u64 = entry.d_val(endian).into();
        let Some(tag) = entry.tag32(endian) else { continue };
        match tag {
            object::elf::DT_NULL => break,
            object::elf::DT_STRTAB => strings = Some(value),
            object::elf::DT_STRSZ => strings_size = value,
            object::elf::DT_SYMTAB => symbols = Some(value),
            object::elf::DT_FLAGS_1 => {
                facts.no_default = value & u64::from(object::elf::DF_1_NODEFLIB) != 0;
            }
            object::elf::DT_NEEDED
            | object::elf::DT_SONAME
            | object::elf::DT_RPATH
            | object::elf::DT_RUNPATH => {
                names.push((tag, value));
            }
            _ => {}
        }
    }
    if names.len() > MAX_NEEDED {
        return Err(format!(
            "damaged ELF file: {} names of libraries (allowed: up to {MAX_NEEDED})",
            names.len()
        ));
    }
    if let (Some(symbols), Some(strings)) = (symbols, strings) {
        facts.asks = asks::read::<E>(file, endian, headers, symbols, (strings, strings_size));
    }
    if names.is_empty() {
        return Ok(());
    }
    let address = strings.ok_or("damaged ELF file: names without a string table")?;
    let table =
        file_offset::<E>(headers, endian, address).ok_or("damaged ELF file: string table is not loaded")?;
    let mut total = 0;
    for (tag, offset) in names {
        let bytes = take(file, table.saturating_add(offset), MAX_NAME)?;
        let name = until_nul(&bytes).ok_or("damaged ELF file: a library name lies beyond its end")?;
        total += name.len();
        if total > MAX_NAMES {
            return Err(format!("damaged ELF file: names of more than {MAX_NAMES} bytes"));
        }
        match tag {
            object::elf::DT_NEEDED if name.is_empty() => {
                return Err("damaged ELF file: empty library name".into());
            }
            object::elf::DT_NEEDED => facts.needed.push(name),
            object::elf::DT_SONAME => facts.soname = Some(name),
            object::elf::DT_RPATH => facts.rpath = Some(name),
            _ => facts.runpath = Some(name),
        }
    }
    Ok(())
}

/// Where in the file the byte at a virtual address is: by the PT_LOAD segment that has it.
pub(super) fn file_offset<E: FileHeader<Endian = Endianness>>(
    headers: &[E::ProgramHeader],
    endian: Endianness,
    address: u64,
) -> Option<u64> {
    headers.iter().filter(|h| h.p_type(endian) == object::elf::PT_LOAD).find_map(|h| {
        let inside = address.checked_sub(h.p_vaddr(endian).into())?;
        (inside < h.p_filesz(endian).into()).then(|| inside.checked_add(h.p_offset(endian).into()))?
    })
}
