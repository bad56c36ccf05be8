//! What a target may do, and with it whoever joins it: no_new_privs, capabilities, system call filters, label.
//! Source: proc_pid_status(5), capabilities(7), seccomp(2).

use crate::filters;
use drydock_core::error::CallExt;
use drydock_core::sys::seccomp::{self, Instruction};
use drydock_core::{Ctx, Error, Explain, Result, Step};
use drydock_namespaces::process::Process;
use drydock_security::{CapSet, Seccomp};
use rustix::thread::{self, CapabilitySet};

/// What is taken on.
#[derive(Debug)]
pub struct Taken {
    /// It cannot gain privileges by an exec.
    pub no_new_privs: bool,
    /// The most that it can ever have.
    pub bounding: CapSet,
    /// What it has.
    pub permitted: CapSet,
    /// Oldest first.
    filters: Vec<Vec<Instruction>>,
}

impl Taken {
    /// Reads it of a process. `own_user`: its user namespace is the one that the command will be in; else its
    /// capabilities mean nothing there.
    ///
    /// # Errors
    /// When /proc does not say; SECCOMP_MODE_STRICT, under which no command could run.
    pub fn of(process: &Process, own_user: bool, warnings: &mut Vec<String>) -> Result<Taken> {
        let status = String::from_utf8_lossy(&process.read("status")?).into_owned();
        let hex = |key| u64::from_str_radix(field(&status, key)?, 16).ok().map(CapSet);
        let missing =
            || Error::failed(format!("/proc/{}/status", process.pid()), "not as proc(5) describes it");
        let (bounding, permitted) = match own_user {
            true => (hex("CapBnd:").ok_or_else(missing)?, hex("CapPrm:").ok_or_else(missing)?),
            false => {
                warnings.push(
                    "the target has its capabilities in its own user namespace, which is not joined: the command has none (-U joins it)".into(),
                );
                (CapSet::EMPTY, CapSet::EMPTY)
            }
        };
        let mut no_new_privs = field(&status, "NoNewPrivs:") == Some("1");
        let filters = match field(&status, "Seccomp:") {
            Some("2") => match filters::of(process) {
                Ok(filters) => filters,
                Err(error) => {
                    warnings.push(format!(
                        "the target's system call filter cannot be read ({}): Drydock's default profile takes its place",
                        error.sentence()
                    ));
                    no_new_privs = true;
                    vec![default_filter()?]
                }
            },
            Some("1") => {
                let why = "runs under SECCOMP_MODE_STRICT, in which no command can run";
                return Err(Error::failed(format!("process {}", process.pid()), why)
                    .hint("--privileged leaves it out"));
            }
            _ => Vec::new(),
        };
        Ok(Taken { no_new_privs, bounding, permitted, filters })
    }

    /// The bounding set, while there is CAP_SETPCAP.
    ///
    /// # Errors
    /// prctl(2)'s.
    pub fn apply_bounding(&self, ctx: &Ctx<'_>) -> Result<()> {
        let drop: Vec<CapabilitySet> = CapabilitySet::all()
            .iter()
            .filter(|one| !self.bounding.contains(CapSet(one.bits())))
            .filter(|one| thread::capability_is_in_bounding_set(*one).unwrap_or(false))
            .collect();
        if drop.is_empty() {
            return Ok(());
        }
        ctx.perform(&TakeStep::Bounding(self.bounding), |_| {
            for one in &drop {
                match thread::remove_capability_from_bounding_set(*one) {
                    Ok(()) => {}
                    // Without privileges there is nothing to bound but what set-uid programs give.
                    Err(rustix::io::Errno::PERM) if !has(CapabilitySet::SETPCAP) => {
                        return thread::set_no_new_privs(true).call(|| "prctl(PR_SET_NO_NEW_PRIVS, 1)");
                    }
                    Err(e) => return Err(Error::call("prctl(PR_CAPBSET_DROP)", e)),
                }
            }
            Ok(())
        })
    }

    /// Whether there are filters.
    pub fn is_filtered(&self) -> bool {
        !self.filters.is_empty()
    }

    /// Whether the filters need CAP_SYS_ADMIN to be installed.
    pub fn needs_admin(&self) -> bool {
        !self.filters.is_empty() && !self.no_new_privs
    }

    /// The rest, last of all: capabilities (of these at most `most`), no_new_privs, filters.
    ///
    /// # Errors
    /// capset(2)'s, prctl(2)'s and seccomp(2)'s.
    pub fn apply_last(&self, ctx: &Ctx<'_>, most: CapSet, ambient: bool) -> Result<()> {
        let keep = self.permitted & most;
        ctx.perform(&TakeStep::Capabilities(keep), |_| Ok(()))?;
        let lacks_admin = self.needs_admin() && !has(CapabilitySet::SYS_ADMIN);
        if self.no_new_privs || lacks_admin {
            ctx.perform(&TakeStep::NoNewPrivs, |_| {
                thread::set_no_new_privs(true).call(|| "prctl(PR_SET_NO_NEW_PRIVS, 1)")
            })?;
        }
        if !self.filters.is_empty() {
            ctx.perform(&TakeStep::Seccomp(self.filters.len()), |_| Ok(()))?;
        }
        // With no_new_privs the filters come last; else they need a capability that the command may not have.
        if self.needs_admin() && !lacks_admin {
            self.install()?;
            return restrict(keep, ambient)
                .map_err(|e| e.hint("the target's filter may refuse capset: --privileged leaves it out"));
        }
        restrict(keep, ambient)?;
        self.install()
    }

