//! `container spec`: a config.json to begin with, of the same container that runc's gives.

use drydock_bundle::config;
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// All that is in it is in this version too, so that older runtimes take it.
const OCI_VERSION: &str = "1.0.2";
/// runc's, for who calls this program so and adds to the configuration what newer versions have.
const RUNC_VERSION: &str = "1.3.0";

/// Arguments of `container spec`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where config.json is written [default: the current directory]
    #[arg(short = 'b', long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// For a container that is run without privileges: a user namespace in which the caller is root
    #[arg(long)]
    pub rootless: bool,
}

/// Writes config.json; one that is there already stays.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] if there is one, or no such directory.
pub fn run(args: &Args) -> Outcome {
    let dir = args.bundle.clone().unwrap_or_else(|| PathBuf::from("."));
    let path = dir.join(config::FILE);
    let mut text = serde_json::to_string_pretty(&configuration(args.rootless, version()))
        .map_err(|e| Error::failed("output", e.to_string()))?;
    text.push('\n');
    write(&path, &text)?;
    Ok(0)
}

fn write(path: &std::path::Path, text: &str) -> Result<()> {
    use nix::libc::{EEXIST, ENOENT, ENOTDIR};
    let shown = drydock_core::text::escape(&path.to_string_lossy());
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.call(|| format!("open({path:?}, O_CREAT|O_EXCL)")).map_err(|e| match e.errno() {
        Some(EEXIST) => Error::bad_input(shown, "exists (allowed: a directory without config.json)"),
        Some(ENOENT | ENOTDIR) => Error::bad_input(
            "--bundle",
            format!("'{shown}': no such directory (allowed: an existing directory)"),
        ),
        _ => e,
    })?;
    file.write_all(text.as_bytes()).call(|| format!("write({path:?})"))
}

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

fn version() -> &'static str {
    if crate::called::Name::find().is_runc() { RUNC_VERSION } else { OCI_VERSION }
}

fn configuration(rootless: bool, version: &str) -> Value {
    // As runc(8): on v1 the namespace hides nothing that the mounts do not show.
    let v2 = drydock_cgroups::Layout::detect().is_ok_and(|l| l.mode() == drydock_cgroups::Mode::V2);
    let mut kinds = vec!["pid", "network", "ipc", "uts", "mount"];
    kinds.extend(v2.then_some("cgroup"));
    let mut config = json!({
        "ociVersion": version,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [format!("PATH={}", drydock_core::exec::DEFAULT_PATH), "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "drydock",
        "mounts": mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces(&kinds),
            "maskedPaths": drydock_mounts::defaults::MASKED,
            "readonlyPaths": drydock_mounts::defaults::READONLY,
        },
    });
    if rootless {
        make_rootless(&mut config);
    }
    config
}

fn namespaces(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| json!({ "type": kind })).collect()
}

fn mount(fstype: &str, source: &str, destination: &str, options: &[&str]) -> Value {
    let mut mount = json!({ "destination": destination, "type": fstype, "source": source });
    if let (Some(map), false) = (mount.as_object_mut(), options.is_empty()) {
        map.insert("options".into(), json!(options));
    }
    mount
}

fn mounts() -> Vec<Value> {
    let kernels = ["nosuid", "noexec", "nodev"];
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    let cgroup = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    vec![
        mount("proc", "proc", "/proc", &[]),
        mount("tmpfs", "tmpfs", "/dev", &dev),
        mount("devpts", "devpts", "/dev/pts", &pts),
        mount("tmpfs", "shm", "/dev/shm", &shm),
        mount("mqueue", "mqueue", "/dev/mqueue", &kernels),
        mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        mount("cgroup", "cgroup", "/sys/fs/cgroup", &cgroup),
    ]
}

/// One id is mapped, the network and with it sysfs are the host's, and there are no limits to set.
fn make_rootless(config: &mut Value) {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let map = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1 }]);
    if let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) {
        linux.remove("resources");
        linux.insert("uidMappings".into(), map(uid));
        linux.insert("gidMappings".into(), map(gid));
        linux.insert("namespaces".into(), namespaces(&["pid", "ipc", "uts", "mount", "cgroup", "user"]));
    }
    for entry in config.get_mut("mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        let destination = entry.get("destination").and_then(Value::as_str).unwrap_or_default().to_string();
        match destination.as_str() {
            "/sys" => *entry = mount("none", "/sys", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]),
            // The group of terminals is not mapped.
            "/dev/pts" => {
                if let Some(options) = entry.get_mut("options").and_then(Value::as_array_mut) {
                    options.retain(|option| option.as_str() != Some("gid=5"));
                }
            }
            _ => {}
        }
    }
}
