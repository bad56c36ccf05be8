//! `container update`: other limits for a container that runs.

use crate::commands::signals;
use drydock_bundle::config::{json, rules, schema, shape};
use drydock_bundle::{Entry, State, Store};
use drydock_cgroups::{CpuMax, Layout, Limits, UNLIMITED, systemd};
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Journal, Object, Result};
use oci_spec::runtime::LinuxResources;
use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;

/// Arguments of `container update`.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// Read the limits from FILE, or - for standard input: JSON as config.json's linux.resources; other options are then left out
    #[arg(short = 'r', long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// CPUs, such as 0.5, or max (cpu.max)
    #[arg(long, value_name = "CPUS", conflicts_with_all = ["cpu_quota", "cpu_period"])]
    pub cpus: Option<String>,
    /// CPU weight under contention, 1 to 10000 (cpu.weight)
    #[arg(long, value_name = "WEIGHT", conflicts_with = "cpu_share")]
    pub cpu_weight: Option<u64>,
    /// The same in cgroup v1's numbers, 2 to 262144 (cpu.shares)
    #[arg(long, visible_alias = "cpu-shares", value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// Microseconds over which CPU time is counted
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// Microseconds of CPU time in each period; -1: no limit
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Microseconds of CPU time that may be saved up
    #[arg(long, value_name = "US")]
    pub cpu_burst: Option<u64>,
    /// cgroup v1: microseconds over which realtime processes' CPU time is counted
    #[arg(long, value_name = "US")]
    pub cpu_rt_period: Option<u64>,
    /// cgroup v1: microseconds of CPU time for realtime processes in each period
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// 1: run only when nothing else wants to; 0: as others
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<i64>,
    /// Processors that may be used, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory, such as 100M; -1: no limit (memory.max)
    #[arg(short = 'm', long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Memory that is spared when others need some (memory.low)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Memory and swap together; -1: no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, conflicts_with = "swap")]
    pub memory_swap: Option<String>,
    /// Swap beyond the memory limit (memory.swap.max)
    #[arg(long, value_name = "SIZE")]
    pub swap: Option<String>,
    /// Processes; -1: no limit (pids.max)
    #[arg(long, visible_alias = "pids", value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// Weight of block devices' time, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u64>,
    /// Ignored: no kernel has this limit any more [accepted for runc's sake]
    #[arg(long, value_name = "SIZE", hide = true, allow_hyphen_values = true)]
    pub kernel_memory: Option<String>,
    /// Ignored: no kernel has this limit any more [accepted for runc's sake]
    #[arg(long, value_name = "SIZE", hide = true, allow_hyphen_values = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Intel RDT: the line for the L3 cache, such as L3:0=7f0;1=1f
    #[arg(long, value_name = "LINE")]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT: the line for memory bandwidth, such as MB:0=20;1=70
    #[arg(long, value_name = "LINE")]
    pub mem_bw_schema: Option<String>,
    /// The container
    pub name: String,
}

/// Whether the command line has an option of the verb's own.
fn asks(args: &Args) -> bool {
    let nothing = Args { name: args.name.clone(), ..Args::default() };
    *args != nothing
}

/// Changes limits. All are checked before the first is written.
///
/// # Errors
/// Values that are none; unknown containers, or ones that do not run; what the kernel refuses.
pub fn run(args: &Args, store: &Store) -> Outcome {
    if !asks(args) {
        let some = "no limit is given (allowed: one or more, such as --memory 100M, --cpus 0.5, --pids-limit 100, or -r FILE)";
        return Err(Error::bad_input("arguments", some).hint("container update --help lists them").into());
    }
    let limits = match &args.resources {
        Some(path) => from_json(&read(path)?)?,
        None => from_options(args)?,
    };
    limits.check().map_err(|e| placed(e, args, &limits))?;
    if args.kernel_memory.is_some() || args.kernel_memory_tcp.is_some() {
        drydock_cli::output::warn(
            "container",
            "--kernel-memory is ignored: it is no limit of its own any more",
        );
    }
    let rdt = drydock_security::rdt::Request {
        l3_cache_schema: args.l3_cache_schema.clone(),
        mem_bw_schema: args.mem_bw_schema.clone(),
        ..Default::default()
    };
    rdt.check()?;
    let entry = store.find_exact(&args.name)?;
    let (state, _) = signals::running(&entry)?;
    let limits = match (&args.resources, &state.oci) {
        (Some(_), Some(oci)) => crate::oci::resources::zero_pids(limits, crate::oci::life::version(oci)),
        _ => limits,
    };
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        crate::commands::update_rdt::apply(&rdt, &entry, &state)?;
    }
    if !limits.is_empty() {
        change(&entry, &state, limits.clone(), args)?;
    }
    crate::told::asked(store, entry.id.as_str(), "update", &[("limits", told(&limits, &rdt))]);
    Ok(0)
}

