//! Option words of fstab(5), mount(8) and the OCI runtime specification: pure parsing into flags and data.

mod ask;
mod own;

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
/// The words about access times, of which a bind mount takes all or none. Source: path_mount() in fs/namespace.c.
const ATIME: MsFlags = MsFlags::MS_NOATIME
    .union(MsFlags::MS_NODIRATIME)
    .union(MsFlags::MS_RELATIME)
    .union(MsFlags::MS_STRICTATIME);

/// What to do with a word that is neither an option of mount(8) nor one of the file system's that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Say so: a typing error is found before anything is done.
    Refuse,
    /// It is the file system's, as the OCI runtime specification has it.
    Pass,
}

/// What the words mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Flags of mount(2), without bind, rec, remount and propagation.
    pub flags: Flags,
    /// Flags that a word cleared and none set again: `rw`, `suid`, ….
    pub cleared: Flags,
    /// A bind mount that names any flag has exactly those that it names, not its source's as well.
    pub exact: bool,
    /// `tmpcopyup`: what is below the mount point is copied into the new tmpfs.
    pub copy_up: bool,
    /// `idmap` (false) or `ridmap` (true).
    pub id_map: Option<bool>,
    /// `src-nofollow` and `copy-symlink`: a symbolic link is bound itself, or made again.
    pub source_link: SourceLink,
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

/// What is done with a source that is a symbolic link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceLink {
    /// Followed.
    #[default]
    Follow,
    /// Bound itself (`src-nofollow`).
    Bind,
    /// Made again at the destination (`copy-symlink`).
    Copy,
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

    /// The flags as attributes of mount_setattr(2) for a bind mount: (set, clear).
    pub fn attributes(&self) -> (u64, u64) {
        let given = self.flags.0;
        let simple = SIMPLE.iter().filter(|(flag, _)| given.contains(*flag));
        let mut set = simple.fold(0, |all, (_, attribute)| all | attribute);
        let mut clear = 0;
        if self.exact && !(given | self.cleared.0).is_empty() {
            clear = SIMPLE.iter().fold(0, |all, (_, attribute)| all | attribute) & !set;
        }
        if given.intersects(ATIME) {
            clear |= ATTR_ATIME;
            set |= match () {
                () if given.contains(MsFlags::MS_STRICTATIME) => ATTR_STRICTATIME,
                () if given.contains(MsFlags::MS_NOATIME) => ATTR_NOATIME,
                () => 0,
            };
            match (given.contains(MsFlags::MS_NODIRATIME), self.exact) {
                (true, _) => set |= ATTR_NODIRATIME,
                (false, true) => clear |= ATTR_NODIRATIME,
                _ => {}
            }
        }
        (set, clear)
    }

    /// The attributes for a source whose flags are locked (mount_namespaces(7)): what it has stays, and only what is
    /// asked for beyond that is set. `source`: its flags.
    ///
    /// # Errors
    /// The flags that are asked to be otherwise than the source's, which the kernel does not allow.
    pub fn locked_attributes(&self, source: MsFlags) -> std::result::Result<(u64, u64), MsFlags> {
        let lockable = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let refused = source & self.cleared.0 & lockable;
        let asked = self.flags.0 & ATIME;
        let mut has = source & ATIME;
        if !has.intersects(ATIME & !MsFlags::MS_NODIRATIME) {
            has |= MsFlags::MS_STRICTATIME;
        }
        if !refused.is_empty() || !asked.is_empty() && asked != has {
            return Err(if refused.is_empty() { has } else { refused });
        }
        let given = SIMPLE.iter().filter(|(flag, _)| self.flags.0.contains(*flag));
        let set = given.fold(0, |all, (_, attribute)| all | attribute);
        Ok((set, attr::ATTR_NOSYMFOLLOW & !set))
    }
}

