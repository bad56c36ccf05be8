//! The options of `container run` and `container plan`.
#![allow(rustdoc::broken_intra_doc_links)] // help texts: [:GID] is no link

use drydock_init::options::Options as Inside;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options of a container.
#[derive(clap::Args, Clone, Debug, Default, Serialize, Deserialize)]
#[group(skip)]
#[serde(default)]
pub struct Options {
    /// The container's name [default: random]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Directory that becomes the root file system [default: one made of the host's own programs, under an overlay]
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Image whose root file system and command it gets: oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, or a name:
    /// in the store (rootfs list), or else in its registry; the same as the first word of the command
    #[arg(long, value_name = "IMAGE", conflicts_with = "rootfs")]
    pub image: Option<String>,
    /// When an image is fetched from its registry: missing (if it is not in the store), always, newer (always, but without the
    /// registry the stored one will do), never
    #[arg(long, value_name = "WHEN", value_enum, default_value = "missing", help_heading = "Registry")]
    #[serde(skip)]
    pub pull: crate::pull::Pull,
    /// How the registry is spoken to.
    #[command(flatten)]
    #[serde(skip)]
    pub registry: drydock_rootfs::registry::Access,
    /// First word of the command instead of the image's; empty for none
    #[arg(long, value_name = "WORD")]
    pub entrypoint: Option<String>,
    /// size=SIZE: the most that may be written over the default root file system or an image, in memory [default: 1g]
    #[arg(long, value_name = "OPTION")]
    pub storage_opt: Vec<String>,
    /// Run in the background; print the id
    #[arg(short = 'd', long)]
    pub detach: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Keep standard input open
    #[arg(short = 'i', long)]
    pub interactive: bool,
    /// CPUs, such as 0.5 (cpu.max)
    #[arg(long, value_name = "CPUS", allow_negative_numbers = true, help_heading = "Limits")]
    pub cpus: Option<String>,
    /// CPU weight under contention, 1 to 10000 (cpu.weight)
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true, help_heading = "Limits")]
    pub cpu_weight: Option<u64>,
    /// Processors that may be used, such as 0-2,4 (cpuset.cpus)
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used, such as 0 (cpuset.mems)
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub cpuset_mems: Option<String>,
    /// Memory, such as 100M (memory.max)
    #[arg(short = 'm', long, value_name = "SIZE", allow_negative_numbers = true, help_heading = "Limits")]
    pub memory: Option<String>,
    /// Swap beyond that memory (memory.swap.max)
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, help_heading = "Limits")]
    pub swap: Option<String>,
    /// Processes [default: 4096] (pids.max)
    #[arg(
        long,
        visible_alias = "pids-limit",
        value_name = "N",
        help_heading = "Limits",
        allow_negative_numbers = true
    )]
    pub pids: Option<String>,
    /// none, host, bridge, pasta or slirp4netns (without root), cni:NAME or ns:PATH [default: none; with -p or --ip bridge, without root pasta] (network_namespaces(7))
    #[arg(long, visible_alias = "network", value_name = "MODE", help_heading = "Network")]
    pub net: Option<String>,
    /// Publish a port: [HOSTIP:]PORT[:CONTAINERPORT][/tcp|udp|sctp], ranges as 8000-8010:9000-9010; on 127.0.0.1 unless HOSTIP is given, and the same port inside if there is one alone
    #[arg(short = 'p', long, value_name = "SPEC", help_heading = "Network")]
    pub publish: Vec<String>,
    /// Address on the bridge, within its subnet
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub ip: Option<String>,
    /// With --net bridge: let it ask the cloud's metadata server (169.254.169.254), which is closed to it otherwise
    #[arg(long, help_heading = "Network")]
    pub allow_metadata: bool,
    /// Name server in the container's resolv.conf
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub dns: Vec<String>,
    /// Line for the container's /etc/hosts: NAME:ADDRESS
    #[arg(long, value_name = "NAME:ADDRESS", help_heading = "Network")]
    pub add_host: Vec<String>,
    /// host, auto (65536 ids of its own), or INSIDE:OUTSIDE:COUNT [default: host as root, else auto] (user_namespaces(7))
    #[arg(long, value_name = "MAP", help_heading = "Namespaces")]
    pub userns: Option<String>,
    /// TYPE=new|host|PATH for pid, ipc, uts, cgroup, time (namespaces(7))
    #[arg(long, value_name = "TYPE=WHICH", help_heading = "Namespaces")]
    pub ns: Vec<String>,
    /// KEY=VALUE kept with the container
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Signal that asks the container to stop [default: TERM]
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL [default: 10]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub stop_timeout: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub inside: Inside,
    /// The image's unpacked root file system.
    #[arg(skip)]
    pub tree: Option<PathBuf>,
    /// More /etc/hosts lines and networks than flags can say; `container up` sets them.
    #[arg(skip)]
    pub attach: Option<Attach>,
    /// More networks, each with the address there; `container up` sets them. They become eth1, eth2, …
    #[arg(skip)]
    pub more_networks: Vec<(Attach, String)>,
    /// Labels set by `container up`.
    #[arg(skip)]
    pub labels: BTreeMap<String, String>,
}

/// A network other than the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Its name.
    pub network: String,
    /// Its bridge's interface name.
    pub bridge: String,
    /// Its subnet, `10.89.0.0/24`; the first free one if not given.
    pub subnet: Option<String>,
    /// No way out of it.
    pub internal: bool,
}