/// What was asked for, without all that was not.
fn told(limits: &Limits, rdt: &drydock_security::rdt::Request) -> Value {
    let (all, none) = (serde_json::to_value(limits), serde_json::to_value(Limits::default()));
    let mut asked = match all {
        Ok(Value::Object(all)) => all,
        _ => serde_json::Map::new(),
    };
    let none = none.unwrap_or_default();
    asked.retain(|key, value| none.get(key) != Some(value));
    let lines = [("l3_cache_schema", &rdt.l3_cache_schema), ("mem_bw_schema", &rdt.mem_bw_schema)];
    asked.extend(lines.into_iter().filter_map(|(key, line)| Some((key.to_string(), line.clone()?.into()))));
    Value::Object(asked)
}

/// The options of fields of `linux.resources`.
const OPTIONS: [(&str, &str); 13] = [
    ("cpu/shares", "--cpu-share"),
    ("cpu/quota", "--cpu-quota"),
    ("cpu/period", "--cpu-period"),
    ("cpu/burst", "--cpu-burst"),
    ("cpu/realtimePeriod", "--cpu-rt-period"),
    ("cpu/realtimeRuntime", "--cpu-rt-runtime"),
    ("cpu/cpus", "--cpuset-cpus"),
    ("cpu/mems", "--cpuset-mems"),
    ("memory/limit", "--memory"),
    ("memory/reservation", "--memory-reservation"),
    ("memory/swap", "--memory-swap"),
    ("pids/limit", "--pids-limit"),
    ("blockIO/weight", "--blkio-weight"),
];

/// What the cgroup stage refuses, by the name that it was given here.
fn placed(error: Error, args: &Args, limits: &Limits) -> Error {
    let Some((field, why)) = crate::oci::limit(&error, &|file| limits.unified.contains_key(file)) else {
        return error;
    };
    let object = match (&args.resources, OPTIONS.iter().find(|(name, _)| *name == field)) {
        (Some(_), _) => format!("--resources: /{field}"),
        (None, Some((_, option))) => (*option).to_string(),
        (None, None) => return error,
    };
    Error::bad_input(object, why).with_kind(error.kind())
}

fn change(entry: &Entry, state: &State, limits: Limits, args: &Args) -> Result<()> {
    let objects = Journal::read(&entry.dir)?;
    let mut dirs = state.cgroup.clone();
    // Those that a former update has added are in the journal only.
    for object in &objects {
        if let Object::Cgroup { dirs: more } = object {
            dirs.extend(more.iter().filter(|dir| !state.cgroup.contains(dir)).cloned());
        }
    }
    if dirs.is_empty() {
        return Err(Error::failed(format!("'{}'", entry.id), "has no cgroup, so no limits")
            .hint("run as root, or in a delegated cgroup: container doctor"));
    }
    let layout = Layout::detect()?;
    let request = drydock_cgroups::Request { dirs, limits: limits.clone(), ..Default::default() };
    let plan = request.validate(&layout).map_err(|e| placed(e, args, &limits))?;
    // systemd first: it would write its own idea of the limits again at its next reload.
    for object in &objects {
        if let Object::SystemdUnit { name, user } = object {
            systemd::update(name, *user, layout.mode(), &limits)?;
        }
    }
    let journal = Journal::create(&entry.dir)?;
    plan.apply(&Ctx::new(&drydock_core::Silent, Some(&journal)))?;
    Ok(())
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    const MAX: u64 = 4 << 20;
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX).read_to_end(&mut bytes).call(|| "read(stdin)")?;
        return Ok(bytes);
    }
    let file = std::fs::File::open(path)
        .call(|| format!("open({path:?})"))
        .map_err(|e| e.on("--resources").with_kind(drydock_core::Kind::BadInput))?;
    file.take(MAX).read_to_end(&mut bytes).call(|| format!("read({path:?})"))?;
    Ok(bytes)
}

