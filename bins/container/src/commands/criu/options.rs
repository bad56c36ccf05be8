//! The options that `checkpoint` and `restore` pass to criu. Source: criu(8), runc-checkpoint(8), runc-restore(8); criu's rpc.proto.

use super::wire::Message;
use drydock_core::Result;
use drydock_core::error::CallExt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// What both verbs take.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// Directory of the images [default: ./checkpoint]
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
    /// Directory of criu's log and other files [default: that of the images]
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// Open TCP connections, too
    #[arg(long)]
    pub tcp_established: bool,
    /// Unix sockets that are connected to outside, too
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// A container whose terminal belongs to a shell
    #[arg(long)]
    pub shell_job: bool,
    /// File locks, too
    #[arg(long)]
    pub file_locks: bool,
    /// Names again for files that are open and deleted
    #[arg(long)]
    pub link_remap: bool,
    /// Memory is fetched as it is needed (userfaultfd(2))
    #[arg(long)]
    pub lazy_pages: bool,
    /// How cgroups are treated
    #[arg(long, value_name = "MODE", default_value = "soft", value_parser = ["soft", "full", "strict", "ignore"])]
    pub manage_cgroups_mode: String,
    /// Make this namespace, but leave what is in it alone
    #[arg(long, value_name = "TYPE", value_parser = ["network"])]
    pub empty_ns: Vec<String>,
    /// No page of memory twice in images that follow each other
    #[arg(long)]
    pub auto_dedup: bool,
}

impl Options {
    /// The images' directory.
    pub fn images(&self) -> PathBuf {
        self.image_path.clone().unwrap_or_else(|| PathBuf::from("checkpoint"))
    }

    /// The directory of criu's other files.
    pub fn work(&self) -> PathBuf {
        self.work_path.clone().unwrap_or_else(|| self.images())
    }

    /// Opens the directories, and writes these options as criu takes them.
    ///
    /// # Errors
    /// When a directory cannot be made or opened.
    pub fn open(&self, log: &str, config: Option<&str>) -> Result<(Message, Directories)> {
        let directories = Directories {
            images: directory("--image-path", &self.images())?,
            work: directory("--work-path", &self.work())?,
        };
        let mut options = Message::default();
        options.number(1, directories.images.as_raw_fd());
        options.number(17, directories.work.as_raw_fd());
        options.number(9, 4);
        options.text(10, log);
        let flags = [
            (4, self.ext_unix_sk),
            (5, self.tcp_established),
            (7, self.shell_job),
            (8, self.file_locks),
            (16, self.auto_dedup),
            (18, self.link_remap),
            (48, self.lazy_pages),
            // It tells what it does; a terminal whose other end is outside comes by that way.
            (12, true),
            (50, true),
            // What is mounted from outside is found by criu itself, at the checkpoint and at the restore.
            (28, true),
            (29, true),
            (30, true),
            (24, true),
        ];
        flags.into_iter().for_each(|(field, on)| options.flag(field, on));
        options.number(
            34,
            match self.manage_cgroups_mode.as_str() {
                "ignore" => 0,
                "full" => 4,
                "strict" => 5,
                _ => 3,
            },
        );
        if !self.empty_ns.is_empty() {
            options.number(38, nix::libc::CLONE_NEWNET);
        }
        config.into_iter().for_each(|path| options.text(51, path));
        Ok((options, directories))
    }
}

/// The directories that criu takes as descriptors of ours.
#[derive(Debug)]
pub struct Directories {
    images: File,
    work: File,
}

/// A directory of criu's, made if missing.
fn directory(option: &str, path: &Path) -> Result<File> {
    std::fs::create_dir_all(path)
        .call(|| format!("mkdir({path:?})"))
        .and_then(|()| File::open(path).call(|| format!("open({path:?}, O_RDONLY)")))
        .map_err(|e| e.on(option.to_string()))
}
