//! The option words of file systems themselves.

use super::unknown;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};

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

pub(super) fn check(object: &str, fstype: Option<&str>, word: &str) -> Result<()> {
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
