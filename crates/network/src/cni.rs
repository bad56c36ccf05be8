//! Networks of other CNI plugins: their configuration is found by name, and each plugin is executed by its absolute path.
//! Source: the CNI specification, 1.1.0; directories as libcni, containerd and Podman have them.

use crate::publish::Publish;
use crate::step::NetStep;
use crate::{STAGE, name};
use drydock_core::error::CallExt;
use drydock_core::{Ctx, Error, Result, text};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CONFIGS: &str = "/etc/cni/net.d";
const PLUGINS: &str = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni";
const MAX_BYTES: u64 = 1 << 20;

/// A network: its plugins, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    version: Value,
    plugins: Vec<(PathBuf, Map<String, Value>)>,
}

/// One attachment.
#[derive(Clone, Copy, Debug)]
pub struct Attachment<'a> {
    /// CNI_CONTAINERID.
    pub container: &'a str,
    /// CNI_NETNS; none when it is gone.
    pub netns: Option<&'a Path>,
    /// CNI_IFNAME.
    pub interface: &'a str,
    /// Published ports, for plugins that have the capability.
    pub ports: &'a [Publish],
    /// The container's state directory: a lock there keeps DEL behind the plugins of an ADD whose caller was killed.
    pub place: &'a Path,
}

/// Held by the caller, and by every plugin that it starts: a lock goes with the last descriptor of an open file, and the
/// plugins have it as their stderr. So it also tells that a plugin is still at work after its caller's death.
struct Turn(File);

impl Turn {
    /// As long as a plugin may take; one that leaves something behind that holds on to the lock must not stop others.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Waits for the plugins of others to end. None where there is no state directory any more.
    fn take(place: &Path) -> Option<Self> {
        let path = place.join("cni.lock");
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).custom_flags(flags).open(path).ok()?;
        let end = Instant::now() + Self::PATIENCE;
        while file.try_lock().is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(Self(file))
    }

    fn stderr(turn: Option<&Self>) -> Stdio {
        turn.and_then(|turn| turn.0.try_clone().ok()).map_or_else(Stdio::null, Stdio::from)
    }
}

fn plugin(kind: &str) -> Result<PathBuf> {
    let shown = text::shorten(&text::escape(kind), 60);
    let path = std::env::var("CNI_PATH").unwrap_or_else(|_| PLUGINS.into());
    let dirs: Vec<&str> = path.split(':').filter(|d| d.starts_with('/')).collect();
    let executable =
        |p: &PathBuf| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let plain = !kind.is_empty() && !kind.contains('/') && !matches!(kind, "." | "..");
    let found = dirs.iter().map(|dir| Path::new(dir).join(kind)).find(|p| plain && executable(p));
    found.ok_or_else(|| {
        Error::bad_input(format!("CNI plugin '{shown}'"), format!("is not in {}", dirs.join(", ")))
            .hint("apt install containernetworking-plugins, or set CNI_PATH")
    })
}

