//! One service of a Compose file: its fields as the options of `container run`.

use crate::compose::file::{self, File};
use crate::compose::tree::Node;
use crate::compose::{mounts, vars, words};
use crate::options::Options;
use crate::pull::Pull;
use drydock_core::{ContainerId, Error, Result, size, text};
use std::net::IpAddr;

/// When a dependency lets its dependents start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has been started.
    Started,
    /// It has ended with 0.
    Completed,
}

/// The network that a service is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its key in the file's `networks`.
    pub key: String,
    /// An address that was asked for.
    pub address: Option<IpAddr>,
    /// More names of the service there.
    pub aliases: Vec<String>,
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its container's name.
    pub id: ContainerId,
    /// As for `container run`.
    pub options: Options,
    /// Entry point and command.
    pub command: Vec<String>,
    /// What is started before it.
    pub depends_on: Vec<(String, Condition)>,
    /// Its networks; none with `network_mode`.
    pub networks: Vec<Joined>,
    /// `extra_hosts` that mean the host itself.
    pub gateway_names: Vec<String>,
    /// Its place in the file.
    pub at: String,
}

/// The fields of a service.
pub const FIELDS: [&str; 36] = [
    "cap_add",
    "cap_drop",
    "command",
    "container_name",
    "cpus",
    "depends_on",
    "dns",
    "entrypoint",
    "env_file",
    "environment",
    "extra_hosts",
    "hostname",
    "image",
    "init",
    "labels",
    "mem_limit",
    "memswap_limit",
    "network_mode",
    "networks",
    "pids_limit",
    "ports",
    "pull_policy",
    "read_only",
    "security_opt",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
    "x-rootfs",
    "x-*",
];

/// The options of `container run` and the fields that they come from.
const OPTIONS: [(&str, &str); 28] = [
    ("--image", "image"),
    ("image", "image"),
    ("--rootfs", "x-rootfs"),
    ("--cpus", "cpus"),
    ("cpus", "cpus"),
    ("--memory", "mem_limit"),
    ("--swap", "memswap_limit"),
    ("--pids", "pids_limit"),
    ("--net", "network_mode"),
    ("--publish", "ports"),
    ("publish", "ports"),
    ("--ip", "networks"),
    ("--dns", "dns"),
    ("--add-host", "extra_hosts"),
    ("--label", "labels"),
    ("signal", "stop_signal"),
    ("--hostname", "hostname"),
    ("--workdir", "working_dir"),
    ("--user", "user"),
    ("--env", "environment"),
    ("--volume", "volumes"),
    ("--tmpfs", "tmpfs"),
    ("--cap-add", "cap_add"),
    ("--cap-drop", "cap_drop"),
    ("--security-opt", "security_opt"),
    ("--ulimit", "ulimits"),
    ("--sysctl", "sysctls"),
    ("--init", "init"),
];

impl Service {
    /// Reads a service.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] naming the field that is unknown, or wrong.
    pub fn read(name: &str, node: &Node<'_>, project: &str, file: &File) -> Result<Self> {
        if !is_name(name) {
            return Err(node
                .bad("not a service name (allowed: 1 to 63 of A-Z a-z 0-9 . _ -, a letter or digit first)"));
        }
        let mut reader = Reader {
            file,
            service: Service {
                name: name.to_string(),
                id: ContainerId::parse(&format!("{project}-{name}-1")).map_err(|e| node.bad(e.sentence()))?,
                options: Options::default(),
                command: Vec::new(),
                depends_on: Vec::new(),
                networks: Vec::new(),
                gateway_names: Vec::new(),
                at: node.at.clone(),
            },
            entrypoint: None,
            command: Vec::new(),
            file_env: Vec::new(),
            env: Vec::new(),
            memory_and_swap: None,
            networks: Vec::new(),
        };
        for (key, value) in node.entries()? {
            reader.field(key, &value)?;
        }
        reader.finish(node)
    }

