//! What every root file system has: directories, and the few files that programs read.

use crate::copy::{Plan, Step};
use crate::root::{Root, shown};
use crate::view::{Node, View};
use drydock_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// An empty root file system to be made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// The directory; made if missing.
    pub root: PathBuf,
    /// Also if it is not empty: what is there stays, the files below are replaced.
    pub force: bool,
    /// /bin, /sbin and /lib* are links into /usr where they are so on the host; otherwise plain directories.
    pub merged: bool,
    /// What /etc/os-release says that it is.
    pub variant: String,
}

/// Directories with their permission bits (hier(7)).
const DIRS: [(&str, u32); 16] = [
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/home", 0o755),
    ("/mnt", 0o755),
    ("/opt", 0o755),
    ("/proc", 0o755),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sys", 0o755),
    ("/tmp", 0o1777),
    ("/usr/bin", 0o755),
    ("/usr/lib", 0o755),
    ("/usr/sbin", 0o755),
    ("/var/lib", 0o755),
    ("/var/log", 0o755),
    ("/var/tmp", 0o1777),
];

/// Names that are links into /usr on a merged system.
const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n";

/// The steps of a skeleton, for plans that begin with one.
pub fn steps(merged: bool, variant: &str) -> Result<Vec<Step>> {
    let dir = |path: &str, mode| Step::Dir { path: path.into(), mode };
    let mut steps: Vec<Step> = DIRS.iter().map(|(path, mode)| dir(path, *mode)).collect();
    let host = View::host()?;
    for name in MERGED {
        match host.node(Path::new(name)) {
            Ok(Node::Link(target)) if merged && into_usr(&target) => {
                steps.push(dir(&format!("/usr{name}"), 0o755));
                steps.push(Step::Link { path: name.into(), target });
            }
            Ok(_) if merged => steps.push(dir(name, 0o755)),
            _ if matches!(name, "/bin" | "/sbin" | "/lib") => steps.push(dir(name, 0o755)),
            _ => {}
        }
    }
    let release = format!(
        "ID=drydock\nNAME=\"Drydock\"\nPRETTY_NAME=\"Drydock {variant}\"\nVARIANT_ID={}\nVERSION_ID=\"{}\"\n",
        variant.replace(' ', "-"),
        env!("CARGO_PKG_VERSION")
    );
    let files = [
        ("/etc/passwd", PASSWD),
        ("/etc/group", GROUP),
        ("/etc/hostname", "drydock\n"),
        ("/etc/hosts", HOSTS),
        ("/etc/nsswitch.conf", NSSWITCH),
        // Empty: a mount target for whoever gives the root a network.
        ("/etc/resolv.conf", ""),
        ("/etc/os-release", &release),
    ];
    steps.extend(files.iter().map(|(path, text)| Step::Write {
        path: path.into(),
        text: (*text).to_string(),
        mode: 0o644,
    }));
    Ok(steps)
}

/// `usr/NAME` or `/usr/NAME`: any other link of the host would lead nowhere in the root.
fn into_usr(target: &Path) -> bool {
    crate::root::relative(target).starts_with("usr") && !target.components().any(|c| c.as_os_str() == "..")
}

impl Request {
    /// Checks the directory; makes nothing.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] as [`Root::open`], and for a directory that is not empty without `force`.
    pub fn validate(&self) -> Result<()> {
        if self.root.as_os_str().is_empty() || std::fs::symlink_metadata(&self.root).is_ok() {
            let root = Root::open(&self.root)?;
            if !self.force && !root.is_empty()? {
                return Err(Error::bad_input(
                    shown(&self.root),
                    "is not empty (allowed: an empty or a new directory)",
                )
                .hint("empty it, name a new one, or use rootfs new --force"));
            }
        }
        Ok(())
    }

    /// The steps below the directory.
    ///
    /// # Errors
    /// As [`Request::validate`].
    pub fn plan(&self) -> Result<Plan> {
        self.validate()?;
        let mut steps = steps(self.merged, &self.variant)?;
        if let Ok(root) = Root::open(&self.root) {
            // With --force a plain /bin may be there: it stays.
            steps.retain(|step| !matches!(step, Step::Link { path, .. } if root.has_directory(path)));
        }
        Ok(Plan::creating(self.root.clone(), steps))
    }
}