fn from_json(bytes: &[u8]) -> Result<Limits> {
    const AT: &str = "--resources";
    let mut value = json::read(AT, bytes)?;
    let fits = shape::check("", &value, &shape::Shape::Object(&schema::RESOURCES))
        .and_then(|()| rules::resources(Some(&value), ""));
    fits.map_err(|e| {
        let sentence = e.sentence();
        Error::bad_input(AT, sentence.trim_start_matches("config.json: ").trim_start_matches(": "))
    })?;
    drydock_bundle::config::typed_resources(&mut value);
    let resources: LinuxResources = serde_json::from_value(value).map_err(|e| {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(&e.to_string()), 200);
        Error::bad_input(AT, format!("{shown} (allowed: JSON as config.json's linux.resources)"))
    })?;
    let limits = crate::oci::resources::limits(&resources, "--resources: ")?;
    crate::oci::resources::check_devices(&resources, "--resources: ").map(|()| limits)
}

fn from_options(args: &Args) -> Result<Limits> {
    let size = |option: &str, text: &Option<String>| {
        let parse = |text: &String| match text.as_str() {
            "-1" => Ok(UNLIMITED),
            text => Limits::parse_size(option, text),
        };
        // As config.json has it, 0 is "not given".
        Ok::<_, Error>(text.as_ref().map(parse).transpose()?.filter(|n| *n != 0))
    };
    let signed = |option: &str, value: Option<i64>| match value {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(UNLIMITED)),
        Some(n) => u64::try_from(n).map(Some).map_err(|_| {
            Error::bad_input(option, format!("{n} is negative (allowed: a number, or -1 for no limit)"))
        }),
    };
    let quota_us = signed("--cpu-quota", args.cpu_quota)?;
    let period_us = args.cpu_period.filter(|period| *period != 0);
    let parts = (quota_us.is_some() || period_us.is_some()).then_some(CpuMax { quota_us, period_us });
    let limits = Limits {
        cpu: args
            .cpus
            .as_deref()
            .map(Limits::parse_cpus)
            .transpose()
            .map_err(crate::request::named)?
            .or(parts),
        cpu_burst_us: args.cpu_burst,
        cpu_weight: args.cpu_weight,
        cpu_shares: args.cpu_share.filter(|shares| *shares != 0),
        cpu_idle: match args.cpu_idle {
            None => None,
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(n) => {
                return Err(Error::bad_input("--cpu-idle", format!("{n} is not allowed (allowed: 0, 1)")));
            }
        },
        cpu_rt_runtime_us: signed("--cpu-rt-runtime", args.cpu_rt_runtime)?,
        cpu_rt_period_us: args.cpu_rt_period.filter(|period| *period != 0),
        cpuset_cpus: args.cpuset_cpus.clone().filter(|list| !list.is_empty()),
        cpuset_mems: args.cpuset_mems.clone().filter(|list| !list.is_empty()),
        memory_max: size("--memory", &args.memory)?,
        memory_low: size("--memory-reservation", &args.memory_reservation)?,
        memsw_max: size("--memory-swap", &args.memory_swap)?,
        swap_max: args.swap.as_ref().map(|text| Limits::parse_size("--swap", text)).transpose()?,
        pids_max: match args.pids_limit.as_deref() {
            None => None,
            Some("-1") => Some(UNLIMITED),
            Some(text) => Some(Limits::parse_count("--pids-limit", text)?),
        },
        blkio_weight: args.blkio_weight.filter(|weight| *weight != 0),
        ..Limits::default()
    };
    match (limits.memory_max, limits.memsw_max) {
        (Some(memory), Some(sum)) if sum < memory => Err(Error::bad_input(
            "--memory-swap",
            "is less than --memory (allowed: memory and swap together, or -1)",
        )),
        _ => Ok(limits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_json_say_the_same() {
        let text = |t: &str| Some(t.to_string());
        let options = Args {
            memory: text("64m"),
            memory_swap: text("-1"),
            memory_reservation: text("32M"),
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            cpu_share: Some(512),
            cpuset_cpus: text("0"),
            pids_limit: text("9"),
            blkio_weight: Some(100),
            ..Args::default()
        };
        let json = br#"{"memory":{"limit":67108864,"swap":-1,"reservation":33554432},"pids":{"limit":9},
            "cpu":{"quota":50000,"period":100000,"shares":512,"cpus":"0"},"blockIO":{"weight":100}}"#;
        assert_eq!(from_options(&options).unwrap(), from_json(json).unwrap());
        assert!(from_options(&Args::default()).unwrap().is_empty());
        for wrong in [&b"{"[..], b"[]", b"{\"memory\":{\"limit\":\"1\"}}", b"", b"{\"cpu\":{\"shares\":-1}}"]
        {
            assert_eq!(from_json(wrong).unwrap_err().exit_code(), 2);
        }
        let small = Args { memory: text("64m"), memory_swap: text("32m"), ..Args::default() };
        assert_eq!(from_options(&small).unwrap_err().exit_code(), 2);
    }
}
