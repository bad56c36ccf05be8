//! Option words of fstab(5), mount(8) and the OCI runtime specification: pure parsing into flags and data.

use crate::propagation::Propagation;
use drydock_core::sys::mount as attr;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use nix::mount::MsFlags;

/// MS_NOSYMFOLLOW, which nix has no name for.
pub const MS_NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);
/// MS_LAZYTIME.
const MS_LAZYTIME: MsFlags = MsFlags::from_bits_retain(1 << 25);

/// The access-time bits of mount_setattr(2) (MOUNT_ATTR__ATIME) exclude each other and are cleared together.
const ATTR_ATIME: u64 = 0x70;
const ATTR_NOATIME: u64 = 0x10;
const ATTR_STRICTATIME: u64 = 0x20;
const ATTR_NODIRATIME: u64 = 0x80;

/// What the words mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Flags of mount(2), without bind, rec, remount and propagation.
    pub flags: Flags,
    /// `bind` (false) or `rbind` (true).
    pub bind: Option<bool>,
    /// `remount`.
    pub remount: bool,
    /// Attributes to set on the mount and all below it: `rro`, `rnosuid`, ….
    pub recursive_set: u64,
    /// Attributes to clear on the mount and all below it: `rrw`, `rsuid`, ….
    pub recursive_clear: u64,
    /// Propagation changes, in order; true: recursively.
    pub propagation: Vec<(Propagation, bool)>,
    /// The file system's own options, as given.
    pub data: Vec<String>,
}

/// Flags of mount(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub MsFlags);

impl Default for Flags {
    fn default() -> Self {
        Self(MsFlags::empty())
    }
}

impl Options {
    /// The data string of mount(2).
    pub fn data_string(&self) -> String {
        self.data.join(",")
    }

    /// The flags as attributes of mount_setattr(2): (set, clear).
    pub fn attributes(&self) -> (u64, u64) {
        let map = [
            (MsFlags::MS_RDONLY, attr::ATTR_RDONLY, 0),
            (MsFlags::MS_NOSUID, attr::ATTR_NOSUID, 0),
            (MsFlags::MS_NODEV, attr::ATTR_NODEV, 0),
            (MsFlags::MS_NOEXEC, attr::ATTR_NOEXEC, 0),
            (MS_NOSYMFOLLOW, attr::ATTR_NOSYMFOLLOW, 0),
            (MsFlags::MS_NODIRATIME, ATTR_NODIRATIME, 0),
            (MsFlags::MS_NOATIME, ATTR_NOATIME, ATTR_ATIME),
            (MsFlags::MS_STRICTATIME, ATTR_STRICTATIME, ATTR_ATIME),
            (MsFlags::MS_RELATIME, 0, ATTR_ATIME),
        ];
        let given = map.iter().filter(|(flag, ..)| self.flags.0.contains(*flag));
        given.fold((0, 0), |(set, clear), (_, s, c)| (set | s, clear | c))
    }
}

enum Word {
    Set(MsFlags),
    Unset(MsFlags),
    Nothing,
    Recursive { set: u64, clear: u64 },
}

