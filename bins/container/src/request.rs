//! A container as it was asked for: each stage's request. Made from options; nothing is touched.

use crate::options::Options;
use crate::rootfs;
use drydock_cgroups::{IfExists, Limits};
use drydock_core::error::CallExt;
use drydock_core::{ContainerId, Error, Result};
use drydock_init::inside;
use drydock_init::options::Surroundings;
use drydock_mounts::InjectedFile;
use drydock_namespaces::join::Source;
use drydock_namespaces::{IdMap, Kind, Set};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Which namespaces are made, joined and mapped.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Namespaces {
    /// Made new.
    pub new: Set,
    /// Joined by path.
    pub join: Vec<(Kind, Source)>,
    /// User id map of a new user namespace.
    pub uid_map: Vec<IdMap>,
    /// Group id map.
    pub gid_map: Vec<IdMap>,
    /// Clock offsets of a new time namespace.
    pub offsets: drydock_namespaces::time::Offsets,
}

impl Namespaces {
    /// The namespace of this kind that is joined, open.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn joined(&self, kind: Kind) -> Result<Option<OwnedFd>> {
        let Some((_, source)) = self.join.iter().find(|(joined, _)| *joined == kind) else { return Ok(None) };
        let path = match source {
            Source::Path(path) => path.clone(),
            Source::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/{}", kind.proc_name())),
        };
        let file = std::fs::File::open(&path).call(|| format!("open({path:?}, O_RDONLY)"))?;
        Ok(Some(file.into()))
    }
}

/// How the container is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A namespace with nothing but `lo`.
    None,
    /// The host's own.
    Host,
    /// A veth pair to a bridge.
    Bridge(crate::network::Attachment),
    /// Made by other programs: CNI plugins, or pasta.
    Foreign(crate::network::Foreign),
    /// An existing namespace, which is not deleted with the container.
    Namespace(PathBuf),
}

impl Network {
    /// As it is shown and written down.
    pub fn mode(&self) -> String {
        match self {
            Network::None => "none".into(),
            Network::Host => "host".into(),
            Network::Bridge(_) => "bridge".into(),
            Network::Foreign(foreign) => foreign.mode(),
            Network::Namespace(path) => format!("ns:{}", path.display()),
        }
    }
}

/// Everything that was asked.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// The container's name.
    pub id: ContainerId,
    /// Its root file system.
    pub rootfs: rootfs::Source,
    /// Its cgroup; `None` only where cgroups cannot be used at all.
    pub cgroup: Option<drydock_cgroups::Request>,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Its own view of the root's files, with ids mapped; see the module `idmap`.
    pub mapped: Option<PathBuf>,
    /// Its network.
    pub network: Network,
    /// Files of its own: /etc/hosts, /etc/hostname, /etc/resolv.conf.
    pub files: drydock_network::etc::Request,
    /// What its first process does.
    pub inside: inside::Request,
    /// Runs in the background.
    pub detach: bool,
    /// Keeps standard input.
    pub interactive: bool,
    /// Removed at the end.
    pub remove: bool,
    /// Stop signal and seconds.
    pub stop: (i32, u64),
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What a bundle asks for beyond the stages; `None` for options.
    pub bundled: Option<crate::oci::Bundled>,
}

/// The default limit on processes: enough for every service, small for a fork bomb.
const DEFAULT_PIDS: u64 = 4096;

impl Request {
    /// The request that these options make. `state_root` is where the container's files will be.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the option.
    pub fn from_options(options: &Options, command: &[String], state_root: &Path) -> Result<Self> {
        let id = match &options.name {
            Some(name) => ContainerId::parse(name)?,
            None => ContainerId::random(),
        };
        let root = nix::unistd::geteuid().is_root();
        let mut namespaces = namespaces(options, root)?;
        let network = network(options, &mut namespaces, root)?;
        let userns = namespaces.new.contains(Kind::User);
        // The state root is closed to the container's own user: what it must reach lies elsewhere.
        let containers = drydock_core::paths::data_root()?.join("containers");
        let place = if userns && root { containers.as_path() } else { state_root };
        let source = rootfs::Source::from_options(options, &id, place)?;
        let mapped = (userns && root).then(|| containers.join(&id).join("lower"));
        let mut inside = options.inside.clone();
        let uts_is_new = namespaces.new.contains(Kind::Uts);
        if !uts_is_new && inside.hostname.is_some() {
            return Err(Error::bad_input(
                "--hostname",
                "needs a uts namespace (allowed: without --ns uts=host)",
            ));
        }
        if uts_is_new && inside.hostname.is_none() {
            inside.hostname = Some(default_hostname(&id));
        }
        let around = Surroundings {
            root: Some(source.root(userns, mapped.as_deref())),
            new_network: namespaces.new.contains(Kind::Network),
            new_cgroup: namespaces.new.contains(Kind::Cgroup),
            user_namespace: userns,
            id: Some(id.to_string()),
        };
        let command = if command.is_empty() { source.default_command() } else { command.to_vec() };
        let mut inside = inside.request(&command, around)?;
        own_sysctls(&inside, &namespaces)?;
        let files = crate::files::request(&id, place, inside.hostname.as_deref(), options, &network)?;
        if let Some(mounts) = &mut inside.mounts {
            mounts.files.extend(
                crate::files::injected(&files, &source)
                    .into_iter()
                    .map(|(destination, path)| InjectedFile { destination, source: path }),
            );
            mounts.file_store = drydock_init::options::common_directory(&mounts.files);
        }
        Ok(Self {
            cgroup: Some(drydock_cgroups::Request {
                name: format!("{}/{id}", drydock_cgroups::SHARED_PARENT),
                limits: limits(options)?,
                if_exists: IfExists::Fail,
                lenient: true,
                make_leaf: false,
                lean: true,
                dirs: vec![],
                complete: false,
                place: drydock_cgroups::Place::Base,
            }),
            id,
            rootfs: source,
            mapped,
            namespaces,
            network,
            files,
            inside,
            detach: options.detach,
            interactive: options.interactive,
            remove: options.rm,
            stop: stop(options)?,
            labels: labels(options)?,
            bundled: None,
        })
    }
}

