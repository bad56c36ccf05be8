//! Which network a request means: a known one, or a new one from what was asked and what the bridge has.

use super::Plan;
use crate::address::{InterfaceAddress, Subnet};
use crate::rtnl::{Link, Rtnl};
use crate::state::{Network, Store};
use crate::{bridge, lease};
use drydock_core::{Error, Result};
use std::net::IpAddr;

/// Subnets that are tried, in this order, for a network without one: the first that overlaps nothing.
const POOL: std::ops::RangeInclusive<u8> = 88..=127;

impl Plan {
    /// The network as it is known, or a new one from what was asked and what the bridge has.
    pub(super) fn network(&self, rtnl: &Rtnl, store: &mut Store, there: Option<&Link>) -> Result<Network> {
        let r = &self.request;
        let asked = r.subnet.or(r.address.map(InterfaceAddress::subnet));
        if let Some(mut known) = store.network(&r.network)? {
            // The bridge went away beneath us (or its leases are of another boot): it will be ours again.
            known.made_bridge |= there.is_none();
            self.check_known(&known, asked)?;
            // Nobody is on it, and its bridge is not there: it may become what is asked now.
            if there.is_none() && known.leases.is_empty() && known.holders.is_empty() {
                known.internal = r.internal;
            }
            return Ok(known);
        }
        let on_bridge = match there {
            Some(link) => {
                let all = rtnl.addresses()?.into_iter();
                all.filter(|a| a.index == link.index && a.scope == 0).map(|a| a.address).collect()
            }
            None => Vec::new(),
        };
        let fits = |a: &&InterfaceAddress| asked.is_none_or(|s| s.contains(a.address()));
        let found = on_bridge.iter().find(fits);
        let subnet = match (asked, found) {
            (Some(subnet), _) => subnet,
            (None, Some(found)) => found.subnet(),
            (None, None) => self.free_subnet(rtnl, store)?,
        };
        if there.is_none() {
            bridge::check_overlap(rtnl, store, subnet, &r.bridge)?;
        }
        let gateway = r.gateway.or(found.map(|f| f.address())).or_else(|| subnet.host(0));
        if r.address.is_some_and(|a| Some(a.address()) == gateway) {
            let address = gateway.map_or(String::new(), |g| g.to_string());
            return Err(Error::bad_input(
                format!("address {address}"),
                format!("is the address of {}", r.bridge),
            ));
        }
        let mut network = lease::new_network(&r.network, &r.bridge, subnet, gateway, there.is_none());
        network.internal = r.internal;
        if let Some((first, last)) = r.pool {
            if subnet.host_number(first).is_none() || subnet.host_number(last).is_none() {
                let at = format!("pool {first} to {last}");
                return Err(Error::bad_input(at, format!("is outside the subnet {subnet}")));
            }
            network.pool = Some((first, last));
        }
        let asked6 = r.subnet6.or(r.address6.map(InterfaceAddress::subnet));
        network.subnet6 = match asked6 {
            Some(asked) if subnet.address().is_ipv4() => {
                bridge::check_overlap(rtnl, store, asked, &r.bridge)?;
                Some(asked)
            }
            Some(asked) => {
                return Err(Error::bad_input(
                    format!("subnet {asked}"),
                    "is a second IPv6 subnet (allowed: one)",
                ));
            }
            // A bridge of somebody else's keeps the addresses that it has.
            None if r.ipv6 && there.is_none() => bridge::local_subnet(rtnl, store, &network)?,
            None => None,
        };
        Ok(network)
    }

    fn check_known(&self, known: &Network, asked: Option<Subnet>) -> Result<()> {
        let r = &self.request;
        if known.bridge != r.bridge {
            let problem = format!("is on bridge '{}', not '{}'", known.bridge, r.bridge);
            return Err(Error::bad_input(format!("network '{}'", r.network), problem));
        }
        if let Some(asked) = asked.filter(|a| *a != known.subnet) {
            let problem = format!("has the subnet {}, not {asked}", known.subnet);
            return Err(Error::bad_input(format!("network '{}'", r.network), problem));
        }
        if r.internal && !known.internal {
            return Err(Error::bad_input(format!("network '{}'", r.network), "exists and is not internal"));
        }
        if known.internal && (r.nat || r.nat6) {
            return Err(Error::bad_input(format!("network '{}'", r.network), "is internal: there is no NAT"));
        }
        let asked6 = r.subnet6.or(r.address6.map(InterfaceAddress::subnet));
        if asked6.is_some() && asked6 != known.subnet6 {
            let has = known.subnet6.map_or("no IPv6 subnet".into(), |s| format!("the IPv6 subnet {s}"));
            return Err(Error::bad_input(format!("network '{}'", r.network), format!("has {has}")));
        }
        match r.gateway {
            Some(gateway) if known.gateway != Some(gateway) => {
                let has = known.gateway.map_or("no gateway".into(), |g| format!("the gateway {g}"));
                Err(Error::bad_input(format!("network '{}'", r.network), format!("has {has}, not {gateway}")))
            }
            _ => Ok(()),
        }
    }

    fn free_subnet(&self, rtnl: &Rtnl, store: &mut Store) -> Result<Subnet> {
        for second in POOL {
            let subnet = Subnet::of(IpAddr::from([10, second, 0, 0]), 16);
            if bridge::overlap(rtnl, store, subnet, &self.request.bridge)?.is_none() {
                return Ok(subnet);
            }
        }
        Err(Error::failed("subnet", "10.88.0.0/16 to 10.127.0.0/16 all overlap routes of this host")
            .hint("give a subnet"))
    }
}
