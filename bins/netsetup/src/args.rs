//! The command line.

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const GUIDE: &str = "\
The networking guide, exercise by exercise (NS is a name as in `ip netns`, or a path such as /proc/PID/ns/net):

  ip netns add blue                               netsetup ns add blue
  ip netns list                                   netsetup ns list
  ip netns exec blue ip addr                      netsetup show blue        (or: netsetup ns exec blue CMD)
  ip netns identify PID; ip netns pids blue       netsetup ns identify PID; netsetup ns pids blue
  ip netns del blue                               netsetup ns del blue

  ip link add veth-host type veth peer veth-blue  netsetup link blue --host-addr 10.0.0.1/24 --addr 10.0.0.2/24
  ip link set veth-blue netns blue                  (pair, addresses, up, loopback and default route in one)
  ip addr add 10.0.0.1/24 dev veth-host
  ip netns exec blue ip addr add 10.0.0.2/24 …
  ip link set … up (twice), ip route add default

  sysctl -w net.ipv4.ip_forward=1                 netsetup nat on 10.0.0.0/24
  iptables -t nat -A POSTROUTING -s 10.0.0.0/24     (and `nat off`: the previous value comes back)
    -j MASQUERADE; iptables -A FORWARD …

  ip link add br0 type bridge; ip addr …; up      netsetup bridge add br0 --addr 10.0.0.1/24
  ip link add … type veth …; master br0; …        netsetup attach ns1 --bridge br0 --addr 10.0.0.2/24
  brctl show; bridge link                         netsetup bridge list; netsetup show
  iptables -t nat -A PREROUTING … -j DNAT         netsetup publish ns1 8000:8000
  tc qdisc add dev veth-blue root tbf rate …      netsetup limit blue --egress 10mbit --ingress 5mbit
  tc qdisc del dev veth-blue root                 netsetup limit blue off
  nsenter -t PID -n ip addr                       netsetup show --pid PID
  three namespaces, A-B and B-C but not A-C       netsetup apply abc.toml; netsetup check abc.toml --matrix
  ping, tcpdump, iptables -L -v, and thinking     netsetup check ns1 ns2:8000
  mkdir /etc/netns/ns1; vi …/resolv.conf          netsetup dns ns1      (or: --server 9.9.9.9)
  (a trap in a shell script)                      netsetup undo --owner ID

Exit codes: 0 done, also when it was so already; 2 bad input, nothing touched; 125 failed; `ns exec`: the command's own,
126 cannot execute, 127 not found. Man pages: ip-netns(8), veth(4), rtnetlink(7), nft(8), network_namespaces(7).";

/// Network namespaces, links, bridges, NAT and published ports over netlink, with an owner for everything.
#[derive(Parser, Debug)]
#[command(name = "netsetup", version, about, long_about = None, after_help = GUIDE, arg_required_else_help = true)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every subcommand.
#[derive(ClapArgs, Debug)]
pub struct Common {
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print each step on stderr before it is done: call, why, man page, undo
    #[arg(long, global = true)]
    pub explain: bool,
    /// State directory [default: /run/drydock, or DRYDOCK_ROOT]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Whose the new objects are; `undo --owner ID` removes them [default: the namespace's or bridge's name]
    #[arg(long, global = true, value_name = "ID")]
    pub owner: Option<String>,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Named network namespaces, as ip-netns(8) keeps them
    #[command(subcommand, arg_required_else_help = true)]
    Ns(Ns),
    /// A veth pair between the host and a namespace, with an address on each end (veth(4))
    Link(Link),
    /// Bridges (ip-link(8))
    #[command(subcommand, arg_required_else_help = true)]
    Bridge(Bridge),
    /// Attach a namespace to a bridge: veth pair, address, default route; NAT and published ports if asked
    Attach(Attach),
    /// Detach a namespace: its link, lease and published ports
    Detach(Detach),
    /// Add an address to an interface of a namespace, or remove it (ip-address(8))
    Addr(Addr),
    /// Add a route in a namespace, or remove it (ip-route(8))
    Route(Route),
    /// NAT for a subnet: forwarding, masquerade, forward rules (nft(8))
    #[command(subcommand, arg_required_else_help = true)]
    Nat(Nat),
    /// Forwarding without NAT, and which networks may reach each other
    #[command(subcommand, arg_required_else_help = true)]
    Forward(Forward),
    /// Publish ports of a namespace or address on the host (127.0.0.1 unless an address is given)
    Publish(Publish),
    /// Take the published ports of a namespace or address back
    Unpublish(Unpublish),
    /// Limit how fast a namespace sends and receives; delay or lose packets (tc-tbf(8), tc-netem(8))
    Limit(Limit),
    /// Make a whole topology from a TOML file, and take away what it does not say any more
    Apply(Apply),
    /// Say whether A reaches B, and the first thing that stops it; or prove a topology pair by pair
    Check(Check),
    /// Give a named namespace a resolver that it can reach, and the names of its neighbours (/etc/netns/NS, ip-netns(8))
    Dns(Dns),
    /// Write hosts, hostname and resolv.conf for a namespace or container into a directory (hosts(5), resolv.conf(5))
    Etc(Etc),
    /// Links, addresses, routes, neighbours, bridge ports and our nft rules, as the kernel has them
    Show(Show),
    /// Remove everything of an owner (--owner ID); what is gone already is well
    Undo(Undo),
    /// Networks and who has which address
    Leases,
    /// Make rules and settings anew that somebody has flushed or changed: a firewall's restart
    Reload,
    /// Take away what killed commands and vanished namespaces have left
    Gc(Gc),
}