/// Flags that are the same for mount(2) and mount_setattr(2) but for their numbers.
const SIMPLE: [(MsFlags, u64); 5] = [
    (MsFlags::MS_RDONLY, attr::ATTR_RDONLY),
    (MsFlags::MS_NOSUID, attr::ATTR_NOSUID),
    (MsFlags::MS_NODEV, attr::ATTR_NODEV),
    (MsFlags::MS_NOEXEC, attr::ATTR_NOEXEC),
    (MS_NOSYMFOLLOW, attr::ATTR_NOSYMFOLLOW),
];

#[derive(Clone, Copy)]
enum Word {
    Set(MsFlags),
    Unset(MsFlags),
    Nothing,
    /// The OCI words that act on the whole tree below a mount, through mount_setattr(2): set, clear.
    Recursive(u64, u64),
}

/// Words that are flags of a mount.
const FLAGS: [(&str, Word); 48] = [
    ("defaults", Word::Nothing),
    ("loud", Word::Unset(MsFlags::MS_SILENT)),
    ("noiversion", Word::Unset(MsFlags::MS_I_VERSION)),
    ("async", Word::Unset(MsFlags::MS_SYNCHRONOUS)),
    ("ro", Word::Set(MsFlags::MS_RDONLY)),
    ("rw", Word::Unset(MsFlags::MS_RDONLY)),
    ("nosuid", Word::Set(MsFlags::MS_NOSUID)),
    ("suid", Word::Unset(MsFlags::MS_NOSUID)),
    ("nodev", Word::Set(MsFlags::MS_NODEV)),
    ("dev", Word::Unset(MsFlags::MS_NODEV)),
    ("noexec", Word::Set(MsFlags::MS_NOEXEC)),
    ("exec", Word::Unset(MsFlags::MS_NOEXEC)),
    ("nosymfollow", Word::Set(MS_NOSYMFOLLOW)),
    ("symfollow", Word::Unset(MS_NOSYMFOLLOW)),
    ("noatime", Word::Set(MsFlags::MS_NOATIME)),
    ("atime", Word::Unset(MsFlags::MS_NOATIME)),
    ("relatime", Word::Set(MsFlags::MS_RELATIME)),
    ("norelatime", Word::Unset(MsFlags::MS_RELATIME)),
    ("strictatime", Word::Set(MsFlags::MS_STRICTATIME)),
    ("nostrictatime", Word::Unset(MsFlags::MS_STRICTATIME)),
    ("nodiratime", Word::Set(MsFlags::MS_NODIRATIME)),
    ("diratime", Word::Unset(MsFlags::MS_NODIRATIME)),
    ("lazytime", Word::Set(MS_LAZYTIME)),
    ("nolazytime", Word::Unset(MS_LAZYTIME)),
    ("sync", Word::Set(MsFlags::MS_SYNCHRONOUS)),
    ("dirsync", Word::Set(MsFlags::MS_DIRSYNC)),
    ("silent", Word::Set(MsFlags::MS_SILENT)),
    ("mand", Word::Set(MsFlags::MS_MANDLOCK)),
    ("nomand", Word::Unset(MsFlags::MS_MANDLOCK)),
    ("iversion", Word::Set(MsFlags::MS_I_VERSION)),
    ("rro", Word::Recursive(attr::ATTR_RDONLY, 0)),
    ("rrw", Word::Recursive(0, attr::ATTR_RDONLY)),
    ("rnosuid", Word::Recursive(attr::ATTR_NOSUID, 0)),
    ("rsuid", Word::Recursive(0, attr::ATTR_NOSUID)),
    ("rnodev", Word::Recursive(attr::ATTR_NODEV, 0)),
    ("rdev", Word::Recursive(0, attr::ATTR_NODEV)),
    ("rnoexec", Word::Recursive(attr::ATTR_NOEXEC, 0)),
    ("rexec", Word::Recursive(0, attr::ATTR_NOEXEC)),
    ("rnosymfollow", Word::Recursive(attr::ATTR_NOSYMFOLLOW, 0)),
    ("rsymfollow", Word::Recursive(0, attr::ATTR_NOSYMFOLLOW)),
    ("rnodiratime", Word::Recursive(ATTR_NODIRATIME, 0)),
    ("rdiratime", Word::Recursive(0, ATTR_NODIRATIME)),
    ("rnoatime", Word::Recursive(ATTR_NOATIME, ATTR_ATIME)),
    ("rstrictatime", Word::Recursive(ATTR_STRICTATIME, ATTR_ATIME)),
    ("rrelatime", Word::Recursive(0, ATTR_ATIME)),
    ("ratime", Word::Recursive(0, ATTR_ATIME)),
    ("rnostrictatime", Word::Recursive(0, ATTR_ATIME)),
    ("rnorelatime", Word::Recursive(0, ATTR_ATIME)),
];

