//! watch and psi: what happens in a cgroup, as it happens.

use crate::args::{Psi, Watch};
use crate::names::{layout_for, seconds};
use crate::say::json_line;
use drydock_cgroups::{Cgroup, Event, Pressure, PressureLine, Trigger, Victim, Victims, check_name};
use drydock_cli::Outcome;
use drydock_cli::output::{print_error_line, print_json, print_line, print_text, table};
use drydock_core::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One event as JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: f64,
    name: &'a str,
    #[serde(flatten)]
    event: &'a Event,
    /// Of an OOM kill: who, where the kernel's log can be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    victims: Vec<Victim>,
    /// Of a pressure trigger: the averages now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pressure: Option<PressureLine>,
}

/// How long to go on.
struct Course {
    end: Option<Instant>,
    left: u64,
    seen: u64,
}

impl Course {
    fn new(timeout: Option<&str>, count: Option<u64>) -> Result<Self> {
        if count == Some(0) {
            return Err(Error::bad_input("--count", "0 is out of range (allowed: 1 and more)"));
        }
        let end = timeout.map(|t| seconds("--timeout", t, 0.0, 86_400.0)).transpose()?;
        Ok(Self { end: end.map(|d| Instant::now() + d), left: count.unwrap_or(u64::MAX), seen: 0 })
    }

    fn saw_one(&mut self) {
        self.seen += 1;
        self.left = self.left.saturating_sub(1);
    }

    fn is_over(&self) -> bool {
        self.left == 0 || self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// 1 when the time was over and nothing had happened.
    fn code(&self) -> u8 {
        u8::from(self.seen == 0)
    }
}

/// `cgroupctl watch`.
pub fn watch(args: &Watch) -> Outcome {
    check_name(&args.name)?;
    let triggers = triggers(&args.psi)?;
    let until = args.until.as_deref().map(Until::parse).transpose()?;
    let mut course = Course::new(args.timeout.as_deref(), args.count)?;
    let cgroup = Cgroup::open(&args.name, &layout_for(&args.name)?)?;
    let mut victims = Victims::from_now();
    let asked = triggers.clone();
    let mut watch = cgroup.watch(triggers)?;
    tell_of_longer(&asked, &watch);
    print_error_line(&format!("{}: watching {}", crate::TOOL, drydock_core::text::escape(&args.name)));
    if until.is_some_and(|u| u.holds(&cgroup)) {
        return Ok(0);
    }
    loop {
        for event in watch.wait(course.end)? {
            tell(&args.name, &cgroup, &event, &mut victims, args.json)?;
            course.saw_one();
            if event == Event::Removed || until.is_some_and(|u| u.is(&event)) || course.left == 0 {
                return Ok(0);
            }
        }
        if course.is_over() {
            return Ok(if until.is_some() { 1 } else { course.code() });
        }
    }
}

/// The event that `--until` waits for.
#[derive(Clone, Copy)]
enum Until {
    Counter(&'static str),
    Populated(bool),
    Frozen(bool),
    Pressure,
}

impl Until {
    fn parse(text: &str) -> Result<Self> {
        const COUNTERS: [&str; 9] = [
            "low",
            "high",
            "max",
            "oom",
            "oom_kill",
            "oom_group_kill",
            "sock_throttled",
            // v1's memory.pressure_level.
            "medium",
            "critical",
        ];
        if let Some(counter) = COUNTERS.iter().find(|c| **c == text) {
            return Ok(Self::Counter(counter));
        }
        match text {
            "empty" => Ok(Self::Populated(false)),
            "populated" => Ok(Self::Populated(true)),
            "frozen" => Ok(Self::Frozen(true)),
            "thawed" => Ok(Self::Frozen(false)),
            "pressure" => Ok(Self::Pressure),
            _ => {
                let shown = drydock_core::text::escape(text);
                let shown = drydock_core::text::shorten(&shown, 40);
                let allowed = "oom_kill, oom, max, high, low, medium, critical, empty, populated, frozen, thawed, pressure";
                Err(Error::bad_input("--until", format!("'{shown}' is not an event (allowed: {allowed})")))
            }
        }
    }

    /// States may hold already.
    fn holds(self, cgroup: &Cgroup) -> bool {
        match self {
            Self::Populated(wanted) => cgroup.populated() == wanted,
            Self::Frozen(wanted) => cgroup.is_frozen() == Some(wanted),
            _ => false,
        }
    }