    /// The error of an option, said of the field that it comes from.
    pub fn explain(&self, error: &Error) -> Error {
        let sentence = error.sentence();
        let field = OPTIONS.iter().find(|(option, _)| {
            sentence.strip_prefix(option).is_some_and(|rest| rest.starts_with([':', ' ']))
        });
        let at = field.map_or_else(|| self.at.clone(), |(_, field)| format!("{}/{field}", self.at));
        let problem = match field {
            Some((option, _)) => {
                sentence.strip_prefix(option).unwrap_or(&sentence).trim_start_matches([':', ' '])
            }
            None => &sentence,
        };
        let explained = Error::bad_input(at, problem).with_kind(error.kind());
        // A remedy by option is none here.
        match error.remedy().filter(|remedy| !remedy.contains("--")) {
            Some(remedy) => explained.hint(remedy),
            None => explained,
        }
    }
}

/// May this be a name of a service or a network?
pub fn is_name(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 63 && name.chars().all(ok) && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// May this stand in /etc/hosts?
fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

struct Reader<'a> {
    file: &'a File,
    service: Service,
    entrypoint: Option<Vec<String>>,
    command: Vec<String>,
    file_env: Vec<(String, String)>,
    env: Vec<(String, String)>,
    memory_and_swap: Option<Node<'a>>,
    networks: Vec<Joined>,
}

impl<'a> Reader<'a> {
    fn field(&mut self, key: &str, node: &Node<'a>) -> Result<()> {
        // An empty field is as good as none.
        if node.is_null() && FIELDS.contains(&key) {
            return Ok(());
        }
        let options = &mut self.service.options;
        let inside = &mut options.inside;
        match key {
            "command" => self.command = command_line(node)?,
            "entrypoint" => self.entrypoint = Some(command_line(node)?),
            "environment" => {
                for (key, value) in node.pairs()? {
                    // Without a value: the caller's, or none at all.
                    if let Some(value) = value.or_else(|| self.file.vars.get(&key)) {
                        self.env.push((key, value));
                    }
                }
            }
            "env_file" => self.env_file(node)?,
            "hostname" => inside.hostname = Some(node.scalar()?),
            "user" => inside.user = Some(node.scalar()?),
            "working_dir" => inside.workdir = Some(node.text()?.to_string()),
            "volumes" => node.items()?.iter().try_for_each(|item| mounts::volume(item, self.file, inside))?,
            "tmpfs" if node.is_list() => {
                for item in node.items()? {
                    mounts::tmpfs(&item, inside, item.text()?)?;
                }
            }
            "tmpfs" => mounts::tmpfs(node, inside, node.text()?)?,
            "read_only" => inside.read_only = node.boolean()?,
            "init" => inside.reaper = node.boolean()?,
            "tty" => inside.tty = node.boolean()?,
            "stdin_open" => options.interactive = node.boolean()?,
            "cap_add" => inside.cap_add = unique(node)?,
            "cap_drop" => inside.cap_drop = unique(node)?,
            // Compose writes `no-new-privileges:true`.
            "security_opt" => {
                inside.security_opt = unique(node)?
                    .into_iter()
                    .map(|word| if word.contains('=') { word } else { word.replacen(':', "=", 1) })
                    .collect();
            }
            "sysctls" => {
                for (key, value) in node.pairs()? {
                    let value =
                        value.ok_or_else(|| node.bad(format!("'{}' has no value", text::escape(&key))))?;
                    inside.sysctl.push(format!("{key}={value}"));
                }
            }
            "ulimits" => {
                for (name, value) in node.entries()? {
                    inside.ulimit.push(ulimit(name, &value)?);
                }
            }
            "cpus" => options.cpus = Some(node.quantity()?),
            "mem_limit" => options.memory = Some(node.quantity()?),
            "memswap_limit" => self.memory_and_swap = Some(node.clone()),
            "pids_limit" => options.pids = Some(node.integer()?.to_string()),
            "stop_signal" => options.stop_signal = Some(node.scalar()?),
            "stop_grace_period" => {
                options.stop_timeout = Some(words::seconds(node.text()?).map_err(|why| node.bad(why))?)
            }
            "labels" => {
                for (key, value) in node.pairs()? {
                    if [super::PROJECT, super::SERVICE, super::ORDER].contains(&key.as_str()) {
                        return Err(node.bad(format!("the label '{key}' is set by `up` itself")));
                    }
                    options.label.push(format!("{key}={}", value.unwrap_or_default()));
                }
            }
            "dns" => options.dns = node.texts()?,
            "extra_hosts" => self.extra_hosts(node)?,
            "ports" => {
                for item in node.items()? {
                    options.publish.push(port(&item)?);
                }
            }
            "networks" => self.networks = networks(node)?,
            "network_mode" => {
                let mode = node.text()?;
                if !["none", "host", "bridge"].contains(&mode) {
                    return Err(node.bad(format!(
                        "'{}' is not supported (allowed: none, host, bridge)",
                        text::shorten(&text::escape(mode), 60)
                    )));
                }
                options.net = Some(mode.to_string());
            }
            "container_name" => {
                self.service.id = ContainerId::parse(node.text()?).map_err(|e| node.bad(e.sentence()))?;
            }
            "depends_on" => self.service.depends_on = depends_on(node)?,
            "image" => options.image = Some(node.text()?.to_string()),
            "pull_policy" => {
                options.pull = match node.text()? {
                    "always" => Pull::Always,
                    "missing" | "if_not_present" => Pull::Missing,
                    "never" => Pull::Never,
                    other => {
                        return Err(node.bad(format!(
                            "'{}' is not supported (allowed: always, missing, if_not_present, never)",
                            text::shorten(&text::escape(other), 60)
                        )));
                    }
                }
            }
            "x-rootfs" => options.rootfs = Some(self.file.path(node.text()?)),
            key if key.starts_with("x-") => {}
            _ => return Err(node.unsupported(&FIELDS)),
        }
        Ok(())
    }

