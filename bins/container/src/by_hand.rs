//! A plan as command lines for the six tools: run by hand, top to bottom, they give the same container.

use crate::options::Options;
use crate::plan::Plan;
use crate::request::{Network, Request};
use crate::rootfs::Source;
use drydock_core::error::CallExt;
use drydock_core::text::{escape, shell_quote, shorten};
use drydock_core::{Error, Result};
use drydock_namespaces::Kind;
use drydock_namespaces::join;
use std::path::Path;

/// The lines, with comments between, ready for a POSIX shell.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for what the stage tools cannot do from a command line.
pub fn lines(plan: &Plan, options: &Options, state_root: &Path) -> Result<String> {
    let request = &plan.outside.request;
    refuse(request, options)?;
    let mut script = Script { text: String::new(), owner: owner(request, state_root) };
    let root = script.rootfs(request)?;
    script.cgroup(plan, options)?;
    let netns = script.network(request, options)?;
    script.files(request, options)?;
    script.process(request, options, &root, netns.as_deref())?;
    Ok(script.text)
}

/// What belongs to the process that stays with a container, or needs one on both sides of the clone.
fn refuse(request: &Request, options: &Options) -> Result<()> {
    let asked = [
        ("--userns", request.namespaces.new.contains(Kind::User)),
        ("--tty", options.inside.tty),
        ("--detach", options.detach),
        ("--label", !options.label.is_empty()),
        ("--stop-signal", options.stop_signal.is_some()),
        ("--stop-timeout", options.stop_timeout.is_some()),
    ];
    match asked.iter().find(|(_, given)| *given) {
        Some((option, _)) => {
            let why = "cannot be written as command lines of the stage tools (allowed: --format json)";
            Err(Error::bad_input(*option, why)
                .hint(format!("leave {option} out, or let container run do it")))
        }
        None => Ok(()),
    }
}

struct Script {
    text: String,
    owner: Vec<String>,
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

/// The lines may be run in another directory.
fn absolute(path: &Path) -> Result<String> {
    Ok(std::path::absolute(path).call(|| "getcwd()")?.display().to_string())
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

    /// The root file system; the directory that `init` takes.
    fn rootfs(&mut self, request: &Request) -> Result<String> {
        match &request.rootfs {
            Source::Directory(path) => Ok(path.display().to_string()),
            Source::Layered { lower, default, layers, target, size } => {
                let mut lower = escape_layer(&lower.display().to_string());
                if *default {
                    self.comment("the default root file system, made of the host's own programs");
                    self.line(&words(&["rootfs", "default"]))?;
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
                Ok(target.display().to_string())
            }
        }
    }

    fn cgroup(&mut self, plan: &Plan, options: &Options) -> Result<()> {
        let Some(cgroup) = &plan.outside.cgroup else { return Ok(()) };
        self.comment("its cgroup, with its limits");
        let mut line = words(&["cgroupctl", "create", cgroup.name(), "--lenient", "--lean"]);
        option(&mut line, "--cpu", options.cpus.as_ref());
        option(&mut line, "--cpu-weight", options.cpu_weight);
        option(&mut line, "--memory", options.memory.as_ref());
        option(&mut line, "--swap", options.swap.as_ref());
        option(&mut line, "--pids", cgroup.request().limits.pids_max);
        line.extend(self.owner.clone());
        self.line(&line)
    }

    /// The network; the namespace file to join, if there is one.
    fn network(&mut self, request: &Request, options: &Options) -> Result<Option<String>> {
        let attachment = match &request.network {
            Network::Namespace(path) => return Ok(Some(path.display().to_string())),
            Network::None | Network::Host => return Ok(None),
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
        line.push(if attachment.internal { "--no-default-route" } else { "--nat" }.into());
        for spec in &options.publish {
            option(&mut line, "--publish", Some(spec));
        }
        line.extend(self.owner.clone());
        self.line(&line)?;
        Ok(Some(format!("{}/{name}", drydock_network::netns::DIR)))
    }

    /// After the network: the container's own address is among them.
    fn files(&mut self, request: &Request, options: &Options) -> Result<()> {
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
        options: &Options,
        root: &str,
        netns: Option<&str>,
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
        line.extend(words(&[
            "init",
            "--unshare",
            &new.to_string(),
            "--root",
            root,
            "--id",
            request.id.as_str(),
        ]));
        option(&mut line, "--cgroup", request.cgroup.as_ref().map(|cgroup| &cgroup.name));
        line.extend(inside(request, options)?);
        if !request.interactive {
            line.push("--no-stdin".into());
        }
        if !request.inside.reaper {
            line.push("--exec".into());
        }
        line.push("--".into());
        line.extend(request.inside.args.iter().cloned());
        self.line(&line)?;
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

/// The options of the inside, as they were given.
fn inside(request: &Request, options: &Options) -> Result<Vec<String>> {
    let given = &options.inside;
    let mut line = Vec::new();
    option(&mut line, "--hostname", request.inside.hostname.as_ref());
    option(&mut line, "--workdir", given.workdir.as_ref());
    option(&mut line, "--user", given.user.as_ref());
    option(&mut line, "--shm-size", given.shm_size.as_ref());
    for file in &given.env_file {
        option(&mut line, "--env-file", Some(absolute(file)?));
    }
    for volume in &given.volume {
        option(&mut line, "--volume", Some(absolute_volume(volume)?));
    }
    for word in &given.security_opt {
        option(&mut line, "--security-opt", Some(absolute_profile(word)?));
    }
    let many: [(&str, &[String]); 7] = [
        ("--env", &given.env),
        ("--tmpfs", &given.tmpfs),
        ("--file", &given.file),
        ("--cap-add", &given.cap_add),
        ("--cap-drop", &given.cap_drop),
        ("--ulimit", &given.ulimit),
        ("--sysctl", &given.sysctl),
    ];
    for (name, values) in many {
        for value in values {
            option(&mut line, name, Some(value));
        }
    }
    for (destination, source) in crate::files::injected(&request.files, &request.rootfs) {
        option(&mut line, "--file", Some(format!("{}:{destination}", source.display())));
    }
    if given.read_only {
        line.push("--read-only".into());
    }
    Ok(line)
}

/// A volume's source may be relative to the caller's directory (`./data`).
fn absolute_volume(volume: &str) -> Result<String> {
    match volume.split_once(':') {
        Some((source, rest)) if source.starts_with('.') => {
            Ok(format!("{}:{rest}", absolute(Path::new(source))?))
        }
        _ => Ok(volume.to_string()),
    }
}

/// `seccomp=FILE` names a file of the caller's.
fn absolute_profile(word: &str) -> Result<String> {
    match word.split_once(['=', ':']) {
        Some(("seccomp", file)) if !matches!(file, "default" | "unconfined") => {
            Ok(format!("seccomp={}", absolute(Path::new(file))?))
        }
        _ => Ok(word.to_string()),
    }
}
