//! How fast a namespace may send and receive. A link shapes only what it sends, so the namespace's end of the veth pair
//! limits what goes out and the host's end what comes in: no ifb device, no redirection, no policing that drops bursts.
//! Guide: `tc qdisc add dev veth-blue root tbf rate 10mbit burst 32kbit latency 400ms`.

use crate::netlink::{Batch, Protocol};
use crate::rtnl::{Bucket, Emulation, Link, Qdisc, Rtnl};
use crate::step::NetStep;
use crate::{STAGE, name, netns, rate};
use drydock_core::{Ctx, Error, Result};
use serde::Serialize;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// How long a packet may wait if nothing is said.
const LATENCY: Duration = Duration::from_millis(100);
/// Smallest queue in bytes: a TCP with less than about 20 packets under way cannot recover quickly from a loss.
const SMALLEST_QUEUE: u64 = 32 << 10;

/// What is asked for one direction; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Direction {
    /// Bytes a second.
    pub rate: Option<u64>,
    /// Bytes that may go at once.
    pub burst: Option<u32>,
    /// How long a packet may wait for its turn before it is dropped.
    pub latency: Option<Duration>,
    /// How much later packets arrive.
    pub delay: Option<Duration>,
    /// How much that varies.
    pub jitter: Option<Duration>,
    /// How many of a hundred are lost.
    pub loss: Option<f64>,
}

impl Direction {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits for one interface of a namespace.
#[derive(Clone, Debug)]
pub struct Request {
    /// The namespace.
    pub netns: PathBuf,
    /// How messages call it.
    pub shown: String,
    /// Interface there.
    pub interface: String,
    /// What the namespace sends.
    pub egress: Direction,
    /// What it receives.
    pub ingress: Direction,
}

/// What holds for one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Limit {
    /// The token bucket, if the rate is limited.
    pub bucket: Option<Bucket>,
    /// Delay and loss, if there are any.
    pub emulation: Option<Emulation>,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = Vec::new();
        if let Some(e) = &self.emulation {
            words.push(format!("netem delay {:?}", e.delay));
            if !e.jitter.is_zero() {
                words.push(format!("{:?}", e.jitter));
            }
            if e.loss > 0.0 {
                words.push(format!("loss {:.3}%", e.loss));
            }
        }
        if let Some(b) = &self.bucket {
            words.push(format!("tbf rate {} burst {} limit {}", rate::show_rate(b.rate), b.burst, b.queue));
        }
        if words.is_empty() { f.write_str("unlimited") } else { f.write_str(&words.join(" ")) }
    }
}

/// The limits of an interface.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name in the namespace.
    pub interface: String,
    /// The host's end of the pair.
    pub host_link: String,
    /// What the namespace sends.
    pub egress: Limit,
    /// What it receives.
    pub ingress: Limit,
    /// Nothing had to be done.
    pub already: bool,
}

/// The two ends of a veth pair.
struct Pair {
    inside: Rtnl,
    host: Rtnl,
    near: Link,
    far: Link,
}

impl Pair {
    fn find(r: &Request) -> Result<Self> {
        name::check_interface("--interface", &r.interface)?;
        let fd = netns::open_other(&r.netns)?;
        let inside = Rtnl::over(netns::socket(fd.as_fd(), Protocol::Route)?);
        let host = Rtnl::here()?;
        let near = inside.link(&r.interface)?.ok_or_else(|| {
            Error::failed(r.shown.clone(), format!("has no interface '{}'", r.interface))
                .hint(format!("netsetup show {} lists them; netsetup attach or link makes one", r.shown))
        })?;
        let far = near.peer.map(|index| host.link_by_index(index)).transpose()?.flatten();
        let far = far.filter(|f| f.kind.as_deref() == Some("veth") && f.peer == Some(near.index));
        let far = far.ok_or_else(|| {
            Error::failed(r.shown.clone(), format!("'{}' is no veth pair with this host", r.interface))
                .hint("netsetup attach or link makes one")
        })?;
        Ok(Self { inside, host, near, far })
    }

    fn now(&self) -> Result<(Limit, Limit)> {
        Ok((
            limit_of(&self.inside.qdiscs()?, self.near.index),
            limit_of(&self.host.qdiscs()?, self.far.index),
        ))
    }
}

fn limit_of(all: &[Qdisc], index: u32) -> Limit {
    let own = || all.iter().filter(|q| q.index == index);
    Limit { bucket: own().find_map(|q| q.bucket), emulation: own().find_map(|q| q.emulation) }
}

/// `asked` over what holds now.
fn merge(option: &str, asked: &Direction, now: Limit, mtu: u32) -> Result<Limit> {
    let rate = asked.rate.or(now.bucket.map(|b| b.rate));
    if rate.is_none() && (asked.burst.is_some() || asked.latency.is_some()) {
        return Err(Error::bad_input(option, "--burst and --latency need a rate"));
    }
    let same_rate = now.bucket.filter(|b| Some(b.rate) == rate);
    let bucket = match (rate, same_rate) {
        (Some(_), Some(same)) if asked.burst.is_none() && asked.latency.is_none() => Some(same),
        (Some(rate), _) => Some(bucket(rate, asked, mtu)),
        (None, _) => None,
    };
    let before = now.emulation.unwrap_or_default();
    let emulation = Emulation {
        delay: asked.delay.unwrap_or(before.delay),
        jitter: asked.jitter.unwrap_or(before.jitter),
        loss: asked.loss.unwrap_or(before.loss),
    };
    if emulation.jitter > emulation.delay {
        return Err(Error::bad_input("--jitter", "is more than the delay (allowed: at most --delay)"));
    }
    let plain = emulation.delay.is_zero() && emulation.loss <= 0.0;
    Ok(Limit { bucket, emulation: (!plain).then_some(emulation) })
}