    fn env_file(&mut self, node: &Node<'a>) -> Result<()> {
        let single = [node.clone()];
        let items = if node.is_list() { node.items()? } else { single.to_vec() };
        for item in items {
            let (mut path, mut required) = (None, true);
            if item.is_map() {
                for (key, value) in item.entries()? {
                    match key {
                        "path" => path = Some(value.text()?),
                        "required" => required = value.boolean()?,
                        _ => return Err(value.unsupported(&["path", "required"])),
                    }
                }
            } else {
                path = Some(item.text()?);
            }
            let path = self.file.path(path.ok_or_else(|| item.bad("has no path"))?);
            if !required && !path.exists() {
                continue;
            }
            let bad = |why: String| item.bad(format!("'{}': {why}", path.display()));
            let source = file::read_text(&path).map_err(bad)?;
            for (key, value) in vars::parse_env(&source, &self.file.vars).map_err(bad)? {
                if let Some(value) = value.or_else(|| self.file.vars.get(&key)) {
                    self.file_env.push((key, value));
                }
            }
        }
        Ok(())
    }

    fn extra_hosts(&mut self, node: &Node<'a>) -> Result<()> {
        let mut add = |node: &Node<'_>, name: &str, address: &str| {
            if !is_host_name(name) {
                return Err(node.bad("not a host name (allowed: NAME:ADDRESS)"));
            }
            if address == "host-gateway" {
                self.service.gateway_names.push(name.to_string());
                return Ok(());
            }
            if address.trim_matches(['[', ']']).parse::<IpAddr>().is_err() {
                return Err(node.bad("not an address (allowed: NAME:ADDRESS, NAME:host-gateway)"));
            }
            self.service.options.add_host.push(format!("{name}:{address}"));
            Ok(())
        };
        if node.is_map() {
            for (name, value) in node.entries()? {
                for address in value.texts()? {
                    add(&value, name, &address)?;
                }
            }
            return Ok(());
        }
        for item in node.items()? {
            let text = item.text()?;
            let pair = text.split_once('=').or_else(|| text.split_once(':'));
            let (name, address) = pair.ok_or_else(|| item.bad("not a host line (allowed: NAME:ADDRESS)"))?;
            add(&item, name, address)?;
        }
        Ok(())
    }

    fn finish(mut self, node: &Node<'_>) -> Result<Service> {
        let options = &mut self.service.options;
        for (key, value) in self.file_env.into_iter().chain(self.env) {
            options.inside.env.push(format!("{key}={value}"));
        }
        if let Some(limit) = self.memory_and_swap {
            options.swap = swap(&limit, options.memory.as_deref())?;
        }
        if options.image.is_some() && options.rootfs.is_some() {
            return Err(node.bad("has both image and x-rootfs (allowed: one of them)"));
        }
        let mut words = self.entrypoint.clone().unwrap_or_default().into_iter();
        if options.image.is_some() && self.entrypoint.is_some() {
            // The image's own goes, also for an empty one.
            options.entrypoint = Some(words.next().unwrap_or_default());
        }
        self.service.command = words.chain(self.command).collect();
        self.service.networks = self.networks;
        match (&options.net, self.service.networks.is_empty()) {
            (Some(_), false) => {
                return Err(node.bad("has both network_mode and networks (allowed: one of them)"));
            }
            (None, true) => {
                let default = Joined { key: "default".into(), address: None, aliases: Vec::new() };
                self.service.networks.push(default);
            }
            _ => {}
        }
        if self.service.networks.is_empty() && !self.service.gateway_names.is_empty() {
            let at = format!("{}/extra_hosts", node.at);
            return Err(Error::bad_input(at, "host-gateway needs a network of the project's"));
        }
        Ok(self.service)
    }
}