    fn is(self, event: &Event) -> bool {
        match (self, event) {
            // v1 has only one counter for both.
            (Self::Counter(wanted), Event::Counter { key, file, .. }) => {
                key == wanted || (wanted == "oom_kill" && file == "memory.oom_control")
            }
            (Self::Populated(wanted), Event::Populated { populated }) => *populated == wanted,
            (Self::Frozen(wanted), Event::Frozen { frozen }) => *frozen == wanted,
            (Self::Pressure, Event::Pressure { .. }) => true,
            _ => false,
        }
    }
}

fn tell(name: &str, cgroup: &Cgroup, event: &Event, victims: &mut Victims, json: bool) -> Result<()> {
    let is_kill = matches!(event, Event::Counter { key, .. } if key.starts_with("oom"));
    let killed = if is_kill { victims.take(name) } else { Vec::new() };
    let pressure = match event {
        Event::Pressure { trigger } => {
            cgroup.pressure().remove(&trigger.resource).and_then(|p| line_of(p, trigger))
        }
        _ => None,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if json {
        return json_line(&Line { time: now.as_secs_f64(), name, event, victims: killed, pressure });
    }
    let text = match event {
        Event::Counter { file, key, by, .. } if file == "memory.pressure_level" => {
            format!("{file} {key}{}", if *by > 1 { format!(" ({by} times)") } else { String::new() })
        }
        Event::Counter { file, key, by, now } => format!("{file} {key} +{by} (now {now})"),
        Event::Populated { populated: true } => "populated".to_string(),
        Event::Populated { populated: false } => "empty: the last process has gone".to_string(),
        Event::Frozen { frozen } => if *frozen { "frozen" } else { "thawed" }.to_string(),
        Event::Pressure { trigger } => format!("pressure {trigger}"),
        Event::Removed => "removed".to_string(),
    };
    let who: Vec<String> = killed.iter().map(|v| format!("{} ({})", v.pid, v.name)).collect();
    let who = if who.is_empty() { String::new() } else { format!(": killed {}", who.join(", ")) };
    let averages = pressure.map_or(String::new(), |l| format!(": {:.2} % of the last 10 s", l.avg10));
    print_line(&format!("{} {name}: {text}{who}{averages}", clock(now.as_secs())))
}

fn line_of(pressure: Pressure, trigger: &Trigger) -> Option<PressureLine> {
    if trigger.full { pressure.full } else { pressure.some }
}

/// The time of day in UTC.
fn clock(seconds: u64) -> String {
    let day = seconds % 86_400;
    format!("{:02}:{:02}:{:02}Z", day / 3600, day / 60 % 60, day % 60)
}

fn triggers(texts: &[String]) -> Result<Vec<Trigger>> {
    let parsed = texts.iter().map(|t| Trigger::parse(t)).collect::<Result<Vec<_>>>()?;
    Ok(parsed.into_iter().flatten().collect())
}

/// What the kernel does not give to everybody.
fn tell_of_longer(asked: &[Trigger], watch: &drydock_cgroups::Watch) {
    for (asked, given) in asked.iter().zip(watch.triggers()).filter(|(a, g)| a != g) {
        crate::say::note(&format!("without CAP_SYS_RESOURCE {asked} is watched as {given}"));
    }
}

/// `cgroupctl psi`.
pub fn psi(args: &Psi) -> Outcome {
    check_name(&args.name)?;
    let triggers = triggers(&args.watch)?;
    let mut course = Course::new(args.timeout.as_deref(), args.count)?;
    let cgroup = Cgroup::open(&args.name, &layout_for(&args.name)?)?;
    if triggers.is_empty() {
        return print_pressure(&cgroup.pressure(), args.json);
    }
    let asked = triggers.clone();
    let mut watch = cgroup.watch(triggers)?;
    tell_of_longer(&asked, &watch);
    let mut victims = Victims::from_now();
    print_error_line(&format!("{}: watching {}", crate::TOOL, drydock_core::text::escape(&args.name)));
    loop {
        for event in watch.wait(course.end)? {
            let fired = matches!(event, Event::Pressure { .. });
            if fired || event == Event::Removed {
                tell(&args.name, &cgroup, &event, &mut victims, args.json)?;
            }
            if fired {
                course.saw_one();
            }
            if event == Event::Removed || course.left == 0 {
                return Ok(course.code());
            }
        }
        if course.is_over() {
            return Ok(course.code());
        }
    }
}

fn print_pressure(pressure: &BTreeMap<String, Pressure>, json: bool) -> Outcome {
    if json {
        print_json(pressure)?;
        return Ok(0);
    }
    if pressure.is_empty() {
        print_line("not enabled: pressure needs cgroup v2 and a kernel with CONFIG_PSI (psi=1 at boot)")?;
        return Ok(0);
    }
    let mut rows = Vec::new();
    for (resource, both) in pressure {
        let lines = [("some", &both.some), ("full", &both.full)];
        rows.extend(
            lines.into_iter().filter_map(|(kind, line)| line.as_ref().map(|l| psi_row(resource, kind, l))),
        );
    }
    print_text(&table(&["RESOURCE", "KIND", "AVG10", "AVG60", "AVG300", "TOTAL US"], &rows))?;
    Ok(0)
}

fn psi_row(resource: &str, kind: &str, line: &PressureLine) -> Vec<String> {
    let percent = |v: f64| format!("{v:.2}");
    vec![
        resource.to_string(),
        kind.to_string(),
        percent(line.avg10),
        percent(line.avg60),
        percent(line.avg300),
        line.total.to_string(),
    ]
}
