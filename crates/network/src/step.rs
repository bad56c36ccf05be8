//! The steps of this stage, as `--explain` prints them.

use crate::STAGE;
use drydock_core::{Explain, Object, Step};
use std::path::PathBuf;

/// One step. Each goes through [`drydock_core::Ctx::perform`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetStep {
    /// Make a named namespace.
    Namespace {
        /// `/run/netns/NAME`.
        path: PathBuf,
    },
    /// Take an address.
    Lease {
        /// Network.
        network: String,
        /// Holder.
        owner: String,
        /// `10.88.0.2`, or `next free`.
        address: String,
    },
    /// Make a bridge, or see that it is there.
    Bridge {
        /// Interface name.
        name: String,
        /// Network.
        network: String,
        /// The host's address on it.
        address: Option<String>,
    },
    /// Turn a sysctl on.
    Forwarding {
        /// Absolute path.
        path: PathBuf,
        /// Value before; not known yet when only planned.
        previous: Option<String>,
    },
    /// Add rules to our nft table.
    Rules {
        /// Owner of the rules.
        owner: String,
        /// What they do.
        what: String,
    },
    /// Make a veth pair.
    Veth {
        /// Host end.
        name: String,
        /// Owner, as its alias says.
        alias: String,
        /// Other end.
        peer: String,
        /// Namespace of the other end.
        netns: PathBuf,
        /// Bridge.
        bridge: Option<String>,
        /// MTU; not known yet when only planned.
        mtu: Option<u32>,
    },
    /// Address of a host-side link.
    HostAddress {
        /// Link.
        interface: String,
        /// Address.
        address: String,
    },
    /// Loopback, address and route within the namespace.
    Configure {
        /// Interface there.
        interface: String,
        /// Address with prefix.
        address: String,
        /// Default route.
        gateway: Option<String>,
    },
    /// Let a port send only from its own addresses.
    CheckSource {
        /// The host's end.
        link: String,
        /// The addresses.
        addresses: String,
    },
    /// Shape what an end of a veth pair sends.
    Shape {
        /// Link.
        interface: String,
        /// In the namespace, not on the host.
        inside: bool,
        /// What is set, in tc(8)'s words; none to take it away.
        what: Option<String>,
    },
    /// Delete a link.
    DeleteLink {
        /// Name.
        name: String,
    },
    /// Delete an owner's rules.
    DeleteRules {
        /// Tag.
        tag: String,
    },
    /// Give back leases and references.
    Release {
        /// Owner.
        owner: String,
    },
    /// Call the plugins of a CNI network.
    Cni {
        /// Network.
        network: String,
        /// CNI_CONTAINERID.
        container: String,
        /// CNI_IFNAME.
        interface: String,
        /// ADD, not DEL.
        add: bool,
    },
    /// Start the program that makes a network without privileges.
    Helper {
        /// pasta or slirp4netns.
        path: PathBuf,
        /// Its arguments.
        words: Vec<String>,
    },
    /// Write a file of a named namespace.
    WriteFile {
        /// Below /etc/netns.
        path: PathBuf,
        /// Its namespace.
        namespace: String,
    },
    /// Remove such a file.
    DeleteFile {
        /// Below /etc/netns.
        path: PathBuf,
    },
    /// Remove a named namespace.
    DeleteNamespace {
        /// `/run/netns/NAME`.
        path: PathBuf,
    },
}

fn step(call: String, why: &'static str, man: &'static str, undo: Option<String>) -> Step {
    Step { stage: STAGE.into(), call, why: why.into(), man: man.into(), undo }
}