fn known(word: &str) -> Option<Word> {
    let atime = MsFlags::MS_NOATIME | MsFlags::MS_STRICTATIME | MsFlags::MS_RELATIME;
    Some(match word {
        "defaults" | "loud" | "noiversion" | "async" => Word::Nothing,
        "ro" => Word::Set(MsFlags::MS_RDONLY),
        "rw" => Word::Unset(MsFlags::MS_RDONLY),
        "nosuid" => Word::Set(MsFlags::MS_NOSUID),
        "suid" => Word::Unset(MsFlags::MS_NOSUID),
        "nodev" => Word::Set(MsFlags::MS_NODEV),
        "dev" => Word::Unset(MsFlags::MS_NODEV),
        "noexec" => Word::Set(MsFlags::MS_NOEXEC),
        "exec" => Word::Unset(MsFlags::MS_NOEXEC),
        "nosymfollow" => Word::Set(MS_NOSYMFOLLOW),
        "symfollow" => Word::Unset(MS_NOSYMFOLLOW),
        "noatime" => Word::Set(MsFlags::MS_NOATIME),
        "atime" => Word::Unset(MsFlags::MS_NOATIME),
        "relatime" => Word::Set(MsFlags::MS_RELATIME),
        "norelatime" => Word::Unset(MsFlags::MS_RELATIME),
        "strictatime" => Word::Set(MsFlags::MS_STRICTATIME),
        "nostrictatime" => Word::Unset(atime),
        "nodiratime" => Word::Set(MsFlags::MS_NODIRATIME),
        "diratime" => Word::Unset(MsFlags::MS_NODIRATIME),
        "lazytime" => Word::Set(MS_LAZYTIME),
        "nolazytime" => Word::Unset(MS_LAZYTIME),
        "sync" => Word::Set(MsFlags::MS_SYNCHRONOUS),
        "dirsync" => Word::Set(MsFlags::MS_DIRSYNC),
        "silent" => Word::Set(MsFlags::MS_SILENT),
        "mand" => Word::Set(MsFlags::MS_MANDLOCK),
        "nomand" => Word::Unset(MsFlags::MS_MANDLOCK),
        "iversion" => Word::Set(MsFlags::MS_I_VERSION),
        _ => return recursive(word),
    })
}

/// The OCI words that act on the whole tree below a mount, through mount_setattr(2).
fn recursive(word: &str) -> Option<Word> {
    let (set, clear) = match word {
        "rro" => (attr::ATTR_RDONLY, 0),
        "rrw" => (0, attr::ATTR_RDONLY),
        "rnosuid" => (attr::ATTR_NOSUID, 0),
        "rsuid" => (0, attr::ATTR_NOSUID),
        "rnodev" => (attr::ATTR_NODEV, 0),
        "rdev" => (0, attr::ATTR_NODEV),
        "rnoexec" => (attr::ATTR_NOEXEC, 0),
        "rexec" => (0, attr::ATTR_NOEXEC),
        "rnosymfollow" => (attr::ATTR_NOSYMFOLLOW, 0),
        "rsymfollow" => (0, attr::ATTR_NOSYMFOLLOW),
        "rnodiratime" => (ATTR_NODIRATIME, 0),
        "rdiratime" => (0, ATTR_NODIRATIME),
        "rnoatime" => (ATTR_NOATIME, ATTR_ATIME),
        "rstrictatime" => (ATTR_STRICTATIME, ATTR_ATIME),
        "rrelatime" | "ratime" | "rnostrictatime" | "rnorelatime" => (0, ATTR_ATIME),
        _ => return None,
    };
    Some(Word::Recursive { set, clear })
}

/// Parses the words of one mount. `object` names the mount in errors; `fstype` is `None` for a bind mount.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming a word that is neither a mount option nor one of the file system's.
pub fn parse(object: &str, fstype: Option<&str>, words: &[String]) -> Result<Options> {
    let mut options = Options::default();
    for word in words {
        apply(object, &mut options, word)?;
    }
    let own = std::mem::take(&mut options.data);
    let bind = options.bind.is_some() || fstype.is_none_or(|t| t == "bind" || t == "none");
    for word in own {
        check_own(object, fstype.filter(|_| !bind), &word)?;
        options.data.push(word);
    }
    Ok(options)
}

fn apply(object: &str, options: &mut Options, word: &str) -> Result<()> {
    if word.contains(['\0', ',']) || word.is_empty() {
        return Err(unknown(object, word, "words without ',' and NUL, one option each"));
    }
    match word {
        "bind" => options.bind = Some(options.bind.unwrap_or(false)),
        "rbind" => options.bind = Some(true),
        "remount" => options.remount = true,
        _ => match (known(word), Propagation::parse(word)) {
            (Some(Word::Set(flag)), _) => options.flags.0 |= flag,
            (Some(Word::Unset(flag)), _) => options.flags.0 &= !flag,
            (Some(Word::Nothing), _) => {}
            (Some(Word::Recursive { set, clear }), _) => {
                options.recursive_set = (options.recursive_set & !clear) | set;
                options.recursive_clear = (options.recursive_clear & !set) | clear;
            }
            (None, Some(change)) => options.propagation.push(change),
            (None, None) => options.data.push(word.to_string()),
        },
    }
    Ok(())
}