fn bucket(rate: u64, asked: &Direction, mtu: u32) -> Bucket {
    // A packet with its header must fit, or it never goes; 10 ms of the rate let the timer be late.
    let least = u64::from(mtu) + 100;
    let burst = asked.burst.map_or((rate / 100).clamp(2 * least, 4 << 20), |b| u64::from(b).max(least));
    let waiting = rate as f64 * asked.latency.unwrap_or(LATENCY).as_secs_f64();
    let queue = if asked.latency.is_some() { waiting as u64 } else { (waiting as u64).max(SMALLEST_QUEUE) };
    let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    Bucket { rate, burst: narrow(burst), queue: narrow(queue.max(least) + burst) }
}

impl Request {
    /// The limits that hold now.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: no such namespace; it has no such interface, or not one of this host's.
    pub fn look(&self) -> Result<Report> {
        let pair = Pair::find(self).map_err(|e| e.in_stage(STAGE))?;
        let (egress, ingress) = pair.now()?;
        Ok(self.report(&pair, egress, ingress, true))
    }

    fn report(&self, pair: &Pair, egress: Limit, ingress: Limit, already: bool) -> Report {
        Report {
            interface: self.interface.clone(),
            host_link: pair.far.name.clone(),
            egress,
            ingress,
            already,
        }
    }

    /// Sets what is asked; a direction that is not named keeps its limit. If one direction cannot be set, both are as
    /// before.
    ///
    /// # Errors
    /// As [`Request::look`]; the kernel's, such as a missing sch_netem.
    pub fn set(&self, ctx: &Ctx<'_>) -> Result<Report> {
        self.run(ctx).map_err(|e| e.in_stage(STAGE))
    }

    fn run(&self, ctx: &Ctx<'_>) -> Result<Report> {
        let pair = Pair::find(self)?;
        let before = pair.now()?;
        let mtu = pair.near.mtu.unwrap_or(1500);
        let keep = |option, asked: &Direction, now| match asked.is_empty() {
            true => Ok(now),
            false => merge(option, asked, now, mtu),
        };
        let egress = keep("--egress", &self.egress, before.0)?;
        let ingress = keep("--ingress", &self.ingress, before.1)?;
        if (egress, ingress) == before {
            return Ok(self.report(&pair, egress, ingress, true));
        }
        if egress != before.0 {
            shape(&pair.inside, &pair.near, true, before.0, egress, ctx)?;
        }
        if ingress != before.1
            && let Err(error) = shape(&pair.host, &pair.far, false, before.1, ingress, ctx)
        {
            if egress != before.0 {
                shape(&pair.inside, &pair.near, true, egress, before.0, &Ctx::silent())?;
            }
            return Err(error);
        }
        Ok(self.report(&pair, egress, ingress, false))
    }

    /// Takes all limits away.
    ///
    /// # Errors
    /// As [`Request::look`]; the kernel's.
    pub fn off(&self, ctx: &Ctx<'_>) -> Result<Report> {
        let pair = Pair::find(self).map_err(|e| e.in_stage(STAGE))?;
        let (egress, ingress) = pair.now()?;
        let none = Limit::default();
        if egress != none {
            shape(&pair.inside, &pair.near, true, egress, none, ctx)?;
        }
        if ingress != none {
            shape(&pair.host, &pair.far, false, ingress, none, ctx)?;
        }
        Ok(self.report(&pair, none, none, (egress, ingress) == (none, none)))
    }
}

/// Replaces what a link has; if the new cannot be had, the old comes back.
fn shape(rtnl: &Rtnl, link: &Link, inside: bool, old: Limit, new: Limit, ctx: &Ctx<'_>) -> Result<()> {
    let step = NetStep::Shape {
        interface: link.name.clone(),
        inside,
        what: (new != Limit::default()).then(|| new.to_string()),
    };
    let batch = |limit: Limit| {
        let mut batch = Batch::new();
        batch.delete_root_qdisc(link.index, &link.name);
        batch.add_qdiscs(link.index, &link.name, limit.bucket.as_ref(), limit.emulation.as_ref());
        batch
    };
    ctx.perform(&step, |_| {
        rtnl.execute(&batch(new)).map_err(|e| {
            // The failure is the error to tell.
            let _ = rtnl.execute(&batch(old));
            match e.errno() {
                Some(nix::libc::ENOENT | nix::libc::EOPNOTSUPP) => {
                    let module =
                        if e.failed_call().is_some_and(|c| c.contains("netem")) { "netem" } else { "tbf" };
                    e.because(format!("the kernel has no {module} queueing discipline")).hint(format!(
                        "modprobe sch_{module}, or a kernel with CONFIG_NET_SCH_{}",
                        module.to_uppercase()
                    ))
                }
                _ => e,
            }
        })
    })
}
