//! A plan as command lines for the six tools: run by hand, top to bottom, they give the same container.

mod inside;

use crate::options::Options;
use crate::plan::Plan;
use crate::request::{Network, Request};
use crate::rootfs::Source;
use drydock_core::text::{escape, shell_quote, shorten};
use drydock_core::{Error, Result};
use drydock_namespaces::Kind;
use drydock_namespaces::join;
use std::path::Path;

/// Where a plan comes from.
#[derive(Clone, Copy)]
pub enum Origin<'a> {
    /// Options, which the tools have too.
    Options(&'a Options),
    /// An OCI bundle: the tools take its requests as they are.
    Bundle,
}

/// The lines, with comments between, ready for a POSIX shell.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for what the stage tools cannot do from a command line.
pub fn lines(plan: &Plan, origin: Origin<'_>, state_root: &Path) -> Result<String> {
    let request = &plan.outside.request;
    refuse(request)?;
    let mut script = Script { text: String::new(), owner: owner(request, state_root) };
    script.notes(request, origin);
    let root = script.rootfs(request)?;
    script.cgroup(plan, origin)?;
    let netns = script.network(request, origin)?;
    script.files(request, origin)?;
    script.process(request, origin, root, netns.as_deref(), state_root)?;
    Ok(script.text)
}

/// What no order of single commands gives.
fn refuse(request: &Request) -> Result<()> {
    let joins_user = request.namespaces.join.iter().any(|(kind, _)| *kind == Kind::User);
    if joins_user {
        let why = "a user namespace that is joined leaves no rights to the commands that follow (allowed: --format json)";
        return Err(Error::bad_input("config.json: /linux/namespaces", why));
    }
    if let Some(bundled) = &request.bundled {
        refuse_bundled(request, bundled)?;
    }
    let bridged = matches!(request.network, Network::Bridge(_));
    if bridged && request.namespaces.new.contains(Kind::User) {
        let why = "with --net bridge cannot be written as command lines: the network namespace belongs to the user \
                   namespace, which is not there before the first process (allowed: --net none or host; --format json)";
        return Err(Error::bad_input("--userns", why));
    }
    Ok(())
}

/// What of a bundle only a runtime does.
fn refuse_bundled(request: &Request, bundled: &crate::oci::Bundled) -> Result<()> {
    let asked = [
        ("/hooks", bundled.hooks != drydock_bundle::Hooks::default()),
        ("/linux/netDevices", !bundled.net_devices.is_empty()),
        ("/linux/timeOffsets", request.namespaces.offsets != drydock_namespaces::time::Offsets::default()),
        ("/linux/namespaces", !request.namespaces.new.contains(Kind::Mount)),
    ];
    match asked.iter().find(|(_, given)| *given) {
        Some((pointer, _)) => Err(Error::bad_input(
            format!("config.json: {pointer}"),
            "cannot be written as command lines of the stage tools (allowed: --format json)",
        )),
        None => Ok(()),
    }
}

struct Script {
    text: String,
    owner: Vec<String>,
}

/// An overlay that the first process makes in its own mount namespace.
fn over(lower: &Path, target: &Path, size: u64) -> Vec<String> {
    let (lower, target) = (lower.display().to_string(), target.display().to_string());
    words(&["--root", &target, "--lower", &lower, "--scratch", &size.to_string()])
}

/// The maps of a new user namespace.
fn maps(request: &Request) -> Vec<String> {
    let namespaces = &request.namespaces;
    let mut line = Vec::new();
    for (name, maps) in [("--map-users", &namespaces.uid_map), ("--map-groups", &namespaces.gid_map)] {
        maps.iter().for_each(|map| option(&mut line, name, Some(map)));
    }
    line
}

/// `--owner ID`, and the state root unless it is the default one wherever the lines are run.
fn owner(request: &Request, state_root: &Path) -> Vec<String> {
    let mut words = vec!["--owner".to_string(), request.id.to_string()];
    if needs_root(state_root) {
        words.extend(["--root".to_string(), state_root.display().to_string()]);
    }
    words
}

