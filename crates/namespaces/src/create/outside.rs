//! The part that is done from outside: id maps and persistent namespaces.

use super::persist::Pin;
use super::{CreateStep, Plan};
use crate::Kind;
use crate::relay::{End, Said};
use drydock_core::{Ctx, Error, Result};

impl Plan {
    /// Makes the files of persistent namespaces, before anything else can fail.
    pub(super) fn prepare_pins(&self, ctx: &Ctx<'_>) -> Result<Vec<Pin>> {
        let make = |(kind, path): &(Kind, _)| {
            ctx.perform(&CreateStep::File { path: std::path::PathBuf::clone(path) }, |_| {
                Pin::prepare(*kind, path)
            })
        };
        self.request.persist.iter().map(make).collect()
    }

    /// Writes the maps of `pid`, says go, and pins its namespaces when it is ready.
    pub(super) fn attend(&self, pid: i32, end: &End, pins: &mut [Pin], ctx: &Ctx<'_>) -> Result<()> {
        if self.request.new.contains(Kind::User) {
            self.maps.plan(pid)?.apply(ctx)?;
        }
        end.go()?;
        if pins.is_empty() {
            return Ok(());
        }
        expect_ready(end)?;
        for (pin, (kind, path)) in pins.iter_mut().zip(&self.request.persist) {
            let step = CreateStep::Persist { kind: *kind, path: path.clone(), pid };
            ctx.perform(&step, |_| pin.mount(pid))?;
        }
        end.go()
    }

    /// The inside's half of [`Plan::attend`]'s second round.
    pub(super) fn wait_for_pins(&self, end: &End) -> Result<()> {
        if self.request.persist.is_empty() {
            return Ok(());
        }
        end.ready()?;
        expect_go(end)
    }
}

/// Waits for the parent's word.
pub(super) fn expect_go(end: &End) -> Result<()> {
    match end.hear()? {
        Said::Go => Ok(()),
        _ => Err(Error::failed("parent", "has ended")),
    }
}

fn expect_ready(end: &End) -> Result<()> {
    match end.hear()? {
        Said::Ready => Ok(()),
        _ => Err(Error::failed("child", "ended before its namespaces were ready")),
    }
}
