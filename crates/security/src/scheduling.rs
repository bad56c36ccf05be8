//! Who gets the CPU and the disk: scheduling policy, I/O priority, CPU affinity. The fields are OCI's.
//! Source: sched_setattr(2), sched(7), ioprio_set(2).

use crate::list;
use drydock_core::sys::sched::Attributes;
use drydock_core::{Error, Result, text};
use serde::{Deserialize, Serialize};

/// Scheduling policies by OCI's names. SCHED_ISO is reserved by Linux and refused by its kernel.
pub const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Flags of sched_setattr(2).
pub const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// I/O scheduling classes of ioprio_set(2).
pub const IO_CLASSES: [(&str, u16); 3] =
    [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// `process.scheduler`: what sched_setattr(2) is called with. What is absent is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Scheduler {
    /// One of [`POLICIES`].
    pub policy: String,
    /// -20 to 19, for SCHED_OTHER and SCHED_BATCH; the other policies ignore it.
    pub nice: Option<i32>,
    /// 1 to 99, for SCHED_FIFO and SCHED_RR.
    pub priority: Option<i32>,
    /// Of [`FLAGS`].
    pub flags: Option<Vec<String>>,
    /// Nanoseconds in each period, for SCHED_DEADLINE.
    pub runtime: Option<u64>,
    /// Nanoseconds from a period's start, for SCHED_DEADLINE.
    pub deadline: Option<u64>,
    /// Nanoseconds, for SCHED_DEADLINE; the deadline if 0.
    pub period: Option<u64>,
}

/// `process.ioPriority`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IoPriority {
    /// One of [`IO_CLASSES`].
    pub class: String,
    /// 0 (highest) to 7.
    pub priority: i32,
}

/// `process.execCPUAffinity`: for a process that enters a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecCpuAffinity {
    /// Where it runs before it is moved into the container's cgroup: a list such as `0-3,7`.
    pub initial: Option<String>,
    /// Where it runs from then on.
    #[serde(rename = "final")]
    pub last: Option<String>,
}

/// The value of a name, or the sentence with all that are allowed.
pub(crate) fn named<T: Copy>(field: &str, name: &str, known: &[(&str, T)]) -> Result<T> {
    known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let shown = text::shorten(&text::escape(name), 60);
        Error::bad_input(field, format!("'{shown}' is not one (allowed: {})", names.join(", ")))
    })
}

fn outside(field: &str, value: impl std::fmt::Display, allowed: &str) -> Error {
    Error::bad_input(field, format!("{value} does not fit (allowed: {allowed})"))
}

impl Scheduler {
    /// What the kernel is given.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the field for an unknown name, or a value that the policy does not take.
    pub fn check(&self) -> Result<Attributes> {
        let policy = named("scheduler.policy", &self.policy, &POLICIES)?;
        let flags = self
            .flags
            .iter()
            .flatten()
            .try_fold(0, |all, flag| named("scheduler.flags", flag, &FLAGS).map(|one| all | one))?;
        let (nice, priority) = (self.nice.unwrap_or(0), self.priority.unwrap_or(0));
        if !(-20..=19).contains(&nice) {
            return Err(outside("scheduler.nice", nice, "-20 to 19"));
        }
        match (self.policy.as_str(), u32::try_from(priority)) {
            ("SCHED_FIFO" | "SCHED_RR", Ok(1..=99)) => {}
            ("SCHED_FIFO" | "SCHED_RR", _) => return Err(outside("scheduler.priority", priority, "1 to 99")),
            (_, Ok(0)) => {}
            _ => return Err(outside("scheduler.priority", priority, "0 without SCHED_FIFO or SCHED_RR")),
        }
        let times = [("runtime", self.runtime), ("deadline", self.deadline), ("period", self.period)];
        if self.policy == "SCHED_DEADLINE" {
            self.check_deadline()?;
        } else if let Some((field, value)) = times.iter().find(|(_, value)| value.unwrap_or(0) != 0) {
            let value = value.unwrap_or(0);
            return Err(outside(&format!("scheduler.{field}"), value, "0 without SCHED_DEADLINE"));
        }
        Ok(Attributes {
            policy,
            flags,
            nice,
            priority: u32::try_from(priority).unwrap_or(0),
            runtime: self.runtime.unwrap_or(0),
            deadline: self.deadline.unwrap_or(0),
            period: self.period.unwrap_or(0),
        })
    }

