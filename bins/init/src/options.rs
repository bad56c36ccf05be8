//! The options of the inside, shared word for word by `init` and `container run`.
#![allow(rustdoc::broken_intra_doc_links)] // help texts: [:GID] is no link

use crate::inside::Request;
use drydock_core::{Error, Result, size};
use drydock_mounts::{InjectedFile, Mount, Root};
use drydock_security::{CapSet, Capabilities};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Options of the inside.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[group(skip)]
#[serde(default)]
pub struct Options {
    /// Host name inside (sethostname(2))
    #[arg(long, value_name = "NAME", help_heading = "Inside")]
    pub hostname: Option<String>,
    /// Working directory inside, made if missing
    #[arg(short = 'w', long, value_name = "DIR", help_heading = "Inside")]
    pub workdir: Option<String>,
    /// Environment: KEY=VALUE, or KEY to pass on the caller's
    #[arg(short = 'e', long, value_name = "KEY=VALUE", help_heading = "Inside")]
    pub env: Vec<String>,
    /// File of KEY=VALUE lines
    #[arg(long, value_name = "FILE", help_heading = "Inside")]
    pub env_file: Vec<PathBuf>,
    /// User inside: UID[:GID] or NAME[:GROUP] of the root file system's /etc/passwd
    #[arg(short = 'u', long, value_name = "USER", help_heading = "Inside")]
    pub user: Option<String>,
    /// Give the command a terminal of its own (pts(4))
    #[arg(short = 't', long, help_heading = "Inside")]
    #[serde(skip)]
    pub tty: bool,
    /// Run the command under `init` as PID 1, which reaps zombies and forwards signals
    #[arg(long = "init", help_heading = "Inside")]
    pub reaper: bool,
    /// Bind mount: SRC:DST[:ro,rw,nosuid,nodev,noexec,rslave,rshared,…] (mount(8))
    #[arg(short = 'v', long, value_name = "SRC:DST[:OPTIONS]", help_heading = "File system")]
    pub volume: Vec<String>,
    /// tmpfs: DST[:size=64m,mode=1777,ro,tmpcopyup,…] (tmpfs(5))
    #[arg(long, value_name = "DST[:OPTIONS]", help_heading = "File system")]
    pub tmpfs: Vec<String>,
    /// Make the root file system read-only
    #[arg(long, help_heading = "File system")]
    pub read_only: bool,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE", help_heading = "File system")]
    pub shm_size: Option<String>,
    /// Replace a file inside by one of the host: SRC:DST
    #[arg(long, value_name = "SRC:DST", hide = true)]
    pub file: Vec<String>,
    /// Add a capability to the default set, or ALL (capabilities(7))
    #[arg(long, value_name = "CAP", help_heading = "Security")]
    pub cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAP", help_heading = "Security")]
    pub cap_drop: Vec<String>,
    /// no-new-privileges[=BOOL], seccomp=default|unconfined|FILE, apparmor=PROFILE, label=type:TYPE|disable
    #[arg(long, value_name = "OPTION", help_heading = "Security")]
    pub security_opt: Vec<String>,
    /// Resource limit: NAME=SOFT[:HARD], such as nofile=1024:4096 (getrlimit(2))
    #[arg(long, value_name = "LIMIT", help_heading = "Security")]
    pub ulimit: Vec<String>,
    /// Namespaced kernel parameter: KEY=VALUE (sysctl(8))
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Security")]
    pub sysctl: Vec<String>,
}

/// What the options do not say: it follows from the namespaces and the root.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The root file system; `None` keeps the mount namespace.
    pub root: Option<Root>,
    /// New namespaces: network (lo is brought up), cgroup, and a user namespace (device nodes are bound).
    pub new_network: bool,
    /// See `new_network`.
    pub new_cgroup: bool,
    /// See `new_network`.
    pub user_namespace: bool,
    /// The container's id, for its keyring; `None` keeps the caller's.
    pub id: Option<String>,
}

impl Options {
    /// The request that these options make.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the option; nothing is touched.
    pub fn request(&self, args: &[String], around: Surroundings) -> Result<Request> {
        let rooted = around.root.is_some();
        let mounts = around.root.map(|root| self.mounts(root, around.user_namespace)).transpose()?;
        Ok(Request {
            hostname: self.hostname.clone(),
            domainname: None,
            cgroup_namespace: around.new_cgroup,
            loopback: around.new_network,
            session: true,
            terminal: self.tty,
            sysctls: pairs("--sysctl", &self.sysctl)?,
            mounts,
            security: self.security(around.id)?,
            user: self.user.clone(),
            workdir: self.workdir.clone().or_else(|| rooted.then(|| "/".to_string())),
            args: args.to_vec(),
            env: self.environment()?,
            reaper: self.reaper,
            make_workdir: true,
            preserve_fds: 0,
        })
    }

