//! The systemd cgroup driver: a container's cgroup as a transient scope, made and removed by systemd over D-Bus.
//!
//! systemd owns the tree of cgroups where it runs, and wants to be asked for a part of it. [`Request::plan`] checks what
//! is asked; [`Scope::start`] has systemd make the scope around a process that exists, delegated to us: what is below, and
//! the limits' own files, are then ours as with cgroupfs ([`crate::Request`] with [`crate::IfExists::Reuse`] and the name
//! that `start` gives). [`stop`] ends it.
//! Source: org.freedesktop.systemd1(5), systemd.scope(5), systemd's CGROUP_DELEGATION document.

mod annotations;
mod bus;
mod names;
mod properties;
mod wire;

use crate::{Limits, Mode};
use bus::{Answer, Bus};
use drydock_core::{Ctx, Error, Explain, Object, Result, Step};
use names::{Names, check_unit};

pub use annotations::{PREFIX as ANNOTATION_PREFIX, properties as properties_of_annotations};
pub use properties::Property;
pub use wire::Value;

/// A scope to make.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The configuration's `cgroupsPath`: `SLICE:PREFIX:NAME`; `None` for a scope of the container's name.
    pub path: Option<String>,
    /// The container's name.
    pub id: String,
    /// The limits that systemd is to know of.
    pub limits: Limits,
    /// Further properties ([`properties_of_annotations`]); they come last, so that they win.
    pub properties: Vec<Property>,
    /// The calling user's systemd instead of the system's: for rootless containers.
    pub user: bool,
}

/// A checked request.
#[derive(Clone, Debug)]
pub struct Scope {
    names: Names,
    request: Request,
    v2: bool,
}

impl Request {
    /// Checks names and limits. Touches nothing and asks nobody.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`].
    pub fn plan(self, mode: Mode) -> Result<Scope> {
        let names = Names::parse(self.path.as_deref(), &self.id, self.user)?;
        self.limits.check()?;
        Ok(Scope { names, v2: mode == Mode::V2, request: self })
    }
}

impl Scope {
    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.names.unit
    }

    /// Where its cgroup will be, below that of its manager: with the system's systemd, below the root.
    pub fn cgroup(&self) -> String {
        self.names.cgroup()
    }

    /// The steps in words.
    pub fn steps(&self) -> Vec<Step> {
        vec![self.act(0).explain()]
    }

    /// Has systemd make the scope with this process in it, and waits until it has. Gives the relative name of the cgroup,
    /// as systemd says it. The unit is journalled before.
    ///
    /// # Errors
    /// When systemd is not there, refuses, or does not do it in 30 s.
    pub fn start(&self, pid: i32, ctx: &Ctx<'_>) -> Result<String> {
        let mut bus = Bus::connect(self.request.user)?;
        ctx.perform(&self.act(pid), |_| self.start_on(&mut bus, pid))
    }

    fn act(&self, pid: i32) -> Act {
        let (unit, slice) = (self.names.unit.clone(), self.names.slice.clone());
        Act::Start { unit, slice, pid, user: self.request.user }
    }

    fn start_on(&self, bus: &mut Bus, pid: i32) -> Result<String> {
        let unit = self.names.unit.as_str();
        let kind = properties::Kind { v2: self.v2, version: bus.version()? };
        let mut all = self.frame(pid);
        all.extend(properties::of(&self.request.limits, kind)?);
        all.extend(self.request.properties.iter().cloned());
        let args = [text(unit), text("replace"), Value::Properties(last_of_each(all)), Value::NoUnits];
        bus.listen()?;
        let mut answer = bus.manager("StartTransientUnit", &args)?;
        if answer.as_ref().is_err_and(|e| e.is("UnitExists")) {
            // What failed in a former life keeps its name until it is reset.
            let _ = bus.manager("ResetFailedUnit", &[text(unit)])?;
            answer = bus.manager("StartTransientUnit", &args)?;
        }
        finish(bus, answer, unit, "to start it")?;
        let path = bus
            .manager("GetUnit", &[text(unit)])?
            .ok()
            .and_then(|message| message.texts().into_iter().next());
        let interface = "org.freedesktop.systemd1.Scope";
        let said = bus.property(path.as_deref(), interface, "ControlGroup")?.unwrap_or_default();
        let said = said.trim_matches('/');
        Ok(if said.is_empty() { self.cgroup() } else { said.to_string() })
    }

    /// What every scope of ours is.
    fn frame(&self, pid: i32) -> Vec<Property> {
        let io = if self.v2 { "IOAccounting" } else { "BlockIOAccounting" };
        let property = |name: &str, value: Value| (name.to_string(), value);
        vec![
            property("Description", text(&format!("drydock container {}", self.request.id))),
            property("Slice", text(&self.names.slice)),
            // What is below is ours: systemd neither moves processes there nor takes controllers away.
            property("Delegate", Value::Bool(true)),
            property("PIDs", Value::Numbers(vec![pid.cast_unsigned()])),
            property("MemoryAccounting", Value::Bool(true)),
            property("CPUAccounting", Value::Bool(true)),
            property(io, Value::Bool(true)),
            property("TasksAccounting", Value::Bool(true)),
            // Not stopped with all others at the begin of a shutdown, nor ordered behind what boots.
            property("DefaultDependencies", Value::Bool(false)),
        ]
    }
}

