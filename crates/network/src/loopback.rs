//! `lo`, which a new network namespace has down.

use crate::netlink::Batch;
use crate::rtnl::Rtnl;
use drydock_core::Result;

/// Brings `lo` up in the calling thread's network namespace. Needs CAP_NET_ADMIN there.
///
/// # Errors
/// The kernel's; EPERM without the capability.
pub fn loopback_up() -> Result<()> {
    let mut batch = Batch::new();
    batch.set_up("lo");
    Rtnl::here()?.execute(&batch)
}
