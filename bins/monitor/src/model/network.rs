//! What went through a network namespace: the counters of its devices. Source: proc_pid_net(5), `dev`.

use crate::procfs::Proc;
use rustix::fs::{AtFlags, statat};
use serde::Serialize;
use std::collections::BTreeMap;

/// The devices of one namespace together, without the loopback.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Inode number of the network namespace.
    pub namespace: u64,
    /// It is the one that we are in: not the container's alone.
    pub shared: bool,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped, received and sent.
    pub dropped: u64,
    /// Bytes received each second; null when not known yet.
    pub rx_bytes_per_second: Option<u64>,
    /// Bytes sent each second.
    pub tx_bytes_per_second: Option<u64>,
}

impl Traffic {
    /// With rates since an earlier look; none when a counter went back or it is another namespace.
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
    pub fn since(mut self, old: &Self, seconds: f64) -> Self {
        let rate = |old: u64, new: u64| {
            let delta = new.checked_sub(old).filter(|_| seconds > 0.0)?;
            Some((delta as f64 / seconds) as u64)
        };
        if self.namespace == old.namespace {
            self.rx_bytes_per_second = rate(old.rx_bytes, self.rx_bytes);
            self.tx_bytes_per_second = rate(old.tx_bytes, self.tx_bytes);
        }
        self
    }
}

/// The network namespace of a process, or of `self`.
pub fn inode(proc: &Proc, pid: &str) -> Option<u64> {
    Some(statat(proc.root(), format!("{pid}/ns/net"), AtFlags::empty()).ok()?.st_ino)
}

/// The traffic of the namespace (`own` is ours) that the first readable of these processes is in; `known` remembers namespaces.
pub fn of(
    proc: &Proc,
    own: Option<u64>,
    pids: &[u32],
    known: &mut BTreeMap<u64, Option<Traffic>>,
) -> Option<Traffic> {
    let (pid, namespace) =
        pids.iter().take(8).find_map(|pid| Some((*pid, inode(proc, &pid.to_string())?)))?;
    let read = || {
        let text = proc.small(&format!("{pid}/net/dev")).ok()?;
        Some(Traffic { namespace, shared: own == Some(namespace), ..parse(&text) })
    };
    known.entry(namespace).or_insert_with(read).clone()
}

/// `eth0: bytes packets errs drop fifo frame compressed multicast bytes packets errs drop …`.
fn parse(text: &str) -> Traffic {
    let mut sum = Traffic::default();
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> = numbers.split_ascii_whitespace().map_while(|w| w.parse().ok()).collect();
        if name.trim() == "lo" {
            continue;
        }
        if let [rx, _, _, rx_drop, _, _, _, _, tx, _, _, tx_drop, ..] = numbers.as_slice() {
            sum.rx_bytes = sum.rx_bytes.saturating_add(*rx);
            sum.tx_bytes = sum.tx_bytes.saturating_add(*tx);
            sum.dropped = sum.dropped.saturating_add(*rx_drop).saturating_add(*tx_drop);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_added_up() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 5 1 0 2 0 0 0 0 7 1 0 3 0 0 0 0\n\
                    eth1:1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\nbad: x\n: 1\n";
        let sum = parse(text);
        assert_eq!((sum.rx_bytes, sum.tx_bytes, sum.dropped), (6, 8, 5));
    }

    #[test]
    fn rates_never_go_below_zero() {
        let at = |rx| Traffic { namespace: 1, rx_bytes: rx, ..Traffic::default() };
        assert_eq!(at(300).since(&at(100), 2.0).rx_bytes_per_second, Some(100));
        assert_eq!(at(100).since(&at(300), 2.0).rx_bytes_per_second, None);
        assert_eq!(at(300).since(&at(100), 0.0).rx_bytes_per_second, None);
        let other = Traffic { namespace: 2, ..at(0) };
        assert_eq!(at(300).since(&other, 2.0).rx_bytes_per_second, None);
    }
}