/// Tells systemd of changed limits, so that it does not write the old ones again.
///
/// # Errors
/// When systemd is not there or refuses.
pub fn update(unit: &str, user: bool, mode: Mode, limits: &Limits) -> Result<()> {
    check_unit(unit)?;
    limits.check()?;
    update_on(&mut Bus::connect(user)?, unit, mode, limits)
}

fn update_on(bus: &mut Bus, unit: &str, mode: Mode, limits: &Limits) -> Result<()> {
    let kind = properties::Kind { v2: mode == Mode::V2, version: bus.version()? };
    // Devices are not updated: neither does runc, and the cgroup's own rules hold beside systemd's.
    let limits = Limits { devices: None, ..limits.clone() };
    let all = last_of_each(properties::of(&limits, kind)?);
    if all.is_empty() {
        return Ok(());
    }
    let args = [text(unit), Value::Bool(true), Value::Properties(all)];
    let answer = bus.manager("SetUnitProperties", &args)?;
    answer.map(drop).map_err(|e| e.into_error(unit, "to change it"))
}

/// Stops a scope: systemd ends what is left in it and removes its cgroup. One that is gone, and a systemd that is gone,
/// are fine: what is left of the cgroup is removed through cgroupfs.
///
/// # Errors
/// When systemd refuses, or does not do it in 30 s.
pub fn stop(unit: &str, user: bool) -> Result<()> {
    check_unit(unit)?;
    Bus::connect(user).map_or(Ok(()), |mut bus| stop_on(&mut bus, unit))
}

fn stop_on(bus: &mut Bus, unit: &str) -> Result<()> {
    bus.listen()?;
    match bus.manager("StopUnit", &[text(unit), text("replace")])? {
        Err(e) if e.is("NoSuchUnit") => {}
        answer => finish(bus, answer, unit, "to stop it")?,
    }
    // A unit that has failed is remembered by its name until then; one that has not is refused: no matter.
    let _ = bus.manager("ResetFailedUnit", &[text(unit)])?;
    Ok(())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_string())
}

/// Waits for the job that the answer names.
fn finish(bus: &mut Bus, answer: Answer, unit: &str, doing: &str) -> Result<()> {
    let job = answer.map_err(|e| e.into_error(unit, doing))?.texts().into_iter().next().unwrap_or_default();
    match bus.wait_for(&job)?.as_str() {
        "done" => Ok(()),
        result => {
            let shown = drydock_core::text::escape(result);
            Err(Error::failed(unit, format!("systemd was asked {doing}; the job's result: {shown}"))
                .in_stage("cgroup")
                .hint(format!("systemctl status {unit}")))
        }
    }
}

/// systemd takes a property once: the last of a name counts.
fn last_of_each(all: Vec<Property>) -> Vec<Property> {
    let mut kept: Vec<Property> = Vec::new();
    for (name, value) in all {
        kept.retain(|(other, _)| *other != name);
        kept.push((name, value));
    }
    kept
}

/// The one step.
enum Act {
    Start { unit: String, slice: String, pid: i32, user: bool },
}

impl Explain for Act {
    fn explain(&self) -> Step {
        let Act::Start { unit, slice, pid, user } = self;
        let flag = if *user { " --user" } else { "" };
        Step {
            stage: "cgroup".into(),
            call: format!(
                "org.freedesktop.systemd1.Manager.StartTransientUnit({unit:?}, \"replace\", [Slice={slice:?}, PIDs=[{pid}], Delegate=true, …])"
            ),
            why: "systemd owns the tree of cgroups: it makes the scope, and leaves it to us".into(),
            man: "systemd.scope(5)".into(),
            undo: Some(format!("systemctl{flag} stop {unit}")),
        }
    }

    fn leaves(&self) -> Option<Object> {
        let Act::Start { unit, user, .. } = self;
        Some(Object::SystemdUnit { name: unit.clone(), user: *user })
    }
}

#[cfg(test)]
mod tests;