fn command_line(node: &Node<'_>) -> Result<Vec<String>> {
    if node.is_list() {
        node.list_of_texts()
    } else {
        words::split(node.text()?).map_err(|why| node.bad(why))
    }
}

fn unique(node: &Node<'_>) -> Result<Vec<String>> {
    let words = node.list_of_texts()?;
    for (i, word) in words.iter().enumerate() {
        if words.iter().take(i).any(|earlier| earlier == word) {
            return Err(node.bad(format!("'{}' is given twice", text::shorten(&text::escape(word), 60))));
        }
    }
    Ok(words)
}

fn ulimit(name: &str, node: &Node<'_>) -> Result<String> {
    if !node.is_map() {
        return Ok(format!("{name}={}", node.integer()?));
    }
    let (mut soft, mut hard) = (None, None);
    for (key, value) in node.entries()? {
        match key {
            "soft" => soft = Some(value.integer()?),
            "hard" => hard = Some(value.integer()?),
            _ => return Err(value.unsupported(&["soft", "hard"])),
        }
    }
    match (soft, hard) {
        (Some(soft), Some(hard)) => Ok(format!("{name}={soft}:{hard}")),
        _ => Err(node.bad("needs soft and hard")),
    }
}

/// Compose limits memory and swap together; the kernel and `--swap` count swap alone.
fn swap(node: &Node<'_>, memory: Option<&str>) -> Result<Option<String>> {
    let text = node.quantity()?;
    if text == "0" {
        return Ok(None);
    }
    let memory = memory.ok_or_else(|| node.bad("needs mem_limit"))?;
    if text == "-1" {
        return Ok(Some("max".to_string()));
    }
    let both = size::parse("memswap_limit", &text)
        .map_err(|_| node.bad("not a size (allowed: such as 150M, or -1)"))?;
    // A mem_limit that is no size is refused where it stands.
    let Ok(memory) = size::parse("mem_limit", memory) else { return Ok(None) };
    let swap = both
        .checked_sub(memory)
        .ok_or_else(|| node.bad("is less than mem_limit (it is memory and swap together)"))?;
    Ok(Some(swap.to_string()))
}