/// The names that file systems of a container's own take. Others (disks, network) are the kernel's to judge.
fn own_names(fstype: &str) -> Option<&'static [&'static str]> {
    Some(match fstype {
        "tmpfs" => &[
            "size",
            "nr_blocks",
            "nr_inodes",
            "mode",
            "uid",
            "gid",
            "huge",
            "mpol",
            "inode32",
            "inode64",
            "noswap",
        ],
        "ramfs" => &["mode"],
        "devpts" => &["newinstance", "ptmxmode", "mode", "uid", "gid", "max"],
        "proc" => &["hidepid", "gid", "subset"],
        "sysfs" | "mqueue" | "cgroup" => &[],
        "cgroup2" => &[
            "nsdelegate",
            "favordynmods",
            "memory_localevents",
            "memory_recursiveprot",
            "memory_hugetlb_accounting",
            "pids_localevents",
        ],
        _ => return None,
    })
}

fn check_own(object: &str, fstype: Option<&str>, word: &str) -> Result<()> {
    let Some(fstype) = fstype else {
        return Err(unknown(object, word, "the options of bind mounts in mount(8)"));
    };
    let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
    let Some(names) = own_names(fstype) else {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.+".contains(c);
        let ok = !name.is_empty() && name.chars().all(plain);
        return if ok { Ok(()) } else { Err(unknown(object, word, "NAME or NAME=VALUE")) };
    };
    if !names.contains(&name) {
        let own = if names.is_empty() { "none of its own".to_string() } else { names.join(", ") };
        return Err(unknown(object, word, &format!("those of mount(8), and for {fstype}: {own}")));
    }
    match (fstype, name, value) {
        (_, "newinstance" | "inode32" | "inode64" | "noswap", None) => Ok(()),
        ("cgroup2", _, None) => Ok(()),
        (_, "size" | "nr_blocks" | "nr_inodes", Some(v)) if is_amount(v, name == "size") => Ok(()),
        (_, "mode" | "ptmxmode", Some(v)) if is_octal(v) => Ok(()),
        (_, "uid" | "gid" | "max", Some(v)) if v.parse::<u32>().is_ok_and(|n| n != u32::MAX) => Ok(()),
        ("proc", "hidepid" | "subset", Some(v)) if !v.is_empty() => Ok(()),
        ("tmpfs", "huge" | "mpol", Some(v)) if !v.is_empty() => Ok(()),
        _ => {
            let shown = shorten(&escape(word), 60);
            Err(Error::bad_input(
                object,
                format!(
                    "mount option '{shown}' has a bad value (allowed: as size=64m, size=10%, nr_inodes=1k, mode=0755, uid=0)"
                ),
            ))
        }
    }
}

fn is_amount(value: &str, percent: bool) -> bool {
    let digits = value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G']).unwrap_or(value);
    let digits = if percent { digits.strip_suffix('%').unwrap_or(digits) } else { digits };
    // Zero means no limit at all to tmpfs.
    !digits.is_empty()
        && digits.len() <= 18
        && digits.bytes().all(|b| b.is_ascii_digit())
        && digits.bytes().any(|b| b != b'0')
}

fn is_octal(value: &str) -> bool {
    u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777) && !value.starts_with('+')
}

fn unknown(object: &str, word: &str, allowed: &str) -> Error {
    let shown = shorten(&escape(word), 60);
    Error::bad_input(object, format!("unknown mount option '{shown}' (allowed: {allowed})"))
}