/// Words that change how a mount is made. [`apply`] knows what each does.
const WAYS: [&str; 8] =
    ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap", "src-nofollow", "copy-symlink"];

/// Every word that is an option of mounts, not of a file system.
pub fn words() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|(word, _)| *word).chain(WAYS).chain(Propagation::WORDS)
}

fn known(word: &str) -> Option<Word> {
    FLAGS.iter().find(|(known, _)| *known == word).map(|(_, word)| *word)
}

/// Parses the words of one mount, from left to right: the last one wins. `object` names the mount in errors; `fstype` is
/// `None` for a bind mount.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming a word that is neither a mount option nor one of the file system's.
pub fn parse(object: &str, fstype: Option<&str>, words: &[String], unknown: Unknown) -> Result<Options> {
    let mut options = Options { exact: unknown == Unknown::Pass, ..Options::default() };
    for word in words {
        apply(object, &mut options, word)?;
    }
    let own = std::mem::take(&mut options.data);
    let bind = options.bind.is_some() || fstype.is_none_or(|t| t == "bind" || t == "none");
    for word in own {
        // mount(2) ignores the data of a bind mount, and configurations have a tmpfs's there.
        if bind && unknown == Unknown::Pass && own::check(object, Some("tmpfs"), &word).is_ok() {
            continue;
        }
        if bind || unknown == Unknown::Refuse {
            own::check(object, fstype.filter(|_| !bind), &word)?;
        } else if let (Some(fstype), Err(problem)) = (fstype, own::check(object, fstype, &word))
            && ask::refused(fstype, &word)
        {
            return Err(problem);
        }
        options.data.push(word);
    }
    Ok(options)
}

fn apply(object: &str, options: &mut Options, word: &str) -> Result<()> {
    // Engines quote SELinux contexts, with commas, and leave empty words.
    let text =
        if options.exact { word.contains('\0') } else { word.contains(['\0', ',']) || word.is_empty() };
    if text {
        return Err(unknown(object, word, "words without ',' and NUL, one option each"));
    }
    match word {
        "" => {}
        "bind" => options.bind = Some(options.bind.unwrap_or(false)),
        "rbind" => options.bind = Some(true),
        "remount" => options.remount = true,
        "tmpcopyup" => options.copy_up = true,
        "idmap" => options.id_map = Some(false),
        "ridmap" => options.id_map = Some(true),
        "src-nofollow" => options.source_link = SourceLink::Bind,
        "copy-symlink" => options.source_link = SourceLink::Copy,
        _ => match (known(word), Propagation::parse(word)) {
            (Some(Word::Set(flag)), _) => {
                options.flags.0 |= flag;
                options.cleared.0 &= !flag;
            }
            (Some(Word::Unset(flag)), _) => {
                options.flags.0 &= !flag;
                options.cleared.0 |= flag;
            }
            (Some(Word::Nothing), _) => {}
            (Some(Word::Recursive(set, clear)), _) => {
                options.recursive_set = (options.recursive_set & !clear) | set;
                options.recursive_clear = (options.recursive_clear & !set) | clear;
            }
            (None, Some(change)) => options.propagation.push(change),
            (None, None) => options.data.push(word.to_string()),
        },
    }
    Ok(())
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
mod tests;