    /// sched(7): runtime <= deadline <= period, and at least 1024 ns.
    fn check_deadline(&self) -> Result<()> {
        let (runtime, deadline) = (self.runtime.unwrap_or(0), self.deadline.unwrap_or(0));
        if runtime < 1024 {
            return Err(outside(
                "scheduler.runtime",
                runtime,
                "at least 1024 nanoseconds with SCHED_DEADLINE",
            ));
        }
        if deadline < runtime {
            return Err(outside("scheduler.deadline", deadline, "at least the runtime"));
        }
        match self.period.unwrap_or(0) {
            0 => Ok(()),
            period if period >= deadline => Ok(()),
            period => Err(outside("scheduler.period", period, "0, or at least the deadline")),
        }
    }
}

impl IoPriority {
    /// The value that ioprio_set(2) takes.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the field.
    pub fn check(&self) -> Result<u16> {
        let class = named("ioPriority.class", &self.class, &IO_CLASSES)?;
        match u16::try_from(self.priority) {
            Ok(level @ 0..=7) => Ok(class << 13 | level),
            _ => Err(outside("ioPriority.priority", self.priority, "0 to 7")),
        }
    }
}

impl ExecCpuAffinity {
    /// The CPUs before and after the move; `None` leaves them.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] with the field.
    pub fn check(&self) -> Result<[Option<Vec<usize>>; 2]> {
        let cpus = |field: &str, list: &Option<String>| {
            let parsed = list.as_deref().map(|list| list::parse(field, list)).transpose();
            parsed.map(|cpus| cpus.filter(|cpus| !cpus.is_empty()))
        };
        Ok([cpus("execCPUAffinity.initial", &self.initial)?, cpus("execCPUAffinity.final", &self.last)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(scheduler: &Scheduler) -> String {
        let error = scheduler.check().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn schedulers() {
        let with = |policy: &str| Scheduler { policy: policy.into(), ..Scheduler::default() };
        for policy in ["SCHED_OTHER", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE"] {
            assert!(with(policy).check().is_ok(), "{policy}");
            let priority = Scheduler { priority: Some(1), ..with(policy) };
            assert!(refused(&priority).contains("scheduler.priority"));
            let runtime = Scheduler { runtime: Some(1), ..with(policy) };
            assert!(refused(&runtime).contains("scheduler.runtime"));
        }
        for policy in ["SCHED_FIFO", "SCHED_RR"] {
            assert_eq!(Scheduler { priority: Some(99), ..with(policy) }.check().unwrap().priority, 99);
            for priority in [0, -1, 100] {
                assert!(refused(&Scheduler { priority: Some(priority), ..with(policy) }).contains("1 to 99"));
            }
        }
        let deadline =
            |runtime, deadline, period| Scheduler { runtime, deadline, period, ..with("SCHED_DEADLINE") };
        assert!(deadline(Some(2000), Some(3000), Some(4000)).check().is_ok());
        assert!(deadline(Some(2000), Some(3000), None).check().is_ok());
        assert!(refused(&deadline(None, None, None)).contains("scheduler.runtime"));
        assert!(refused(&deadline(Some(2000), Some(1999), None)).contains("scheduler.deadline"));
        assert!(refused(&deadline(Some(2000), Some(3000), Some(2999))).contains("scheduler.period"));
        assert!(refused(&with("")).contains("allowed: SCHED_OTHER, SCHED_FIFO"));
        let nice = Scheduler { nice: Some(20), ..with("SCHED_OTHER") };
        assert!(refused(&nice).contains("-20 to 19"));
        let flags = |names: &[&str]| {
            let flags = names.iter().map(ToString::to_string).collect();
            Scheduler { flags: Some(flags), ..with("SCHED_OTHER") }
        };
        let both = flags(&["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_KEEP_PARAMS"]);
        assert_eq!(both.check().unwrap().flags, 0x11);
        assert!(refused(&flags(&["RESET_ON_FORK"])).contains("scheduler.flags"));
    }

    #[test]
    fn io_priorities() {
        let with = |class: &str, priority| IoPriority { class: class.into(), priority };
        assert_eq!(with("IOPRIO_CLASS_BE", 4).check().unwrap(), 0x4004);
        assert_eq!(with("IOPRIO_CLASS_IDLE", 7).check().unwrap(), 0x6007);
        for (class, priority) in [("IOPRIO_CLASS_BE", 8), ("IOPRIO_CLASS_RT", -1), ("", 1), ("BE", 1)] {
            assert_eq!(with(class, priority).check().unwrap_err().exit_code(), 2);
        }
    }
}
