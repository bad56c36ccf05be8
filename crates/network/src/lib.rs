//! drydock-network: network namespaces, links, bridges, addresses, routes, NAT and published ports, over netlink only.
//!
//! - [`attach`]: a namespace to a bridge: lease, bridge, NAT, veth pair, address, route, published ports;
//! - [`link`]: a veth pair between the host and a namespace; [`bridge`], [`nat`], [`publish`]: the parts alone;
//! - [`limit`]: how fast a namespace may send and receive;
//! - [`guard`]: which addresses a port may send from;
//! - [`forward`]: which networks may reach each other; [`repair`]: what somebody has flushed; [`gc`]: what nobody has any more;
//! - [`check`]: whether packets get from one place to another, and what stops them;
//! - [`cni`]: networks of other plugins; [`rootless`]: a network without privileges;
//! - [`device`]: network devices of the host into a namespace;
//! - [`netns`]: named namespaces as ip-netns(8) keeps them;
//! - [`lease`]: who has which address; [`detach`]: taking everything of an owner away again;
//! - [`etc`]: hosts, hostname and resolv.conf of a container; [`names`]: who else is on its networks;
//! - [`show`]: what the kernel has;
//! - [`netlink`], [`rtnl`], [`nft`]: our own small synchronous codec (netlink(7), rtnetlink(7), nf_tables).
//!
//! A namespace is entered only by a short-lived thread, which opens a netlink socket there and ends; the caller works
//! through that descriptor and never leaves its own namespace. Only [`device`] goes there and back without a thread.

pub mod address;
pub mod attach;
pub mod bridge;
pub mod check;
pub mod cni;
pub mod detach;
pub mod device;
pub mod etc;
pub mod forward;
pub mod gc;
pub mod guard;
pub mod lease;
pub mod limit;
pub mod link;
mod loopback;
pub mod name;
pub mod names;
pub mod nat;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod publish;
pub mod rate;
pub mod repair;
pub mod rootless;
pub mod rtnl;
pub mod show;
pub mod state;
mod step;
pub mod sysctl;

pub use address::{InterfaceAddress, Mac, Subnet};
pub use detach::remove;
pub use loopback::loopback_up;
pub use publish::Publish;
pub use step::NetStep;

/// Name of the default network and of its bridge.
pub const DEFAULT_NETWORK: &str = "drydock0";

/// The stage's name in errors, `--explain` and `--timings`.
pub const STAGE: &str = "network";