    fn mounts(&self, mut root: Root, user_namespace: bool) -> Result<drydock_mounts::Request> {
        root.readonly = root.readonly || self.read_only;
        let mut request = drydock_mounts::Request::container_defaults(root);
        request.user_namespace = user_namespace;
        if let Some(text) = &self.shm_size {
            let bytes = size::parse("--shm-size", text)?;
            let shm = request.mounts.iter_mut().filter(|m| m.destination == "/dev/shm");
            for mount in shm {
                mount.options.retain(|o| !o.starts_with("size="));
                mount.options.push(format!("size={bytes}"));
            }
        }
        let mut taken: Vec<String> = Vec::new();
        for mount in self.volume.iter().map(|v| volume(v)).chain(self.tmpfs.iter().map(|t| tmpfs(t))) {
            let mount = mount?;
            if taken.contains(&mount.destination) {
                return Err(Error::bad_input(
                    "--volume",
                    format!("'{}' is mounted twice", mount.destination),
                ));
            }
            taken.push(mount.destination.clone());
            request.mounts.push(mount);
        }
        for file in &self.file {
            // The destination is one of ours; the source may have colons.
            let (source, destination) = file.rsplit_once(':').ok_or_else(|| {
                Error::bad_input("--file", format!("'{file}' names no destination (allowed: SRC:DST)"))
            })?;
            request.files.push(InjectedFile { destination: destination.into(), source: source.into() });
        }
        request.file_store = common_directory(&request.files);
        Ok(request)
    }

    fn security(&self, id: Option<String>) -> Result<drydock_security::Request> {
        let mut request = drydock_security::Request::container_defaults();
        request.capabilities =
            Some(Capabilities::from_add_drop(CapSet::DEFAULT, &self.cap_add, &self.cap_drop)?);
        request.keyring = id.map(|id| format!("_ses.{id}"));
        for word in &self.security_opt {
            drydock_security::security_opt(&mut request, word)?;
        }
        for limit in &self.ulimit {
            let limit = drydock_security::Rlimit::parse(limit)?;
            request.rlimits.retain(|other| other.name != limit.name);
            request.rlimits.push(limit);
        }
        Ok(request)
    }

    /// The environment: a small default, then files, then options; later ones win.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a word without a name, or a file that cannot be read.
    pub fn environment(&self) -> Result<Vec<String>> {
        let mut words = vec![format!("PATH={}", drydock_supervise::exec::DEFAULT_PATH)];
        if let Some(name) = &self.hostname {
            words.push(format!("HOSTNAME={name}"));
        }
        if self.tty {
            words.push("TERM=xterm".to_string());
        }
        words.push("container=drydock".to_string());
        for file in &self.env_file {
            words.extend(env_file(file)?);
        }
        for word in &self.env {
            words.extend(env_word("--env", word)?);
        }
        Ok(last_wins(words))
    }
}

/// The directory that files lie in, if it is one: copies of them can take its place.
pub fn common_directory(files: &[InjectedFile]) -> Option<PathBuf> {
    let dir = files.first()?.source.parent()?;
    files.iter().all(|file| file.source.parent() == Some(dir)).then(|| dir.to_path_buf())
}

fn last_wins(words: Vec<String>) -> Vec<String> {
    let mut result: Vec<String> = Vec::new();
    for word in words {
        let key = word.split('=').next().unwrap_or_default().to_string();
        match result.iter_mut().find(|w| w.split('=').next() == Some(&key)) {
            Some(earlier) => *earlier = word,
            None => result.push(word),
        }
    }
    result
}

/// `KEY=VALUE` as it is; `KEY` with the caller's value, or nothing if the caller has none.
fn env_word(option: &str, word: &str) -> Result<Option<String>> {
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    if key.is_empty() || word.contains('\0') {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 60);
        return Err(Error::bad_input(
            option,
            format!("'{shown}' is not a variable (allowed: KEY=VALUE, or KEY to pass on the caller's)"),
        ));
    }
    Ok(match value {
        Some(_) => Some(word.to_string()),
        None => std::env::var(key).ok().map(|value| format!("{key}={value}")),
    })
}

/// A file of `KEY=VALUE` or `KEY` lines; empty lines and lines that begin with `#` are left out. At most 1 MiB.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a file that is none, or a line that is no variable.
pub fn env_file(path: &Path) -> Result<Vec<String>> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let shown = path.display().to_string();
    let bad = |why: String| Error::bad_input("--env-file", format!("'{shown}': {why}"));
    let flags = nix::libc::O_NONBLOCK;
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| bad(plain(&e)))?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Err(bad("not a regular file".into()));
    }
    let mut text = String::new();
    file.take(1 << 20).read_to_string(&mut text).map_err(|e| bad(plain(&e)))?;
    let mut words = Vec::new();
    for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        words.extend(env_word("--env-file", line)?);
    }
    Ok(words)
}

fn plain(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), drydock_core::error::errno_text)
}

/// `KEY=VALUE` words as a map; a key twice is an error.
fn pairs(option: &str, words: &[String]) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 60);
            return Err(Error::bad_input(option, format!("'{shown}' has no value (allowed: KEY=VALUE)")));
        };
        if map.insert(key.to_string(), value.to_string()).is_some() {
            return Err(Error::bad_input(option, format!("'{key}' given twice")));
        }
    }
    Ok(map)
}

