//! Links, rules and rates, in a network namespace of the probe's own.

use super::{Finding, Need, Probe};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use drydock_namespaces::{Kind, Set};
use drydock_network::netlink::Batch;
use drydock_network::nft::{Nft, rules};
use drydock_network::rtnl::{NewBridge, NewVeth, Rtnl, VethPeer};
use drydock_network::{Subnet, sysctl};
use std::os::fd::AsFd;

const TAG: &str = "drydock:doctor";
const LINKS: &str = "load the module (modprobe veth bridge), or use --net none or host";
const NFT: &str = "modprobe nf_tables nft_chain_nat nft_masq, or run with --net none or host";

/// A probe of the network, in a namespace of its own.
macro_rules! probe_inside {
    ($id:expr, $what:expr, $lost:expr, $fix:expr, $options:expr, $need:ident, $test:expr) => {
        probe!("network", $id, $what, $lost, $fix, $options, $need, |facts| {
            facts.inside(Set::EMPTY.with(Kind::Network), $test)
        })
    };
}

pub(super) const PROBES: &[Probe] = &[
    probe_inside!(
        "loopback",
        "loopback",
        "127.0.0.1 inside containers",
        "run as root, or make user namespaces work",
        &["CONFIG_NET_NS"],
        All,
        || { drydock_network::loopback_up().and_then(|()| Finding::ok("")) }
    ),
    probe_inside!(
        "veth",
        "veth pair",
        "container run --net bridge, netsetup link, attach",
        LINKS,
        &["CONFIG_VETH"],
        None,
        veth
    ),
    probe_inside!(
        "bridge",
        "bridge",
        "container run --net bridge, netsetup bridge",
        LINKS,
        &["CONFIG_BRIDGE"],
        None,
        bridge
    ),
    probe_inside!(
        "nftables",
        "nf_tables with masquerade",
        "container run --net bridge, -p, netsetup nat, publish",
        NFT,
        &["CONFIG_NF_TABLES", "CONFIG_NFT_MASQ", "CONFIG_NFT_NAT"],
        None,
        nft
    ),
    probe_inside!(
        "ip_forward",
        "ip_forward can be turned on",
        "the way out of a bridge: container run --net bridge, netsetup nat",
        "mount /proc/sys writable, or sysctl -w net.ipv4.ip_forward=1 on the host",
        &[],
        None,
        forward
    ),
    probe_inside!(
        "tbf",
        "tbf",
        "rate limits of networks",
        "modprobe sch_tbf",
        &["CONFIG_NET_SCH_TBF"],
        None,
        tbf
    ),
    probe_inside!("ifb", "ifb", "rate limits of what comes in", "modprobe ifb", &["CONFIG_IFB"], None, ifb),
];

fn veth() -> Result<Finding> {
    let own = std::fs::File::open("/proc/thread-self/ns/net")
        .call(|| "open(\"/proc/thread-self/ns/net\", O_RDONLY)")?;
    let mut batch = Batch::new();
    let peer = VethPeer { name: "doctor1", namespace: own.as_fd(), mac: None };
    batch.new_veth(&NewVeth { name: "doctor0", alias: TAG, master: None, mtu: 1500, peer });
    let rtnl = Rtnl::here()?;
    rtnl.execute(&batch)?;
    there(&rtnl, "doctor1")
}

fn bridge() -> Result<Finding> {
    let mut batch = Batch::new();
    batch.new_bridge(&NewBridge { name: "doctor0", alias: TAG, mac: [2, 0, 0, 0, 0, 1], mtu: 1500 });
    let rtnl = Rtnl::here()?;
    rtnl.execute(&batch)?;
    there(&rtnl, "doctor0")
}

fn there(rtnl: &Rtnl, name: &str) -> Result<Finding> {
    match rtnl.link(name)? {
        Some(_) => Finding::ok(""),
        None => Finding::missing("was made and is not there"),
    }
}

fn nft() -> Result<Finding> {
    let subnet = Subnet::parse("10.88.0.0/16")?;
    let mut wanted = vec![rules::guard(), rules::masquerade(TAG, subnet)];
    wanted.extend(rules::forward(TAG, subnet, false));
    let nft = Nft::here()?;
    nft.add(&wanted)?;
    let have = nft.rules()?.len();
    if have == wanted.len() {
        Finding::ok(format!("{have} rules"))
    } else {
        Finding::missing(format!("{have} of {} rules are there", wanted.len()))
    }
}

fn forward() -> Result<Finding> {
    sysctl::write(sysctl::IP_FORWARD, "1")?;
    match sysctl::read(sysctl::IP_FORWARD)?.as_str() {
        "1" => Finding::ok(""),
        other => Finding::missing(format!("1 was written, and it is {other}")),
    }
}

const CREATE_EXCLUSIVE: u16 = 0x600;
const NO_ALLOWANCE: &[i32] = &[];

/// 10 Mbit/s on `lo`. Source: tc-tbf(8), linux/pkt_sched.h struct tc_tbf_qopt.
fn tbf() -> Result<Finding> {
    const RTM_NEWQDISC: u16 = 36;
    const TCA_KIND: u16 = 1;
    const TCA_OPTIONS: u16 = 2;
    const TCA_TBF_PARMS: u16 = 1;
    let rtnl = Rtnl::here()?;
    let lo = rtnl.link("lo")?.ok_or_else(|| Error::failed("lo", "is not there"))?;
    // tcmsg: family, index, handle, parent (TC_H_ROOT), info.
    let mut header = vec![0u8; 4];
    for word in [lo.index, 0, u32::MAX, 0] {
        header.extend(word.to_ne_bytes());
    }
    // rate: cell_log, linklayer Ethernet, overhead, cell_align, mpu, bytes a second; no peak rate; limit, buffer, mtu.
    let mut options = vec![0u8, 1, 0, 0, 0, 0, 0, 0];
    options.extend(1_250_000u32.to_ne_bytes());
    options.extend([0u8; 12]);
    for word in [100_000u32, 400_000, 0] {
        options.extend(word.to_ne_bytes());
    }
    let mut batch = Batch::new();
    batch.message("RTM_NEWQDISC tbf", "lo", RTM_NEWQDISC, CREATE_EXCLUSIVE, NO_ALLOWANCE, |m| {
        m.fixed(&header).text(TCA_KIND, "tbf").nest(TCA_OPTIONS, |m| {
            m.attr(TCA_TBF_PARMS, &options);
        });
    });
    rtnl.execute(&batch)?;
    match rtnl.link("lo")?.and_then(|l| l.qdisc) {
        Some(qdisc) if qdisc == "tbf" => Finding::ok(""),
        other => Finding::missing(format!("was set, and lo has {other:?}")),
    }
}

fn ifb() -> Result<Finding> {
    const RTM_NEWLINK: u16 = 16;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    let mut batch = Batch::new();
    batch.message("RTM_NEWLINK ifb", "doctor0", RTM_NEWLINK, CREATE_EXCLUSIVE, NO_ALLOWANCE, |m| {
        m.fixed(&[0; 16]).text(IFLA_IFNAME, "doctor0").nest(IFLA_LINKINFO, |m| {
            m.text(IFLA_INFO_KIND, "ifb");
        });
    });
    let rtnl = Rtnl::here()?;
    rtnl.execute(&batch)?;
    there(&rtnl, "doctor0")
}