impl Explain for NetStep {
    fn explain(&self) -> Step {
        match self {
            NetStep::Namespace { path } => step(
                format!(
                    "unshare(CLONE_NEWNET) in a thread, mount(\"/proc/thread-self/ns/net\", {path:?}, MS_BIND)"
                ),
                "a network namespace of its own, kept alive by a bind mount as ip-netns keeps it",
                "ip-netns(8)",
                Some(format!("umount2({path:?}, MNT_DETACH), unlink({path:?})")),
            ),
            NetStep::Lease { network, owner, address } => step(
                format!("rename(\".new\", \"net-{network}.json\") with {address} for {owner}"),
                "no two owners get the same address",
                "flock(2)",
                Some(format!("netsetup undo --owner {owner}")),
            ),
            NetStep::Bridge { name, address, .. } => step(
                format!("RTM_NEWLINK {name} type bridge up{}", with(", RTM_NEWADDR ", address)),
                "the switch between the containers and the host",
                "ip-link(8)",
                Some(format!("RTM_DELLINK {name} after its last user")),
            ),
            NetStep::Forwarding { path, previous } => step(
                format!("write({path:?}, \"1\")"),
                "without it the kernel does not pass packets between interfaces",
                "proc_sys_net(5)",
                Some(format!("write the previous value{} after the last user", with(" ", previous))),
            ),
            NetStep::Rules { owner, what } => step(
                format!("nft table inet drydock: {what}"),
                "addresses are rewritten and forwarded by rules that carry their owner's name",
                "nft(8)",
                Some(format!("NFT_MSG_DELRULE with comment of {owner}")),
            ),
            NetStep::Veth { name, peer, netns, bridge, mtu, .. } => step(
                format!(
                    "RTM_NEWLINK {name} type veth{}{} up peer {peer} netns {}",
                    with(" mtu ", &mtu.map(|m| m.to_string())),
                    with(" master ", bridge),
                    netns.display()
                ),
                "a virtual cable: one end here, one end in the namespace",
                "veth(4)",
                Some(format!("RTM_DELLINK {name}; it also dies with the namespace")),
            ),
            NetStep::HostAddress { interface, address } => step(
                format!("RTM_NEWADDR {address} dev {interface}"),
                "the host's address on the cable",
                "rtnetlink(7)",
                None,
            ),
            NetStep::Configure { interface, address, gateway } => step(
                format!(
                    "in the namespace: RTM_SETLINK lo up, RTM_SETLINK {interface} up, RTM_NEWADDR {address} dev {interface}{}",
                    with(", RTM_NEWROUTE default via ", gateway)
                ),
                "the container's own address and its way out",
                "rtnetlink(7)",
                None,
            ),
            NetStep::CheckSource { link, addresses } => step(
                format!("nft table netdev drydock, chain {link} at its ingress: only from {addresses}"),
                "a neighbour must not pose as the gateway or as another container, nor as a router",
                "nft(8)",
                Some(format!("NFT_MSG_DELCHAIN {link}; it also goes with the link")),
            ),
            NetStep::Shape { interface, inside, what } => step(
                format!(
                    "{}{} {interface} root{}",
                    if *inside { "in the namespace: " } else { "" },
                    if what.is_some() { "RTM_NEWQDISC" } else { "RTM_DELQDISC" },
                    with(" ", what)
                ),
                "a link shapes what it sends: each end of the pair limits one direction",
                "tc-tbf(8)",
                what.as_ref().map(|_| format!("RTM_DELQDISC {interface} root; it also goes with the link")),
            ),
            NetStep::DeleteLink { name } => {
                step(format!("RTM_DELLINK {name}"), "its owner is gone", "rtnetlink(7)", None)
            }
            NetStep::DeleteRules { tag } => step(
                format!("nft table inet drydock: NFT_MSG_DELRULE with comment {tag:?}"),
                "its owner is gone; the table goes with its last rule",
                "nft(8)",
                None,
            ),
            NetStep::Release { owner } => step(
                format!("rename(\".new\", …) without the leases and references of {owner}"),
                "others may have the address; the last user restores what was changed for it",
                "flock(2)",
                None,
            ),
            NetStep::Cni { network, container, interface, add } => step(
                format!(
                    "CNI_COMMAND={} CNI_CONTAINERID={container} CNI_IFNAME={interface}: the plugins of {network}",
                    if *add { "ADD" } else { "DEL" }
                ),
                "the network is other plugins' to make",
                "https://www.cni.dev",
                add.then(|| "CNI_COMMAND=DEL".to_string()),
            ),
            NetStep::Helper { path, words } => step(
                format!("execve({path:?}, {:?})", words.join(" ")),
                "without root no link reaches the host: a program moves packets between the namespace and its own sockets",
                if path.ends_with("pasta") { "pasta(1)" } else { "slirp4netns(1)" },
                Some("SIGKILL to its process".into()),
            ),
            NetStep::WriteFile { path, .. } => step(
                format!("open({path:?}, O_WRONLY|O_CREAT|O_TRUNC|O_NOFOLLOW), write(…)"),
                "ip netns exec and netsetup ns exec bind it over the file in /etc",
                "ip-netns(8)",
                Some(format!("unlink({path:?})")),
            ),
            NetStep::DeleteFile { path } => step(
                format!("unlink({path:?})"),
                "its namespace is gone, or has another resolver",
                "ip-netns(8)",
                None,
            ),
            NetStep::DeleteNamespace { path } => step(
                format!("umount2({path:?}, MNT_DETACH), unlink({path:?})"),
                "the namespace dies with its last process and mount",
                "ip-netns(8)",
                None,
            ),
        }
    }

    fn leaves(&self) -> Option<Object> {
        match self {
            NetStep::Namespace { path } => Some(Object::NetworkNamespace { path: path.clone() }),
            NetStep::Lease { network, owner, .. } => {
                Some(Object::Lease { network: network.clone(), owner: owner.clone() })
            }
            NetStep::Bridge { name, network, .. } => {
                Some(Object::Bridge { name: name.clone(), network: network.clone() })
            }
            NetStep::Forwarding { path, previous } => {
                previous.as_ref().map(|p| Object::Sysctl { path: path.clone(), previous: p.clone() })
            }
            NetStep::Rules { owner, .. } => Some(Object::Nft { owner: owner.clone() }),
            NetStep::Cni { network, container, interface, add: true } => Some(Object::CniNetwork {
                network: network.clone(),
                container: container.clone(),
                interface: interface.clone(),
            }),
            NetStep::WriteFile { namespace, .. } => {
                Some(Object::NamespaceFiles { namespace: namespace.clone() })
            }
            NetStep::Veth { name, .. } => Some(Object::Link { name: name.clone() }),
            _ => None,
        }
    }
}

fn with(before: &str, value: &Option<String>) -> String {
    value.as_ref().map_or(String::new(), |v| format!("{before}{v}"))
}