#[derive(Subcommand, Debug)]
pub enum Ns {
    /// Make a namespace with only `lo`
    Add {
        /// Name
        name: String,
    },
    /// List named namespaces
    List,
    /// Run a command in a namespace
    Exec {
        /// Name or path
        namespace: String,
        /// Command and arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Remove a namespace, and what netsetup made for it
    #[command(alias = "delete")]
    Del {
        /// Name
        name: String,
    },
    /// Give the network namespace of a process a name
    Attach {
        /// Name
        name: String,
        /// Process id
        #[arg(allow_negative_numbers = true)]
        pid: i32,
    },
    /// Name the network namespace of a process
    Identify {
        /// Process id [default: the caller's own]
        pid: Option<i32>,
    },
    /// List the processes in a namespace
    Pids {
        /// Name or path
        namespace: String,
    },
}

#[derive(ClapArgs, Debug)]
pub struct Link {
    /// Namespace: name or path
    pub namespace: String,
    /// Address of the host end
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub host_addr: String,
    /// Address of the namespace's end
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub addr: String,
    /// Interface name in the namespace
    #[arg(long = "name", alias = "interface", value_name = "NAME", default_value = "eth0")]
    pub interface: String,
    /// Interface name on the host [default: derived from owner and namespace; the full name is in its alias]
    #[arg(long, value_name = "NAME")]
    pub host_name: Option<String>,
    /// No default route by the host
    #[arg(long)]
    pub no_default_route: bool,
    /// MTU [default: the default route's]
    #[arg(long)]
    pub mtu: Option<u32>,
}

#[derive(Subcommand, Debug)]
pub enum Bridge {
    /// Make a bridge with an address, up
    Add {
        /// Name
        name: String,
        #[command(flatten)]
        new: NewBridge,
    },
    /// List bridges and their ports
    List,
    /// Remove a bridge that netsetup made
    #[command(alias = "delete")]
    Del {
        /// Name
        name: String,
        /// Detach what is attached
        #[arg(long)]
        force: bool,
    },
}

#[derive(ClapArgs, Debug)]
pub struct NewBridge {
    /// The host's address on it; a second one for IPv6 [default: the first of a unique local subnet]
    #[arg(long, alias = "address", value_name = "ADDRESS/PREFIX", required = true)]
    pub addr: Vec<String>,
    /// No IPv6
    #[arg(long)]
    pub no_ipv6: bool,
    /// Nothing leaves the network, and only published ports lead into it
    #[arg(long)]
    pub internal: bool,
    /// MTU [default: the default route's]
    #[arg(long)]
    pub mtu: Option<u32>,
}

#[derive(ClapArgs, Debug)]
pub struct Attach {
    /// Namespace: name or path
    pub namespace: String,
    /// Bridge; made if it is missing
    #[arg(long, value_name = "NAME", default_value = drydock_network::DEFAULT_NETWORK)]
    pub bridge: String,
    /// Network name [default: the bridge's]
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Address, and a second one for IPv6 [default: the next free one of the network, and IPv6 beside it]
    #[arg(long, alias = "address", value_name = "ADDRESS/PREFIX")]
    pub addr: Vec<String>,
    /// Subnet of a new network [default: that of --addr, else the first free of 10.88.0.0/16, 10.89.0.0/16, …]
    #[arg(long, value_name = "SUBNET")]
    pub subnet: Option<String>,
    /// IPv6 subnet of a new network [default: a /64 of unique local addresses, from its name]
    #[arg(long, value_name = "SUBNET")]
    pub subnet6: Option<String>,
    /// Which addresses of a new network are given without being asked for [default: all of the subnet]
    #[arg(long, value_name = "FIRST-LAST")]
    pub range: Option<String>,
    /// No IPv6
    #[arg(long)]
    pub no_ipv6: bool,
    /// A network that nothing leaves, and that only published ports lead into: no default route, no NAT
    #[arg(long)]
    pub internal: bool,
    /// Reach the host, but no neighbour on the bridge
    #[arg(long)]
    pub isolated: bool,
    /// Do not check that what is sent comes from the interface's own addresses
    #[arg(long)]
    pub allow_spoofing: bool,
    /// Let it ask the cloud's metadata server (169.254.169.254, fd00:ec2::254), which is closed to it otherwise
    #[arg(long)]
    pub allow_metadata: bool,
    /// NAT for IPv6 too, and an IPv6 default route (the host then ignores router advertisements)
    #[arg(long)]
    pub nat6: bool,
    /// Gateway, the bridge's address [default: the bridge's own, else the subnet's first address]
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Option<String>,
    /// No default route by the gateway
    #[arg(long)]
    pub no_default_route: bool,
    /// Masquerade what leaves the subnet
    #[arg(long)]
    pub nat: bool,
    /// Publish a port: [HOST_ADDRESS:]PORT[:CONTAINER_PORT][/tcp|udp|sctp], ranges as 8000-8010:9000-9010; one port alone is
    /// the same inside
    #[arg(short, long, value_name = "SPEC")]
    pub publish: Vec<String>,
    /// Interface name in the namespace
    #[arg(long, alias = "name", value_name = "NAME", default_value = "eth0")]
    pub interface: String,
    /// MTU [default: the bridge's]
    #[arg(long)]
    pub mtu: Option<u32>,
    /// Link-layer address
    #[arg(long, value_name = "MAC")]
    pub mac: Option<String>,
    /// Fail if the bridge is missing
    #[arg(long)]
    pub no_create: bool,
}

#[derive(ClapArgs, Debug)]
pub struct Detach {
    /// Namespace: name or path
    pub namespace: String,
    /// Interface name in the namespace
    #[arg(long, alias = "name", value_name = "NAME", default_value = "eth0")]
    pub interface: String,
}

#[derive(ClapArgs, Debug)]
pub struct Addr {
    /// Namespace: name or path
    pub namespace: String,
    /// Address
    #[arg(value_name = "ADDRESS/PREFIX")]
    pub address: String,
    /// Interface name in the namespace
    #[arg(long, alias = "name", value_name = "NAME", default_value = "eth0")]
    pub interface: String,
    /// Remove it
    #[arg(long)]
    pub del: bool,
}

#[derive(ClapArgs, Debug)]
pub struct Route {
    /// Namespace: name or path
    pub namespace: String,
    /// `default`, or a subnet
    pub destination: String,
    /// Next hop
    #[arg(long, value_name = "ADDRESS")]
    pub via: String,
    /// Interface name in the namespace
    #[arg(long, alias = "name", value_name = "NAME", default_value = "eth0")]
    pub interface: String,
    /// Remove it
    #[arg(long)]
    pub del: bool,
}

#[derive(Subcommand, Debug)]
pub enum Nat {
    /// Turn it on
    On {
        /// Subnet
        subnet: String,
    },
    /// Turn it off; the last one restores forwarding as it was
    Off {
        /// Subnet [default: all that `nat on` was given without --owner]
        subnet: Option<String>,
    },
}

#[derive(Subcommand, Debug)]
pub enum Forward {
    /// Let packets of a subnet pass, without rewriting addresses
    On {
        /// Subnet
        subnet: String,
    },
    /// Turn it off; the last one restores forwarding as it was
    Off {
        /// Subnet [default: all that `forward on` was given without --owner]
        subnet: Option<String>,
    },
    /// Let two networks reach each other, which they cannot unless asked
    Allow {
        /// Network or subnet
        a: String,
        /// Network or subnet
        b: String,
    },
    /// Keep two networks apart again
    Deny {
        /// Network or subnet
        a: String,
        /// Network or subnet
        b: String,
    },
    /// List what is on
    List,
}

#[derive(ClapArgs, Debug)]
#[command(after_help = TOPOLOGY_HELP)]
pub struct Apply {
    /// The topology
    pub file: PathBuf,
}

const TOPOLOGY_HELP: &str = "\
A reaches B, B reaches C, A does not reach C:

  [networks.left]
  subnet = \"10.1.0.0/24\"        # optional, as are subnet6, bridge, mtu, nat, internal, isolated, ipv6
  [networks.right]
  [namespaces.a]
  networks = [\"left\"]            # or { left = \"10.1.0.5\" }; also publish, limit, allow-spoofing, allow-metadata
  [namespaces.b]
  networks = [\"left\", \"right\"]   # eth0, eth1
  [namespaces.c]
  networks = [\"right\"]

Networks reach each other only with `allow = [[\"left\", \"right\"]]` at the top. Who shares a network (or may reach it) is
expected to be reached, everybody else not to be; `[[expect]]` with from, to, reach says otherwise for a pair.
All of it goes with `netsetup undo topology-NAME`, where NAME is the file's without .toml.";

#[derive(ClapArgs, Debug)]
pub struct Check {
    /// Namespace, container or `host` that connects; or FILE, a topology [default: those that were applied]
    #[arg(value_name = "A|FILE")]
    pub from: Option<String>,
    /// Namespace, container, `host` or address that is connected to, with its TCP port
    #[arg(value_name = "B[:PORT]")]
    pub to: Option<String>,
    /// Try every pair of the topology; exit 1 if one differs from what the file says
    #[arg(long)]
    pub matrix: bool,
}

#[derive(ClapArgs, Debug)]
pub struct Dns {
    /// Namespace: name
    pub namespace: String,
    /// The host's name servers that can be reached from there: the default
    #[arg(long, conflicts_with = "server")]
    pub from_host: bool,
    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    pub server: Vec<String>,
    /// Domain to search [default: the host's]
    #[arg(long, value_name = "DOMAIN")]
    pub search: Vec<String>,
    /// Resolver option, such as ndots:1 [default: the host's]
    #[arg(long, value_name = "OPTION")]
    pub option: Vec<String>,
    /// Remove what this command has made
    #[arg(long, conflicts_with_all = ["from_host", "server", "search", "option"])]
    pub off: bool,
}

#[derive(ClapArgs, Debug)]
pub struct Gc {
    /// Only list; exit 1 if there is something
    #[arg(long)]
    pub check: bool,
}

#[derive(ClapArgs, Debug)]
pub struct Publish {
    /// Namespace (name or path), or the address of a container
    pub target: String,
    /// [HOST_ADDRESS:]PORT:CONTAINER_PORT[/tcp|udp|sctp]; ranges too
    #[arg(required = true, value_name = "SPEC")]
    pub specs: Vec<String>,
}

#[derive(ClapArgs, Debug)]
pub struct Unpublish {
    /// Namespace (name or path), or the address of a container
    pub target: String,
}

#[derive(ClapArgs, Debug)]
#[command(after_help = LIMIT_HELP)]
pub struct Limit {
    /// Namespace: name, path, or a container's name
    pub namespace: String,
    /// `off`: take all limits away
    #[arg(value_name = "off")]
    pub off: Option<String>,
    /// Same as `off`
    #[arg(long = "off", hide = true)]
    pub remove: bool,
    /// What the namespace may send: 10mbit, 500kbit, 1.5gbit
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    pub egress: Option<String>,
    /// What it may receive
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    pub ingress: Option<String>,
    /// Bytes that may go at once, such as 32k [default: 10 ms of the rate]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub burst: Option<String>,
    /// How long a packet may wait for its turn before it is dropped [default: 100ms]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub latency: Option<String>,
    /// Delay what the namespace sends
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub delay: Option<String>,
    /// How much the delay varies
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub jitter: Option<String>,
    /// How much of what the namespace sends is lost
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    pub loss: Option<String>,
    /// Interface name in the namespace
    #[arg(long, alias = "name", value_name = "NAME", default_value = "eth0")]
    pub interface: String,
}

const LIMIT_HELP: &str = "\
A direction that is not named keeps its limit. Without options the limits that hold are shown. Egress is shaped at the
namespace's end of the veth pair, ingress at the host's: `tc -s qdisc` shows both, there and here.";

#[derive(ClapArgs, Debug)]
pub struct Etc {
    /// Directory; made if it is missing
    pub dir: PathBuf,
    /// Host name; without one there is no hostname file
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Addresses of the host name: those that this namespace has now
    #[arg(long, value_name = "NS")]
    pub address_of: Option<String>,
    /// Address of the host name [default: that of --address-of, else 127.0.1.1]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "address_of")]
    pub address: Vec<String>,
    /// Name server [default: the host's that can be reached from inside]
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Line of the hosts file
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// The network is the host's own: its resolver on a loopback address can be reached
    #[arg(long)]
    pub host_network: bool,
}

#[derive(ClapArgs, Debug)]
pub struct Show {
    /// Namespace: name or path [default: the host's]
    pub namespace: Option<String>,
    /// The namespace of a process
    #[arg(long, conflicts_with = "namespace", allow_hyphen_values = true)]
    pub pid: Option<i32>,
}

#[derive(ClapArgs, Debug)]
pub struct Undo {
    /// Same as --owner ID
    #[arg(value_name = "ID")]
    pub id: Option<String>,
}