/// A published port as `--publish` wants it.
fn port(node: &Node<'_>) -> Result<String> {
    if !node.is_map() {
        let text = node.scalar()?;
        if !text.trim_start_matches('[').contains(':') {
            return Err(node.bad(
                "a port without the host's is not supported (allowed: HOST:CONTAINER, such as 8080:80)",
            ));
        }
        drydock_network::Publish::parse(&text).map_err(|e| node.bad(e.sentence()))?;
        return Ok(text);
    }
    let (mut target, mut published, mut host, mut protocol) = (None, None, None, "tcp");
    for (key, value) in node.entries()? {
        match key {
            "target" => target = Some(value.integer()?),
            "published" => published = Some(value.quantity()?),
            "host_ip" => host = Some(value.text()?),
            "protocol" => protocol = value.text()?,
            key if key.starts_with("x-") => {}
            _ => return Err(value.unsupported(&["target", "published", "host_ip", "protocol"])),
        }
    }
    let target = target.ok_or_else(|| node.bad("has no target"))?;
    let published =
        published.ok_or_else(|| node.bad("has no published port (allowed: such as published: 8080)"))?;
    let host = match host {
        Some(host) if host.contains(':') => format!("[{}]:", host.trim_matches(['[', ']'])),
        Some(host) => format!("{host}:"),
        None => String::new(),
    };
    let text = format!("{host}{published}:{target}/{protocol}");
    drydock_network::Publish::parse(&text).map_err(|e| node.bad(e.sentence()))?;
    Ok(text)
}

fn networks(node: &Node<'_>) -> Result<Vec<Joined>> {
    let plain = |key: &str| Joined { key: key.to_string(), address: None, aliases: Vec::new() };
    if node.is_list() {
        return Ok(unique(node)?.iter().map(|key| plain(key)).collect());
    }
    let mut all = Vec::new();
    for (key, value) in node.entries()? {
        let mut joined = plain(key);
        for (key, value) in value.entries()? {
            match key {
                "ipv4_address" => {
                    let address = value.text()?.parse().map_err(|_| value.bad("not an IPv4 address"))?;
                    joined.address = Some(IpAddr::V4(address));
                }
                "aliases" => {
                    joined.aliases = unique(&value)?;
                    if let Some(bad) = joined.aliases.iter().find(|name| !is_host_name(name)) {
                        return Err(value
                            .bad(format!("'{}' is not a host name", text::shorten(&text::escape(bad), 60))));
                    }
                }
                key if key.starts_with("x-") => {}
                _ => return Err(value.unsupported(&["ipv4_address", "aliases"])),
            }
        }
        all.push(joined);
    }
    Ok(all)
}

fn depends_on(node: &Node<'_>) -> Result<Vec<(String, Condition)>> {
    if node.is_list() {
        return Ok(unique(node)?.into_iter().map(|name| (name, Condition::Started)).collect());
    }
    let mut all = Vec::new();
    for (name, value) in node.entries()? {
        let mut condition = None;
        for (key, value) in value.entries()? {
            condition = match (key, value.text()?) {
                ("condition", "service_started") => Some(Condition::Started),
                ("condition", "service_completed_successfully") => Some(Condition::Completed),
                ("condition", other) => {
                    let other = text::shorten(&text::escape(other), 60);
                    return Err(value.bad(format!(
                        "'{other}' is not supported (allowed: service_started, service_completed_successfully)"
                    )));
                }
                _ => return Err(value.unsupported(&["condition"])),
            };
        }
        all.push((name.to_string(), condition.unwrap_or(Condition::Started)));
    }
    Ok(all)
}
