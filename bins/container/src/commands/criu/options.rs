//! The options that `checkpoint` and `restore` pass to criu. Source: criu(8), runc-checkpoint(8), runc-restore(8).

use std::path::PathBuf;

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

    /// criu's words for them.
    pub fn words(&self, log: &str) -> Vec<String> {
        let mut words = vec![
            format!("--images-dir={}", self.images().display()),
            format!("--work-dir={}", self.work().display()),
            format!("--log-file={log}"),
            "-v4".to_string(),
            format!("--manage-cgroups={}", self.manage_cgroups_mode),
            // What is mounted from outside is found by criu itself, at the checkpoint and at the restore.
            "--external=mnt[]:sm".to_string(),
        ];
        let flags = [
            (self.tcp_established, "--tcp-established"),
            (self.ext_unix_sk, "--ext-unix-sk"),
            (self.shell_job, "--shell-job"),
            (self.file_locks, "--file-locks"),
            (self.link_remap, "--link-remap"),
            (self.lazy_pages, "--lazy-pages"),
            (self.auto_dedup, "--auto-dedup"),
            (!self.empty_ns.is_empty(), "--empty-ns=net"),
        ];
        words.extend(flags.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_string()));
        words
    }
}