fn needs_root(state_root: &Path) -> bool {
    let default = drydock_core::paths::state_root(None).ok();
    std::env::var_os("DRYDOCK_ROOT").is_some() || default.as_deref() != Some(state_root)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn option(words: &mut Vec<String>, name: &str, value: Option<impl ToString>) {
    let Some(value) = value else { return };
    let value = value.to_string();
    // What begins with a dash would be taken for an option.
    if value.starts_with('-') {
        words.push(format!("{name}={value}"));
    } else {
        words.extend([name.to_string(), value]);
    }
}

impl Script {
    fn comment(&mut self, text: &str) {
        self.text.push_str(&format!("# {text}\n"));
    }

    fn line(&mut self, words: &[String]) -> Result<()> {
        let control = |c: char| c.is_control() && c != '\n' && c != '\t';
        if let Some(word) = words.iter().find(|word| word.contains(control)) {
            let shown = shorten(&escape(word), 60);
            return Err(Error::bad_input(
                format!("'{shown}'"),
                "has a control character, which a command line cannot show (allowed: --format json)",
            ));
        }
        let quoted: Vec<String> = words.iter().map(|word| shell_quote(word)).collect();
        self.text.push_str(&quoted.join(" "));
        self.text.push('\n');
        Ok(())
    }

    /// What only the record of `container` has.
    fn notes(&mut self, request: &Request, origin: Origin<'_>) {
        let Origin::Options(options) = origin else {
            let bundled = request.bundled.as_ref();
            if bundled.is_some_and(|bundled| !bundled.annotations.is_empty()) {
                self.comment("/annotations: recorded by container only; the container is the same");
            }
            if bundled.is_some_and(|bundled| bundled.console_size.is_some()) {
                self.comment("/process/consoleSize: the terminal has the size of yours");
            }
            return;
        };
        let mut notes: Vec<String> = request
            .labels
            .iter()
            .map(|(key, value)| format!("--label {}", escape(&format!("{key}={value}"))))
            .collect();
        notes.extend(options.stop_signal.as_ref().map(|signal| format!("--stop-signal {}", escape(signal))));
        notes.extend(options.stop_timeout.map(|seconds| format!("--stop-timeout {seconds}")));
        for note in notes {
            self.comment(&format!("{note}: recorded by container only; the container is the same"));
        }
    }

    /// Makes the last line a background job; what it says goes where `container logs` has it.
    fn in_background(&mut self, log: &Path) {
        let log = shell_quote(&log.display().to_string());
        self.text.truncate(self.text.trim_end().len());
        self.text.push_str(&format!(" </dev/null >{log} 2>&1 &\n"));
    }

    /// The root file system; the options by which `init` takes it.
    fn rootfs(&mut self, request: &Request) -> Result<Vec<String>> {
        if let Some(mapped) = &request.mapped {
            return self.mapped_rootfs(request, mapped);
        }
        let root = |path: &Path| vec!["--root".to_string(), path.display().to_string()];
        match &request.rootfs {
            Source::Directory(path) => Ok(root(path)),
            Source::Layered { lower, target, size, default, .. }
                if request.namespaces.new.contains(Kind::User) =>
            {
                if *default {
                    self.default_rootfs()?;
                }
                Ok(over(lower, target, *size))
            }
            Source::Layered { lower, default, layers, target, size } => {
                let mut lower = escape_layer(&lower.display().to_string());
                if *default {
                    self.default_rootfs()?;
                    lower = "default".into();
                }
                self.comment("a writable layer over it, in memory");
                let mut line =
                    words(&["rootfs", "mount", "--make", "--scratch", &size.to_string(), "--lower", &lower]);
                option(&mut line, "--upper", Some(layers.join("upper").display()));
                option(&mut line, "--work", Some(layers.join("work").display()));
                line.extend(self.owner.clone());
                line.push(target.display().to_string());
                self.line(&line)?;
                Ok(root(target))
            }
        }
    }

    fn default_rootfs(&mut self) -> Result<()> {
        self.comment("the default root file system, made of the host's own programs");
        self.line(&words(&["rootfs", "default"]))
    }

    /// The files of the root belong to the ids of the user namespace; the writable layer is made inside.
    fn mapped_rootfs(&mut self, request: &Request, mapped: &Path) -> Result<Vec<String>> {
        let mut source = request.rootfs.path().display().to_string();
        if let Source::Layered { default: true, .. } = &request.rootfs {
            self.default_rootfs()?;
            source = "default".into();
        }
        self.comment("the same files as the ids of its user namespace");
        let mut line = words(&["rootfs", "mount", "--make", "--bind", &source]);
        line.extend(maps(request));
        line.extend(self.owner.clone());
        line.push(mapped.display().to_string());
        self.line(&line)?;
        Ok(match &request.rootfs {
            Source::Directory(_) => vec!["--root".to_string(), mapped.display().to_string()],
            Source::Layered { target, size, .. } => over(mapped, target, *size),
        })
    }

    fn cgroup(&mut self, plan: &Plan, origin: Origin<'_>) -> Result<()> {
        let Some(cgroup) = &plan.outside.cgroup else { return Ok(()) };
        self.comment("its cgroup, with its limits");
        let mut line = words(&["cgroupctl", "create", cgroup.name()]);
        match origin {
            Origin::Bundle => option(&mut line, "--request", Some(inside::json(cgroup.request())?)),
            Origin::Options(options) => {
                line.extend(words(&["--lenient", "--lean"]));
                option(&mut line, "--cpu", options.cpus.as_ref());
                option(&mut line, "--cpu-weight", options.cpu_weight);
                option(&mut line, "--cpuset-cpus", options.cpuset_cpus.as_ref());
                option(&mut line, "--cpuset-mems", options.cpuset_mems.as_ref());
                option(&mut line, "--memory", options.memory.as_ref());
                option(&mut line, "--swap", options.swap.as_ref());
                option(&mut line, "--pids", cgroup.request().limits.pids_max);
            }
        }
        line.extend(self.owner.clone());
        self.line(&line)
    }

    /// The network; the namespace file to join, if there is one.
    fn network(&mut self, request: &Request, origin: Origin<'_>) -> Result<Option<String>> {
        let attachment = match &request.network {
            Network::Namespace(path) => return Ok(Some(path.display().to_string())),
            Network::None | Network::Host => return Ok(None),
            Network::Foreign(foreign) => {
                return Err(Error::bad_input(
                    "--net",
                    format!("'{}' cannot be said in lines", foreign.mode()),
                ));
            }
            Network::Bridge(attachment) => attachment,
        };
        let name = request.id.to_string();
        self.comment("its network: a namespace, a veth pair to the bridge, address, route, NAT");
        let mut add = words(&["netsetup", "ns", "add", &name]);
        add.extend(self.owner.clone());
        self.line(&add)?;
        let mut line = words(&["netsetup", "attach", &name, "--bridge", &attachment.bridge]);
        option(&mut line, "--network", Some(&attachment.network));
        option(&mut line, "--subnet", attachment.subnet);
        option(&mut line, "--addr", attachment.address);
        line.push(if attachment.internal { "--internal" } else { "--nat" }.into());
        if attachment.metadata {
            line.push("--allow-metadata".into());
        }
        if let Origin::Options(options) = origin {
            options.publish.iter().for_each(|spec| option(&mut line, "--publish", Some(spec)));
        }
        line.extend(self.owner.clone());
        self.line(&line)?;
        Ok(Some(format!("{}/{name}", drydock_network::netns::DIR)))
    }

    /// After the network: the container's own address is among them.
    fn files(&mut self, request: &Request, origin: Origin<'_>) -> Result<()> {
        let Origin::Options(options) = origin else { return Ok(()) };
        if crate::files::injected(&request.files, &request.rootfs).is_empty() {
            return Ok(());
        }
        self.comment("its /etc/hosts, /etc/hostname and /etc/resolv.conf");
        let mut line = words(&["netsetup", "etc"]);
        option(&mut line, "--hostname", request.files.hostname.as_ref());
        if let Network::Bridge(_) = &request.network {
            option(&mut line, "--address-of", Some(&request.id));
        }
        for address in &options.dns {
            option(&mut line, "--dns", Some(address));
        }
        for host in &options.add_host {
            option(&mut line, "--add-host", Some(host));
        }
        if request.files.host_network {
            line.push("--host-network".into());
        }
        line.push(request.files.dir.display().to_string());
        self.line(&line)
    }

    fn process(
        &mut self,
        request: &Request,
        origin: Origin<'_>,
        root: Vec<String>,
        netns: Option<&str>,
        state_root: &Path,
    ) -> Result<()> {
        self.comment("its first process: joined to the network, born in the cgroup, PID 1 of new namespaces");
        let mut joins: Vec<String> = netns.iter().map(|path| format!("--net={path}")).collect();
        for (kind, source) in &request.namespaces.join {
            if let (join::Source::Path(path), false) = (source, *kind == Kind::Network) {
                joins.push(format!("--{kind}={}", path.display()));
            }
        }
        let mut line = Vec::new();
        if !joins.is_empty() {
            line.push("joinns".into());
            // What holds a joined namespace's process is not this container's: init sets its own limits.
            if joins.iter().any(|join| !join.starts_with("--net=")) {
                line.push("--privileged".into());
            }
            // A joined pid namespace is for the child that init makes, not for init itself.
            if request.namespaces.join.iter().any(|(kind, _)| matches!(kind, Kind::Pid | Kind::Time)) {
                line.push("--no-fork".into());
            }
            line.extend(joins);
            line.push("--".into());
        }
        let mut new = request.namespaces.new;
        if netns.is_some() {
            new = new.without(Kind::Network);
        }
        line.push("init".into());
        if !new.is_empty() {
            line.extend(words(&["--unshare", &new.to_string()]));
        }
        if new.contains(Kind::User) {
            line.extend(maps(request));
        }
        option(&mut line, "--cgroup", request.cgroup.as_ref().map(|cgroup| &cgroup.name));
        match origin {
            Origin::Options(options) => {
                line.extend(root);
                line.extend(words(&["--id", request.id.as_str()]));
                line.extend(inside::of_options(request, options)?);
            }
            Origin::Bundle => line.extend(inside::of_bundle(request)?),
        }
        if !request.interactive {
            line.push("--no-stdin".into());
        }
        if !request.inside.reaper {
            line.push("--exec".into());
        }
        line.push("--".into());
        line.extend(request.inside.args.iter().cloned());
        self.line(&line)?;
        if request.detach {
            self.in_background(&state_root.join(&request.id).join(crate::attach::LOG));
        }
        let owner = self.owner.get(2..).unwrap_or_default().iter().map(|word| shell_quote(word));
        let delete: Vec<String> = ["container".to_string()].into_iter().chain(owner).collect();
        self.comment(&format!(
            "afterwards, all of it goes with: {} delete --force {}",
            delete.join(" "),
            request.id
        ));
        Ok(())
    }
}

/// `rootfs mount --lower` separates layers by colons.
fn escape_layer(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:")
}