/// Mount options that a volume may have beside the tmpfs ones.
const VOLUME_OPTIONS: [&str; 19] = [
    "ro",
    "rw",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "bind",
    "rbind",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "noatime",
    "relatime",
    "nosymfollow",
];

/// `SRC:DST[:OPTIONS]`.
fn volume(text: &str) -> Result<Mount> {
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 120);
    let bad = |why: &str| Error::bad_input("--volume", format!("'{shown}': {why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts.as_slice() {
        [source, destination] => (*source, *destination, ""),
        [source, destination, options] => (*source, *destination, *options),
        _ => return Err(bad("not a volume (allowed: SRC:DST[:OPTIONS])")),
    };
    if !destination.starts_with('/') || destination.trim_matches('/').is_empty() {
        return Err(bad("the destination must be an absolute path below / inside"));
    }
    let source = host_path(source)
        .ok_or_else(|| bad("the source must be an absolute path, or start with ./ or ../"))?;
    let metadata = std::fs::metadata(&source);
    if let Err(e) = metadata {
        return Err(bad(&format!("the source cannot be used: {}", plain(&e))));
    }
    let words: Vec<&str> = options.split(',').filter(|o| !o.is_empty()).collect();
    if let Some(unknown) = words.iter().find(|word| !VOLUME_OPTIONS.contains(word)) {
        return Err(bad(&format!("unknown option '{unknown}' (allowed: {})", VOLUME_OPTIONS.join(" "))));
    }
    // A volume can hold set-user-ID programs and devices of the host; neither is wanted unless asked for.
    let guard = [("suid", "nosuid"), ("dev", "nodev")];
    let guards = guard.iter().filter(|(lift, _)| !words.contains(lift)).map(|(_, word)| *word);
    let all: Vec<&str> = guards.chain(words.iter().copied()).collect();
    Ok(Mount::bind(&source.to_string_lossy(), destination, &all))
}

/// An absolute path, or one that is clearly meant as relative to the caller's directory.
fn host_path(source: &str) -> Option<PathBuf> {
    if source.starts_with('/') {
        return Some(PathBuf::from(source));
    }
    let relative = source == "." || source == ".." || source.starts_with("./") || source.starts_with("../");
    if relative { std::fs::canonicalize(source).ok().or_else(|| Some(PathBuf::from(source))) } else { None }
}

/// `DST[:OPTIONS]`.
fn tmpfs(text: &str) -> Result<Mount> {
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 120);
    let bad = |why: &str| Error::bad_input("--tmpfs", format!("'{shown}': {why}"));
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    if !destination.starts_with('/') || destination.trim_matches('/').is_empty() {
        return Err(bad("the destination must be an absolute path below / inside (allowed: DST[:OPTIONS])"));
    }
    let words: Vec<&str> = options.split(',').filter(|o| !o.is_empty()).collect();
    let known = |word: &&&str| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "size" => {
                size::parse("--tmpfs", value).is_ok()
                    || value.strip_suffix('%').is_some_and(|n| n.parse::<u8>().is_ok())
            }
            "mode" => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
            "nr_inodes" | "uid" | "gid" => value.parse::<u32>().is_ok(),
            "tmpcopyup" => value.is_empty(),
            _ => value.is_empty() && VOLUME_OPTIONS.contains(&key) && !key.contains("bind"),
        }
    };
    if let Some(unknown) = words.iter().find(|word| !known(word)) {
        return Err(bad(&format!(
            "unknown option '{unknown}' (allowed: size= mode= nr_inodes= uid= gid= tmpcopyup ro nosuid nodev noexec …)"
        )));
    }
    Ok(Mount::tmpfs(destination, &words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let mount = volume("/tmp:/data:ro").unwrap();
        assert_eq!(mount.destination, "/data");
        assert!(mount.options.contains(&"ro".to_string()) && mount.options.contains(&"nosuid".to_string()));
        for bad in
            ["a:b:c:d", ":/x", "/x:rel", "/tmp:/x:zz", "/tmp", "", "name:/x", "/tmp:/", "/no/such/dir:/x"]
        {
            assert_eq!(volume(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn tmpfses() {
        assert!(tmpfs("/data").is_ok() && tmpfs("/data:size=1m,mode=700,ro").is_ok());
        for bad in ["", "rel", "/", "/x:size=zz", "/x:mode=9", "/x:frob", "/x:size=1m,rbind"] {
            assert_eq!(tmpfs(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn environment_later_wins() {
        let options =
            Options { env: vec!["A=1".into(), "PATH=/x".into(), "A=2=3".into()], ..Options::default() };
        let env = options.environment().unwrap();
        assert!(env.contains(&"A=2=3".to_string()) && env.contains(&"PATH=/x".to_string()));
        assert_eq!(env.iter().filter(|w| w.starts_with("A=")).count(), 1);
        for bad in ["=x", "", "A=\0"] {
            assert!(env_word("--env", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sysctls_once() {
        assert!(pairs("--sysctl", &["a=1".into(), "a=2".into()]).is_err());
        assert!(pairs("--sysctl", &["a".into()]).is_err());
    }
}
