//! A memory cgroup around what is measured, whose peak the kernel keeps. Source: cgroup-v2.rst, memory.rst.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `TREE/tool` holds the tools; containers are put beside it by their configuration.
pub struct Tree {
    dir: PathBuf,
    v2: bool,
}

impl Tree {
    /// Makes it, or takes the one that is there.
    pub fn make(dir: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(dir.join("tool")).map_err(|e| format!("mkdir {dir:?}: {e}"))?;
        let v2 = dir.join("cgroup.controllers").exists();
        let tree = Self { dir, v2 };
        if v2 {
            // The parent may have it enabled already, for all that we may know of it.
            let _ = tree.write("../cgroup.subtree_control", "+memory");
            tree.write("cgroup.subtree_control", "+memory")?;
        }
        Ok(tree)
    }

    /// The file by which a process joins.
    pub fn procs(&self) -> PathBuf {
        self.dir.join("tool/cgroup.procs")
    }

    /// Forgets the peak. With v2 before Linux 6.12 it cannot be forgotten.
    pub fn reset(&self) {
        let _ = self.write(self.file(), "0");
    }

    /// The peak in KiB.
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.dir.join(self.file())).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or_default() / 1024
    }

    fn file(&self) -> &'static str {
        if self.v2 { "memory.peak" } else { "memory.max_usage_in_bytes" }
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        let path: &Path = &self.dir.join(file);
        let open = fs::OpenOptions::new().write(true).open(path);
        open.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| format!("{path:?}: {e}"))
    }
}