    fn install(&self) -> Result<()> {
        for program in &self.filters {
            seccomp::install(program, 0)
                .map(drop)
                .call(|| "seccomp(SECCOMP_SET_MODE_FILTER)")
                .map_err(|e| e.hint("--privileged leaves the target's filter out"))?;
        }
        Ok(())
    }
}

/// Makes what is permitted effective again: who has left uid 0 with PR_SET_KEEPCAPS has it permitted only.
///
/// # Errors
/// capset(2)'s.
pub fn raise_effective() -> Result<()> {
    let mut sets = thread::capabilities(None).call(|| "capget()")?;
    sets.effective = sets.permitted;
    thread::set_capabilities(None, sets).call(|| "capset(effective: permitted)")
}

fn has(capability: CapabilitySet) -> bool {
    thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// Of what the process has, these; nothing inheritable. `ambient`: for a command that is not root they are passed on.
///
/// # Errors
/// capset(2)'s and prctl(2)'s.
pub fn restrict(keep: CapSet, ambient: bool) -> Result<()> {
    let mut sets = thread::capabilities(None).call(|| "capget()")?;
    let kept = CapabilitySet::from_bits_retain(keep.0) & sets.permitted;
    sets.permitted = kept;
    sets.effective = kept;
    sets.inheritable = if ambient { kept } else { CapabilitySet::empty() };
    thread::set_capabilities(None, sets).call(|| format!("capset(permitted={keep})"))?;
    for one in kept.iter().filter(|_| ambient) {
        thread::configure_capability_in_ambient_set(one, true)
            .call(|| "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)")?;
    }
    Ok(())
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

fn default_filter() -> Result<Vec<Instruction>> {
    let request = drydock_security::Request {
        seccomp: Seccomp::Default,
        no_new_privs: true,
        ..drydock_security::Request::default()
    };
    let plan = request.validate()?;
    Ok(plan.filter().map(|filter| filter.program.clone()).unwrap_or_default())
}

/// The label of a confined process, AppArmor's profile or SELinux's context, to be asked for at the next exec, also a
/// child's; nothing where no module confines it.
///
/// # Errors
/// [`drydock_core::Kind::Failed`] for one that cannot be asked for.
pub fn label(process: &Process) -> Result<Option<drydock_security::Plan>> {
    let active = drydock_security::lsm_active();
    let has = |name: &str| active.iter().any(|module| module == name);
    let read = |file: &str| {
        let bytes = process.read(file).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_end_matches(['\0', '\n']).to_string()).filter(|text| !text.is_empty())
    };
    let mut request = drydock_security::Request::default();
    if has("apparmor") {
        let text = read("attr/apparmor/current").or_else(|| read("attr/current"));
        // `docker-default (enforce)`; a stack of profiles has several.
        request.apparmor =
            text.and_then(|t| t.split(" (").next().map(str::to_string)).filter(|p| p != "unconfined");
    }
    if has("selinux") {
        request.selinux = read("attr/current").filter(|context| context.contains(':'));
    }
    if request.apparmor.is_none() && request.selinux.is_none() {
        return Ok(None);
    }
    request.validate().map(Some).map_err(|e| e.hint("--privileged leaves the target's label out"))
}

/// The steps.
enum TakeStep {
    Bounding(CapSet),
    Capabilities(CapSet),
    NoNewPrivs,
    Seccomp(usize),
}

impl Explain for TakeStep {
    fn explain(&self) -> Step {
        let (call, why, man) = match self {
            TakeStep::Bounding(set) => (
                format!("prctl(PR_CAPBSET_DROP, all but {set})"),
                "no exec can give more than the target could ever have",
                "capabilities(7)",
            ),
            TakeStep::Capabilities(set) => {
                (format!("capset(permitted={set})"), "no more than the target has", "capset(2)")
            }
            TakeStep::NoNewPrivs => (
                "prctl(PR_SET_NO_NEW_PRIVS, 1)".into(),
                "as the target: set-user-id programs give nothing",
                "PR_SET_NO_NEW_PRIVS(2const)",
            ),
            TakeStep::Seccomp(count) => (
                format!("seccomp(SECCOMP_SET_MODE_FILTER), {count} times"),
                "the target's own filters, as the kernel has them",
                "seccomp(2)",
            ),
        };
        Step { stage: "join".into(), call, why: why.into(), man: man.into(), undo: None }
    }
}
