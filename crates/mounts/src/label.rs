//! SELinux labels of file systems (mountLabel). Source: mount(8), "context=".

use crate::options::Options;
use drydock_core::error::CallExt;
use drydock_core::text::{escape, shorten};
use drydock_core::{Error, Result};
use std::os::fd::BorrowedFd;

/// The label, if this machine uses SELinux: without it the kernel refuses the option.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a label that is none.
pub(crate) fn checked(label: Option<&str>) -> Result<Option<String>> {
    let Some(label) = label.filter(|l| !l.is_empty()) else { return Ok(None) };
    if label.len() > 1024 || label.contains(['"', '\0', '\n']) {
        let shown = shorten(&escape(label), 80);
        return Err(Error::bad_input(
            "mount label",
            format!("'{shown}' is no context (allowed: user:role:type:level)"),
        ));
    }
    Ok(std::path::Path::new("/sys/fs/selinux/enforce").exists().then(|| label.to_string()))
}

/// Gives a file system without labels of its own the container's. The kernel's own file systems have theirs.
pub(crate) fn add(options: &mut Options, fstype: &str, label: Option<&str>) {
    let kernels = matches!(fstype, "proc" | "sysfs" | "cgroup" | "cgroup2" | "mqueue");
    if let (Some(label), false) = (label, kernels) {
        options.data.push(word(label));
    }
}

/// Labels the root of a file system that takes no label as an option.
///
/// # Errors
/// setxattr(2)'s.
pub(crate) fn set(root: BorrowedFd<'_>, label: &str) -> Result<()> {
    let (path, name) = (crate::inside::fd_path(root), "security.selinux");
    rustix::fs::setxattr(&path, name, label.as_bytes(), rustix::fs::XattrFlags::empty())
        .call(|| format!("setxattr({path:?}, {name:?}, {label:?})"))
}

/// The word of mount(2)'s data; quoted, because levels contain commas.
pub(crate) fn word(label: &str) -> String {
    format!("context=\"{label}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted_and_checked() {
        let mut options = Options::default();
        add(&mut options, "proc", Some("a:b:c:s0:c1,c2"));
        assert_eq!(options.data_string(), "");
        add(&mut options, "tmpfs", Some("a:b:c:s0:c1,c2"));
        assert_eq!(options.data_string(), "context=\"a:b:c:s0:c1,c2\"");
        assert!(checked(Some("a\"b")).is_err());
        assert_eq!(checked(None).unwrap(), None);
    }
}
