//! A bundle to run.

use drydock_testkit::Sandbox;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};

/// Debian's is static.
pub const BUSYBOX: &str = "/usr/bin/busybox";

/// A bundle with a root of busybox, in the sandbox; `change` is applied to its configuration.
pub fn bundle(sandbox: &Sandbox, args: &[&str], change: impl FnOnce(&mut Value)) -> String {
    let dir = sandbox.join("bundle");
    let bin = dir.join("rootfs/bin");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(dir.join("rootfs/dev")).unwrap();
    std::fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
    for applet in ["sh", "head", "tr", "mkdir", "sleep"] {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    std::fs::write(bin.join("script"), "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(bin.join("script"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = json!({
        "ociVersion": "1.2.0",
        "root": { "path": "rootfs" },
        "process": { "args": args, "cwd": "/", "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 } },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        ],
        "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }] }
    });
    change(&mut config);
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    dir.display().to_string()
}
