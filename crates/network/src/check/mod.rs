//! Whether packets get from one place to another, and what stops them.

mod walk;

pub use walk::{Finding, Report, Request, Status};

use crate::netns;
use drydock_core::{Error, Result};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Longer than any answer within one machine takes, an emulated one too.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nobody listens there: a refusal is the answer of the other side's kernel, so the packets got there and back.
const DISCARD: u16 = 9;
/// Probes at the same time.
const PARALLEL: usize = 64;

/// One thing to try.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// From this namespace.
    pub from: BorrowedFd<'a>,
    /// To any of these addresses.
    pub to: &'a [IpAddr],
}

/// How a connection went: it was accepted or refused by the other side, or never came to that.
pub(crate) fn connect(to: SocketAddr) -> std::result::Result<bool, String> {
    match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Ok(false),
        Err(e) if e.kind() == std::io::ErrorKind::TimedOut => Err("no answer".into()),
        Err(e) => Err(e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text)),
    }
}

/// Whether a namespace gets packets to an address and back.
///
/// # Errors
/// The namespace cannot be entered.
pub fn reach(from: BorrowedFd<'_>, to: IpAddr) -> Result<std::result::Result<(), String>> {
    netns::within(from, || Ok(connect(SocketAddr::new(to, DISCARD)).map(drop)))
}

/// Tries all, many at a time: the address that was reached of each, or why none was.
///
/// # Errors
/// A namespace cannot be entered.
pub fn reach_all(probes: &[Probe<'_>]) -> Result<Vec<std::result::Result<IpAddr, String>>> {
    let single: Vec<(usize, BorrowedFd<'_>, IpAddr)> =
        probes.iter().enumerate().flat_map(|(n, p)| p.to.iter().map(move |to| (n, p.from, *to))).collect();
    let mut outcomes: Vec<std::result::Result<IpAddr, String>> =
        probes.iter().map(|_| Err("it has no address".to_string())).collect();
    for some in single.chunks(PARALLEL) {
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                some.iter().map(|(n, from, to)| (*n, *to, scope.spawn(|| reach(*from, *to)))).collect();
            threads.into_iter().map(|(n, to, thread)| (n, to, thread.join())).collect()
        });
        for (n, to, result) in results {
            let result = result
                .unwrap_or_else(|_| Err(Error::failed(to.to_string(), "the probe ended unexpectedly")))?;
            if let Some(slot) = outcomes.get_mut(n).filter(|slot| slot.is_err()) {
                *slot = result.map(|()| to).map_err(|why| format!("{to}: {why}"));
            }
        }
    }
    Ok(outcomes)
}
