//! `container demo`: one container through every stage, then the proof that nothing is left.

use crate::commands::run::{foreground, plan};
use crate::leftovers::Leftovers;
use crate::options::Options;
use crate::watch::{self, Show, Watch};
use drydock_bundle::{State, Store};
use drydock_cli::Outcome;
use drydock_core::{Error, Result};
use drydock_init::options::Options as Inside;

/// Arguments of `container demo`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Print each step with its system call, too
    #[arg(long)]
    pub explain: bool,
    /// Do without a bridge, NAT and addresses
    #[arg(long)]
    pub no_network: bool,
}

/// What the container shows of itself. Each section stands alone: a tool that the host lacks is not in the root.
const SCRIPT: &str = r#"
show() { printf '\n--- %s\n' "$1"; }
limit() { for f in "$@"; do [ -r "/sys/fs/cgroup/$f" ] && printf '%-32s %s\n' "$f" "$(cat "/sys/fs/cgroup/$f")"; done; }
show 'PID 1 is this shell';              echo "PID $$"
show 'its own host name';                hostname 2>/dev/null || cat /proc/sys/kernel/hostname
show 'every process that it can see';    ps -e -o pid,ppid,user,stat,comm 2>/dev/null || ls -d /proc/[0-9]*
show 'its root file system';             ls /
show 'its addresses and routes';         { ip -brief address && ip route; } 2>/dev/null || cat /proc/net/dev
show 'its limits, as the kernel has them'
limit cpu.max memory.max memory.swap.max pids.max
limit cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes pids/pids.max
show 'its privileges';                   grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
show 'who it is';                        id
"#;

/// Runs the demo.
///
/// # Errors
/// What failed, with everything taken away again.
pub fn run(args: &Args, store: &Store) -> Outcome {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::failed("demo", "shows every stage, and cgroups and the network need root")
            .hint("as root: make demo; without root: container run -- sh")
            .into());
    }
    say("Drydock: one container, every stage. Nothing is downloaded, no daemon runs.\n");
    let before = Leftovers::look(store);
    let (state, watch) = with_network_if_possible(args, store)?;
    for lack in &state.lacking {
        drydock_cli::output::warn("container", lack);
    }
    say("\nWhere the time went (setting up, running and taking away):\n");
    say(&watch::table(&watch.stages(), watch.elapsed()));
    let left = Leftovers::look(store).since(&before);
    say("\nWhat is left of it:\n");
    say(&left.table());
    if !left.is_empty() {
        return Err(Error::failed("demo", "something was left behind (the table above)")
            .hint("container gc")
            .into());
    }
    say(
        "\nNext: container run -- sh      container run --explain -- ls      container plan -- ls      container doctor\n",
    );
    Ok(state.ended.map_or(0, drydock_core::exit::Ended::code))
}

/// A machine without nf_tables, veth or bridges still shows the rest, and says what it lacks.
fn with_network_if_possible(args: &Args, store: &Store) -> Result<(State, Watch)> {
    if args.no_network {
        return once(args, store, "none");
    }
    match once(args, store, "bridge") {
        Err(error) if error.stage() == Some(drydock_network::STAGE) => {
            drydock_cli::output::warn(
                "container",
                &format!("this machine has no container network: {error}"),
            );
            say("\nOnce more, without a network:\n");
            once(args, store, "none")
        }
        other => other,
    }
}

fn once(args: &Args, store: &Store, network: &str) -> Result<(State, Watch)> {
    let options = Options {
        name: Some(format!("demo-{}", std::process::id())),
        rm: true,
        cpus: Some("0.5".into()),
        memory: Some("100M".into()),
        swap: Some("50M".into()),
        pids: Some("100".into()),
        net: Some(network.into()),
        inside: Inside { hostname: Some("drydock-demo".into()), ..Inside::default() },
        ..Options::default()
    };
    let watch = Watch::new(Show { steps: args.explain, stages: true, timings: true, ..Show::default() });
    watch.announce("rootfs", "the host's own programs with their libraries (built once, shared read-only)");
    let command: Vec<String> = ["/bin/sh", "-c", SCRIPT].iter().map(ToString::to_string).collect();
    let plan = plan(&options, &command, store, &watch)?;
    for lack in plan.outside.cgroup.iter().flat_map(|c| c.lacking()) {
        drydock_cli::output::warn("container", lack);
    }
    foreground(plan, store, watch)
}

fn say(text: &str) {
    drydock_cli::output::print_error_text(text);
}
