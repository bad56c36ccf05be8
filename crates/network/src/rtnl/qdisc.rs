//! Queueing disciplines: tbf and netem. Source: <linux/pkt_sched.h>, tc-tbf(8), tc-netem(8).

use super::{RTM_DELQDISC, RTM_NEWQDISC};
use crate::netlink::{Batch, CREATE, EXCL, attributes};
use serde::Serialize;
use std::time::Duration;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS: u16 = 3;
const ROOT: u32 = 0xffff_ffff;
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
const NETEM_LATENCY64: u16 = 10;
const NETEM_JITTER64: u16 = 11;
const LINKLAYER_ETHERNET: u8 = 1;
/// A scheduler tick is 64 ns (PSCHED_SHIFT).
const TICK: u64 = 64;
const OUTER: u32 = 0x1_0000;
const INNER: u32 = 0x10_0000;
/// A link without a queueing discipline of its own says one of these.
const NONE_THERE: &[i32] = &[nix::libc::ENOENT, nix::libc::EINVAL];

/// A token bucket: how fast a link sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may go at once.
    pub burst: u32,
    /// Bytes that may wait; more is dropped.
    pub queue: u32,
}

/// An emulated network: what happens to packets on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Emulation {
    /// How much later they arrive.
    pub delay: Duration,
    /// How much that varies.
    pub jitter: Duration,
    /// How many of a hundred are lost.
    pub loss: f64,
}

/// A queueing discipline as the kernel has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Qdisc {
    /// Index of the link.
    pub index: u32,
    /// `tbf`, `netem`, `noqueue`, …
    pub kind: String,
    /// At the top, not below another one.
    pub root: bool,
    /// Of a tbf.
    pub bucket: Option<Bucket>,
    /// Of a netem.
    pub emulation: Option<Emulation>,
    /// Bytes sent.
    pub bytes: Option<u64>,
    /// Packets dropped.
    pub drops: Option<u32>,
}

/// struct tcmsg.
pub(crate) fn header(index: u32, handle: u32, parent: u32) -> [u8; 20] {
    let mut bytes = [0u8; 20];
    for (slot, value) in bytes.chunks_exact_mut(4).skip(1).zip([index, handle, parent, 0]) {
        slot.copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn u32_in(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_in(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.first_chunk()?))
}

/// Reads an RTM_NEWQDISC payload.
pub fn decode_qdisc(payload: &[u8]) -> Option<Qdisc> {
    let index = u32_in(payload, 4)?;
    let parent = u32_in(payload, 12)?;
    let attrs = attributes(payload.get(20..)?);
    let kind = attrs.text(TCA_KIND)?;
    let options = attrs.find_kind(TCA_OPTIONS).unwrap_or(&[]);
    // struct tc_stats: bytes (u64), packets, drops, …
    let stats = attrs.find_kind(TCA_STATS).unwrap_or(&[]);
    Some(Qdisc {
        index,
        root: parent == ROOT,
        bucket: (kind == "tbf").then(|| decode_tbf(options)).flatten(),
        emulation: (kind == "netem").then(|| decode_netem(options)).flatten(),
        kind,
        bytes: u64_in(stats),
        drops: u32_in(stats, 12),
    })
}

fn decode_tbf(options: &[u8]) -> Option<Bucket> {
    let attrs = attributes(options);
    let parms = attrs.find_kind(TBF_PARMS)?;
    let rate = match attrs.find_kind(TBF_RATE64).and_then(u64_in) {
        Some(rate) => rate,
        None => u64::from(u32_in(parms, 8)?),
    };
    let ticks = u64::from(u32_in(parms, 28)?);
    let burst = u128::from(rate) * u128::from(ticks * TICK) / 1_000_000_000;
    Some(Bucket { rate, queue: u32_in(parms, 24)?, burst: u32::try_from(burst).unwrap_or(u32::MAX) })
}

fn decode_netem(options: &[u8]) -> Option<Emulation> {
    let attrs = attributes(options.get(24..).unwrap_or(&[]));
    let ticks = |at| Some(Duration::from_nanos(u64::from(u32_in(options, at)?) * TICK));
    let exact = |kind| attrs.find_kind(kind).and_then(u64_in).map(Duration::from_nanos);
    Some(Emulation {
        delay: exact(NETEM_LATENCY64).or_else(|| ticks(0))?,
        jitter: exact(NETEM_JITTER64).or_else(|| ticks(20))?,
        loss: f64::from(u32_in(options, 8)?) * 100.0 / f64::from(u32::MAX),
    })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn tbf_parms(bucket: &Bucket) -> Vec<u8> {
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    // struct tc_tbf_qopt: rate, peak rate (none), limit, buffer (given as bytes in an attribute), mtu.
    let mut bytes = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(rate.to_ne_bytes());
    bytes.extend([0; 12]);
    bytes.extend(bucket.queue.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

fn netem_options(e: &Emulation, rate: Option<u64>) -> Vec<u8> {
    const PACKETS: u64 = 1000;
    let ticks = |time| u32::try_from(nanos(time) / TICK).unwrap_or(u32::MAX);
    let loss = (e.loss / 100.0 * f64::from(u32::MAX)).round() as u32;
    // What is under way during the delay must fit, or the delay itself would drop it.
    let waiting = rate.unwrap_or(125_000_000) as f64 * (e.delay + e.jitter).as_secs_f64() / 200.0;
    let limit = u32::try_from((waiting as u64).clamp(PACKETS, 1_000_000)).unwrap_or(1000);
    let mut bytes = Vec::new();
    for value in [ticks(e.delay), limit, loss, 0, 0, ticks(e.jitter)] {
        bytes.extend(value.to_ne_bytes());
    }
    let mut attr = |kind: u16, value: u64| {
        bytes.extend(12u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
    };
    attr(NETEM_LATENCY64, nanos(e.delay));
    attr(NETEM_JITTER64, nanos(e.jitter));
    bytes
}

impl Batch {
    /// Takes the queueing discipline of a link away; one that has none is well.
    pub fn delete_root_qdisc(&mut self, index: u32, name: &str) {
        self.message("RTM_DELQDISC root", name, RTM_DELQDISC, 0, NONE_THERE, |m| {
            m.fixed(&header(index, 0, ROOT));
        });
    }

    /// Gives a link without one a queueing discipline: netem, below it tbf; or one of them.
    pub fn add_qdiscs(
        &mut self,
        index: u32,
        name: &str,
        bucket: Option<&Bucket>,
        emulation: Option<&Emulation>,
    ) {
        let mut place = (OUTER, ROOT);
        if let Some(emulation) = emulation {
            self.message("RTM_NEWQDISC netem", name, RTM_NEWQDISC, CREATE | EXCL, &[], |m| {
                m.fixed(&header(index, place.0, place.1)).text(TCA_KIND, "netem");
                m.attr(TCA_OPTIONS, &netem_options(emulation, bucket.map(|b| b.rate)));
            });
            // netem's one class.
            place = (INNER, OUTER | 1);
        }
        if let Some(bucket) = bucket {
            self.message("RTM_NEWQDISC tbf", name, RTM_NEWQDISC, CREATE | EXCL, &[], |m| {
                m.fixed(&header(index, place.0, place.1)).text(TCA_KIND, "tbf").nest(TCA_OPTIONS, |m| {
                    m.attr(TBF_PARMS, &tbf_parms(bucket)).u32(TBF_BURST, bucket.burst);
                    if bucket.rate > u64::from(u32::MAX) {
                        m.attr(TBF_RATE64, &bucket.rate.to_ne_bytes());
                    }
                });
            });
        }
    }
}