impl Request {
    /// The same over another shared directory.
    #[must_use]
    pub fn with_lower(mut self, lower: PathBuf) -> Self {
        self.rootfs.set_lower(lower);
        let userns = self.namespaces.new.contains(Kind::User);
        if let Some(mounts) = &mut self.inside.mounts {
            let readonly = mounts.root.readonly;
            mounts.root = self.rootfs.root(userns, self.mapped.as_deref());
            mounts.root.readonly = readonly;
        }
        self
    }
}

/// A parameter of a namespace that is the host's would be the host's, and stay.
fn own_sysctls(inside: &inside::Request, namespaces: &Namespaces) -> Result<()> {
    for key in inside.sysctls.keys() {
        let kind = drydock_init::sysctl::namespace(key);
        let own = namespaces.new.contains(kind) || namespaces.join.iter().any(|(joined, _)| *joined == kind);
        if !own {
            let shown = drydock_core::text::escape(key);
            let problem = format!(
                "'{shown}' would be the host's (allowed: with a {kind} namespace of the container's own)"
            );
            return Err(Error::bad_input("--sysctl", problem));
        }
    }
    Ok(())
}

/// The id, made a host name: at most 63 bytes, letters, digits, `-`, `.`.
fn default_hostname(id: &ContainerId) -> String {
    id.as_str()
        .chars()
        .take(63)
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect()
}

fn limits(options: &Options) -> Result<Limits> {
    let size = |option: &str, text: &Option<String>| {
        text.as_ref().map(|text| Limits::parse_size(option, text)).transpose()
    };
    let limits = Limits {
        cpu: options.cpus.as_deref().map(Limits::parse_cpus).transpose().map_err(named)?,
        cpu_weight: options.cpu_weight,
        cpuset_cpus: options.cpuset_cpus.clone(),
        cpuset_mems: options.cpuset_mems.clone(),
        memory_max: size("--memory", &options.memory)?,
        swap_max: size("--swap", &options.swap)?,
        pids_max: match options.pids.as_deref() {
            Some("-1") => None,
            Some("0") => {
                return Err(Error::bad_input("--pids", "0 lets nobody in (allowed: 1 and more, or -1)"));
            }
            Some(text) => Some(Limits::parse_count("--pids", text)?),
            None => Some(DEFAULT_PIDS),
        },
        ..Limits::default()
    };
    if limits.swap_max.is_some() && limits.memory_max.is_none() {
        return Err(Error::bad_input("--swap", "needs --memory (swap is counted beyond the memory limit)"));
    }
    limits.check().and_then(|()| limits.check_pages()).map_err(named)?;
    Ok(limits)
}

/// What the cgroup stage says of a limit, by the option that asked for it.
pub(crate) fn named(error: Error) -> Error {
    const OPTIONS: [(&str, &str); 8] = [
        ("cpus", "--cpus"),
        ("cpu.max", "--cpus"),
        ("cpu.weight", "--cpu-weight"),
        ("cpuset.cpus", "--cpuset-cpus"),
        ("cpuset.mems", "--cpuset-mems"),
        ("memory.max", "--memory"),
        ("memory.swap.max", "--swap"),
        ("pids.max", "--pids"),
    ];
    let sentence = error.sentence();
    let Some((file, problem)) = sentence.split_once(": ") else { return error };
    match OPTIONS.iter().find(|(known, _)| *known == file) {
        Some((_, option)) if error.kind() == drydock_core::Kind::BadInput => {
            Error::bad_input(*option, problem)
        }
        _ => error,
    }
}