/// The flags as strace shows them: `MS_RDONLY|MS_NOSUID`, or `0`.
pub fn show(flags: MsFlags) -> String {
    let names = [
        (MsFlags::MS_RDONLY, "MS_RDONLY"),
        (MsFlags::MS_NOSUID, "MS_NOSUID"),
        (MsFlags::MS_NODEV, "MS_NODEV"),
        (MsFlags::MS_NOEXEC, "MS_NOEXEC"),
        (MsFlags::MS_SYNCHRONOUS, "MS_SYNCHRONOUS"),
        (MsFlags::MS_REMOUNT, "MS_REMOUNT"),
        (MsFlags::MS_MANDLOCK, "MS_MANDLOCK"),
        (MsFlags::MS_DIRSYNC, "MS_DIRSYNC"),
        (MS_NOSYMFOLLOW, "MS_NOSYMFOLLOW"),
        (MsFlags::MS_NOATIME, "MS_NOATIME"),
        (MsFlags::MS_NODIRATIME, "MS_NODIRATIME"),
        (MsFlags::MS_BIND, "MS_BIND"),
        (MsFlags::MS_REC, "MS_REC"),
        (MsFlags::MS_SILENT, "MS_SILENT"),
        (MsFlags::MS_RELATIME, "MS_RELATIME"),
        (MsFlags::MS_I_VERSION, "MS_I_VERSION"),
        (MsFlags::MS_STRICTATIME, "MS_STRICTATIME"),
        (MS_LAZYTIME, "MS_LAZYTIME"),
    ];
    let set: Vec<&str> =
        names.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect();
    if set.is_empty() { "0".to_string() } else { set.join("|") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn flags_data_and_propagation() {
        let o = parse("/dev", Some("tmpfs"), &words("nosuid ro noexec rw size=64k mode=755 rslave")).unwrap();
        assert_eq!(show(o.flags.0), "MS_NOSUID|MS_NOEXEC");
        assert_eq!(o.data_string(), "size=64k,mode=755");
        assert_eq!(o.propagation, [(Propagation::Slave, true)]);
    }

    #[test]
    fn binds() {
        let o = parse("/x", None, &words("bind ro rbind rro rprivate noatime")).unwrap();
        assert_eq!((o.bind, o.recursive_set), (Some(true), attr::ATTR_RDONLY));
        assert_eq!(o.attributes(), (attr::ATTR_RDONLY | ATTR_NOATIME, ATTR_ATIME));
        let o = parse("/x", None, &words("rro rrw")).unwrap();
        assert_eq!((o.recursive_set, o.recursive_clear), (0, attr::ATTR_RDONLY));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (fstype, text) in [
            (Some("tmpfs"), "frobnicate"),
            (Some("tmpfs"), "size=x"),
            (Some("tmpfs"), "size=0"),
            (Some("tmpfs"), "size"),
            (Some("tmpfs"), "mode=9"),
            (Some("tmpfs"), "uid=-1"),
            (Some("proc"), "size=4"),
            (Some("sysfs"), "mode=755"),
            (Some("ext4"), "a b=\u{1b}=x;"),
            (Some("ext4"), "=x"),
            (None, "size=4k"),
            (None, "rorw"),
            (Some("tmpfs"), "ro,rw"),
        ] {
            let given = if text.contains(' ') { vec![text.replace(' ', "")] } else { vec![text.to_string()] };
            match parse("/x", fstype, &given) {
                Err(e) => assert_eq!(e.exit_code(), 2, "{e}"),
                Ok(o) => assert_eq!((fstype, text), (Some("ext4"), "a b=\u{1b}=x;"), "{o:?}"),
            }
        }
        let e = parse("/x", Some("tmpfs"), &words("frobnicate")).unwrap_err().to_string();
        assert!(e.contains("unknown mount option 'frobnicate'"), "{e}");
        assert!(parse("/x", Some("ext4"), &words("data=ordered,x commit=5")).is_err());
        assert!(parse("/x", Some("ext4"), &words("data=ordered commit=5")).is_ok());
    }
}