impl Network {
    /// Finds a network's configuration by name in `/etc/cni/net.d` (NETCONFPATH).
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: there is none, it is wrong, or a plugin is not installed.
    pub fn find(wanted: &str) -> Result<Self> {
        name::check_network(wanted)?;
        let dir = std::env::var_os("NETCONFPATH").map_or_else(|| PathBuf::from(CONFIGS), PathBuf::from);
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "conflist" || e == "conf" || e == "json"));
        files.sort();
        for file in files {
            let Ok(opened) = std::fs::File::open(&file) else { continue };
            let mut text = String::new();
            if opened.take(MAX_BYTES).read_to_string(&mut text).is_err() {
                continue;
            }
            let Ok(Value::Object(value)) = serde_json::from_str(&text) else { continue };
            if value.get("name").and_then(Value::as_str) == Some(wanted) {
                return Self::of(wanted, &file, value);
            }
        }
        let shown = dir.display();
        Err(Error::bad_input("--net", format!("there is no CNI network '{wanted}' in {shown}")))
    }

    fn of(wanted: &str, file: &Path, value: Map<String, Value>) -> Result<Self> {
        let bad = |why: &str| Error::bad_input(file.display().to_string(), why.to_string());
        let version = value.get("cniVersion").cloned().unwrap_or_else(|| json!("0.3.1"));
        let list = match value.get("plugins") {
            Some(Value::Array(list)) => list.clone(),
            Some(_) => return Err(bad("plugins is no list")),
            None => vec![Value::Object(value)],
        };
        let mut plugins = Vec::new();
        for entry in list {
            let Value::Object(entry) = entry else { return Err(bad("a plugin is no object")) };
            let kind =
                entry.get("type").and_then(Value::as_str).ok_or_else(|| bad("a plugin has no type"))?;
            plugins.push((plugin(kind)?, entry));
        }
        if plugins.is_empty() {
            return Err(bad("has no plugins"));
        }
        Ok(Self { name: wanted.into(), version, plugins })
    }

    /// Attaches: every plugin's ADD, in order. If one fails, what was made is taken away.
    ///
    /// # Errors
    /// The plugin's own words.
    pub fn add(&self, a: Attachment<'_>, ctx: &Ctx<'_>) -> Result<Value> {
        let step = NetStep::Cni {
            network: self.name.clone(),
            container: a.container.into(),
            interface: a.interface.into(),
            add: true,
        };
        ctx.perform(&step, |_| {
            let turn = Turn::take(a.place);
            let mut result = None;
            for (path, config) in &self.plugins {
                match self.call("ADD", path, config, a, (result.as_ref(), turn.as_ref())) {
                    Ok(value) => result = value.or(result),
                    Err(e) => {
                        // The failure is the error to tell.
                        let _ = self.delete_all(a, result.as_ref(), turn.as_ref());
                        return Err(e);
                    }
                }
            }
            Ok(result.unwrap_or_else(|| json!({})))
        })
    }

    /// Detaches: every plugin's DEL, backwards; all are called, whatever becomes of one.
    ///
    /// # Errors
    /// The first plugin's that failed.
    pub fn delete(&self, a: Attachment<'_>, ctx: &Ctx<'_>) -> Result<()> {
        let step = NetStep::Cni {
            network: self.name.clone(),
            container: a.container.into(),
            interface: a.interface.into(),
            add: false,
        };
        ctx.perform(&step, |_| self.delete_all(a, None, Turn::take(a.place).as_ref()))
    }

    fn delete_all(&self, a: Attachment<'_>, previous: Option<&Value>, turn: Option<&Turn>) -> Result<()> {
        let mut first = Ok(());
        for (path, config) in self.plugins.iter().rev() {
            let done = self.call("DEL", path, config, a, (previous, turn)).map(drop);
            if first.is_ok() {
                first = done;
            }
        }
        first
    }

    fn call(
        &self,
        command: &str,
        path: &Path,
        config: &Map<String, Value>,
        a: Attachment<'_>,
        (previous, turn): (Option<&Value>, Option<&Turn>),
    ) -> Result<Option<Value>> {
        let mut config = config.clone();
        config.insert("cniVersion".into(), self.version.clone());
        config.insert("name".into(), json!(self.name));
        if let Some(previous) = previous {
            config.insert("prevResult".into(), previous.clone());
        }
        let able = config.get("capabilities").and_then(|c| c.get("portMappings")) == Some(&json!(true));
        if able && !a.ports.is_empty() {
            let ports: Vec<Value> = a.ports.iter().map(mapping).collect();
            config.insert("runtimeConfig".into(), json!({ "portMappings": ports }));
        }
        let mut child = Command::new(path)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", a.container)
            .env("CNI_NETNS", a.netns.unwrap_or_else(|| Path::new("")))
            .env("CNI_IFNAME", a.interface)
            .env("CNI_PATH", std::env::var("CNI_PATH").unwrap_or_else(|_| PLUGINS.into()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Turn::stderr(turn))
            .spawn()
            .call(|| format!("execve({path:?})"))?;
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(Value::Object(config).to_string().as_bytes());
        }
        let output = child.wait_with_output().call(|| format!("wait4({path:?})"))?;
        let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if output.status.success() {
            return Ok(said);
        }
        let field = |key| said.as_ref().and_then(|v| v.get(key)).and_then(Value::as_str).unwrap_or("");
        let words = format!("{} {}", field("msg"), field("details"));
        let words = text::shorten(&text::escape(words.trim()), 500);
        let words = if words.is_empty() { output.status.to_string() } else { words };
        Err(Error::failed(
            path.display().to_string(),
            format!("{command} of network '{}': {words}", self.name),
        )
        .in_stage(STAGE))
    }
}

fn mapping(p: &Publish) -> Value {
    json!({ "hostPort": p.host_port, "containerPort": p.container_port, "protocol": p.transport.name(), "hostIP": p.host })
}

/// The addresses of a result, with prefix lengths.
pub fn addresses(result: &Value) -> Vec<String> {
    let ips = result.get("ips").and_then(Value::as_array).cloned().unwrap_or_default();
    ips.iter().filter_map(|ip| ip.get("address").and_then(Value::as_str)).map(str::to_string).collect()
}