fn namespaces(options: &Options, root: bool) -> Result<Namespaces> {
    let kinds = [Kind::Mount, Kind::Pid, Kind::Ipc, Kind::Uts, Kind::Cgroup];
    let mut result = Namespaces { new: kinds.into_iter().collect(), ..Namespaces::default() };
    let mut seen = Set::EMPTY;
    for word in &options.ns {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 60);
        let bad = |why: &str| Error::bad_input("--ns", format!("'{shown}': {why}"));
        let (kind, which) =
            word.split_once('=').ok_or_else(|| bad("not TYPE=WHICH (allowed: such as pid=host)"))?;
        let kind: Kind = kind.parse()?;
        if matches!(kind, Kind::Mount | Kind::User | Kind::Network) {
            return Err(bad("mount is always new; for user see --userns, for network --net"));
        }
        if !seen.insert(kind) {
            return Err(bad("named twice"));
        }
        match which {
            "new" => result.new = result.new.with(kind),
            "host" => result.new = result.new.without(kind),
            path if path.starts_with('/') => {
                drydock_namespaces::NamespaceId::of_path(Path::new(path), Some(kind))?;
                result.new = result.new.without(kind);
                result.join.push((kind, Source::Path(PathBuf::from(path))));
            }
            _ => return Err(bad("(allowed: new, host, or the absolute path of a namespace file)")),
        }
    }
    crate::userns::decide(options.userns.as_deref(), root, options.tree.is_some(), &mut result)?;
    Ok(result)
}

fn network(options: &Options, namespaces: &mut Namespaces, root: bool) -> Result<Network> {
    // Nothing on the host changes unless asked for; a published port asks for a bridge.
    let fallback = if options.publish.is_empty() && options.ip.is_none() && options.attach.is_none() {
        "none"
    } else if root || options.ip.is_some() || options.attach.is_some() {
        "bridge"
    } else {
        // Without root a port is published by pasta.
        "pasta"
    };
    let mode = options.net.as_deref().unwrap_or(fallback);
    let bridged = mode == "bridge";
    let foreign = matches!(mode, "pasta" | "slirp4netns") || mode.starts_with("cni:");
    if foreign && options.ip.is_none() {
        if mode.starts_with("cni:") && !root {
            return Err(Error::bad_input(
                "--net",
                "'cni' needs root: plugins add links to the host's network",
            )
            .hint("--net pasta"));
        }
        namespaces.new.insert(Kind::Network);
        return Ok(Network::Foreign(crate::network::Foreign::from_options(mode, options)?));
    }
    if !bridged && !options.publish.is_empty() {
        return Err(Error::bad_input(
            "--publish",
            format!("needs --net bridge, not '{}'", drydock_core::text::escape(mode)),
        ));
    }
    if !bridged && options.ip.is_some() {
        return Err(Error::bad_input("--ip", "needs --net bridge"));
    }
    match mode {
        "none" => {
            namespaces.new.insert(Kind::Network);
            Ok(Network::None)
        }
        "host" => Ok(Network::Host),
        "bridge" if root => {
            namespaces.new.insert(Kind::Network);
            Ok(Network::Bridge(crate::network::Attachment::from_options(options)?))
        }
        "bridge" => {
            Err(Error::bad_input("--net", "'bridge' needs root: only it may add links to the host's network")
                .hint("--net pasta, none or host"))
        }
        other => match other.strip_prefix("ns:") {
            Some(path) if path.starts_with('/') => {
                let path = PathBuf::from(path);
                drydock_namespaces::NamespaceId::of_path(&path, Some(Kind::Network))?;
                namespaces.join.push((Kind::Network, Source::Path(path.clone())));
                Ok(Network::Namespace(path))
            }
            _ => {
                let shown = drydock_core::text::shorten(&drydock_core::text::escape(other), 60);
                Err(Error::bad_input(
                    "--net",
                    format!(
                        "'{shown}' is no network (allowed: none, host, bridge, pasta, slirp4netns, cni:NAME, ns:/absolute/path)"
                    ),
                ))
            }
        },
    }
}

fn stop(options: &Options) -> Result<(i32, u64)> {
    let signal = options.stop_signal.as_deref().map(drydock_supervise::signals::parse_signal).transpose()?;
    Ok((signal.unwrap_or(nix::libc::SIGTERM), options.stop_timeout.unwrap_or(10)))
}

fn labels(options: &Options) -> Result<BTreeMap<String, String>> {
    let mut labels = options.labels.clone();
    for word in &options.label {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key.is_empty() || word.len() > 4096 || word.contains('\0') {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 60);
            return Err(Error::bad_input(
                "--label",
                format!("'{shown}' is no label (allowed: KEY=VALUE, at most 4096 bytes)"),
            ));
        }
        labels.insert(key.to_string(), value.to_string());
    }
    Ok(labels)
}
