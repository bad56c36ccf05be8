//! A plan as command lines for the six tools: run by hand, top to bottom, they give the same container.

use crate::options::Options;
use crate::plan::Plan;
use crate::request::{Network, Request};
use crate::rootfs::Source;
use drydock_core::text::shell_quote;
use drydock_core::{Error, Result};
use drydock_namespaces::Kind;
use drydock_namespaces::join;
use std::path::Path;

/// The lines, with comments between, ready for a shell.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for what the stage tools cannot do from a command line.
pub fn lines(plan: &Plan, options: &Options, state_root: &Path) -> Result<String> {
    let request = &plan.outside.request;
    if request.namespaces.new.contains(Kind::User) {
        return Err(Error::bad_input("--userns", "cannot be written as command lines (allowed: --format json)"));
    }
    let mut script = Script { text: String::new(), owner: owner(request, state_root) };
    let root = script.rootfs(request);
    script.files(request, options);
    script.cgroup(plan, options);
    let netns = script.network(request, options);
    script.process(request, options, &root, netns.as_deref());
    Ok(script.text)
}

struct Script {
    text: String,
    owner: Vec<String>,
}

/// `--owner ID`, and the state root where it is not the default one.
fn owner(request: &Request, state_root: &Path) -> Vec<String> {
    let mut words = vec!["--owner".to_string(), request.id.to_string()];
    if drydock_core::paths::state_root(None).ok().as_deref() != Some(state_root) {
        words.extend(["--root".to_string(), state_root.display().to_string()]);
    }
    words
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn option(words: &mut Vec<String>, name: &str, value: Option<impl ToString>) {
    if let Some(value) = value {
        words.extend([name.to_string(), value.to_string()]);
    }
}

impl Script {
    fn comment(&mut self, text: &str) {
        self.text.push_str(&format!("# {text}\n"));
    }

    fn line(&mut self, words: &[String]) {
        let quoted: Vec<String> = words.iter().map(|word| shell_quote(word)).collect();
        self.text.push_str(&quoted.join(" "));
        self.text.push('\n');
    }

    /// The root file system; the directory that `init` takes.
    fn rootfs(&mut self, request: &Request) -> String {
        match &request.rootfs {
            Source::Directory(path) => path.display().to_string(),
            Source::Layered { lower, default, layers, target } => {
                let lower = if *default && !lower.is_dir() {
                    self.comment("the default root file system, made of the host's own programs");
                    self.line(&words(&["rootfs", "default"]));
                    "default".to_string()
                } else {
                    lower.display().to_string()
                };
                self.comment("a writable layer over it");
                let mut line = words(&["rootfs", "mount", "--make", "--volatile", "--lower", &lower]);
                option(&mut line, "--upper", Some(layers.join("upper").display()));
                option(&mut line, "--work", Some(layers.join("work").display()));
                line.extend(self.owner.clone());
                line.push(target.display().to_string());
                self.line(&line);
                target.display().to_string()
            }
        }
    }

    fn files(&mut self, request: &Request, options: &Options) {
        if request.files.injected(&request.rootfs).is_empty() {
            return;
        }
        self.comment("its /etc/hosts, /etc/hostname and /etc/resolv.conf");
        let mut line = words(&["netsetup", "etc"]);
        option(&mut line, "--hostname", request.files.hostname.as_ref());
        for address in &options.dns {
            option(&mut line, "--dns", Some(address));
        }
        for host in &options.add_host {
            option(&mut line, "--add-host", Some(host));
        }
        if request.files.host_network {
            line.push("--host-network".into());
        }
        line.extend(self.owner.clone());
        line.push(request.files.dir.display().to_string());
        self.line(&line);
    }

    fn cgroup(&mut self, plan: &Plan, options: &Options) {
        let Some(cgroup) = &plan.outside.cgroup else { return };
        self.comment("its cgroup, with its limits");
        let mut line = words(&["cgroupctl", "create", cgroup.name(), "--lenient"]);
        option(&mut line, "--cpu", options.cpus.as_ref());
        option(&mut line, "--cpu-weight", options.cpu_weight);
        option(&mut line, "--memory", options.memory.as_ref());
        option(&mut line, "--swap", options.swap.as_ref());
        option(&mut line, "--pids", cgroup.request().limits.pids_max);
        line.extend(self.owner.clone());
        self.line(&line);
    }

    /// The network; the namespace file to join, if there is one.
    fn network(&mut self, request: &Request, options: &Options) -> Option<String> {
        match &request.network {
            Network::Namespace(path) => Some(path.display().to_string()),
            Network::Bridge(attachment) => {
                let name = request.id.to_string();
                self.comment("its network: a namespace, a veth pair to the bridge, address, route, NAT");
                let mut add = words(&["netsetup", "ns", "add", &name]);
                add.extend(self.owner.clone());
                self.line(&add);
                let mut line = words(&["netsetup", "attach", &name, "--bridge", &attachment.bridge]);
                option(&mut line, "--network", Some(&attachment.network));
                option(&mut line, "--subnet", attachment.subnet);
                option(&mut line, "--addr", attachment.address);
                if attachment.internal {
                    line.push("--no-route".into());
                } else {
                    line.push("--nat".into());
                }
                for spec in &options.publish {
                    option(&mut line, "--publish", Some(spec));
                }
                line.extend(self.owner.clone());
                self.line(&line);
                Some(format!("/run/netns/{name}"))
            }
            Network::None | Network::Host => None,
        }
    }

    fn process(&mut self, request: &Request, options: &Options, root: &str, netns: Option<&str>) {
        self.comment("its first process: born in the cgroup, joined to the network, PID 1 of new namespaces");
        let mut line = match &request.cgroup {
            Some(cgroup) => words(&["cgroupctl", "run", &cgroup.name, "--"]),
            None => Vec::new(),
        };
        let mut joins: Vec<String> = netns.iter().map(|path| format!("--net={path}")).collect();
        for (kind, source) in &request.namespaces.join {
            if let (join::Source::Path(path), false) = (source, *kind == Kind::Network) {
                joins.push(format!("--{kind}={}", path.display()));
            }
        }
        if !joins.is_empty() {
            line.push("joinns".into());
            line.extend(joins);
            line.push("--".into());
        }
        let mut new = request.namespaces.new;
        if netns.is_some() {
            new = new.without(Kind::Network);
        }
        line.extend(words(&["init", "--unshare", &new.to_string(), "--root", root, "--id", request.id.as_str()]));
        line.extend(inside(request, options));
        if !request.inside.reaper {
            line.push("--exec".into());
        }
        line.push("--".into());
        line.extend(request.inside.args.iter().cloned());
        self.line(&line);
        self.comment("afterwards, all of it goes with:");
        self.comment(&format!("container delete --force {}", request.id));
    }
}

/// The options of the inside, as they were given.
fn inside(request: &Request, options: &Options) -> Vec<String> {
    let given = &options.inside;
    let mut line = Vec::new();
    option(&mut line, "--hostname", request.inside.hostname.as_ref());
    option(&mut line, "--workdir", given.workdir.as_ref());
    option(&mut line, "--user", given.user.as_ref());
    option(&mut line, "--shm-size", given.shm_size.as_ref());
    let many: [(&str, &[String]); 8] = [
        ("--env", &given.env),
        ("--volume", &given.volume),
        ("--tmpfs", &given.tmpfs),
        ("--cap-add", &given.cap_add),
        ("--cap-drop", &given.cap_drop),
        ("--security-opt", &given.security_opt),
        ("--ulimit", &given.ulimit),
        ("--sysctl", &given.sysctl),
    ];
    for (name, values) in many {
        for value in values {
            option(&mut line, name, Some(value));
        }
    }
    for file in &given.env_file {
        option(&mut line, "--env-file", Some(file.display()));
    }
    for (destination, source) in request.files.injected(&request.rootfs) {
        option(&mut line, "--file", Some(format!("{}:{destination}", source.display())));
    }
    if given.read_only {
        line.push("--read-only".into());
    }
    if given.tty {
        line.push("--tty".into());
    }
    line
}
