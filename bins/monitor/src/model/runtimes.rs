//! Whose container a cgroup is, as far as its path tells: every engine has its own way of naming them.

use serde::Serialize;

/// What a path says of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Maker {
    /// `docker`, `podman`, `containerd`, `cri-o`, `kubernetes`, `lxc`, `nspawn`, `libvirt`, `nomad`, `runc`, `crun`, `youki`,
    /// `drydock`, `systemd`.
    pub runtime: &'static str,
    /// The container's id or name as its engine knows it, or the systemd unit.
    pub id: String,
    /// It is a container (or machine); a service, scope or slice of systemd is none.
    pub container: bool,
}

/// Who made the cgroup at `path`; `None` if the path does not tell. Of nested ones the innermost.
pub fn of_path(path: &str) -> Option<Maker> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != "..").collect();
    (0..parts.len())
        .rev()
        .find_map(|at| {
            let part = parts.get(at)?;
            let above = parts.get(..at).unwrap_or_default();
            by_prefix(part).or_else(|| by_place(part, above))
        })
        .or_else(|| unit(&parts))
}

/// Names that carry their engine: `docker-ID.scope`, `libpod-ID`, `lxc.payload.NAME`.
fn by_prefix(part: &str) -> Option<Maker> {
    const SCOPES: [(&str, &str); 10] = [
        ("docker-", "docker"),
        ("libpod-payload-", "podman"),
        ("libpod-", "podman"),
        ("cri-containerd-", "containerd"),
        ("nerdctl-", "containerd"),
        ("crio-", "cri-o"),
        ("runc-", "runc"),
        ("crun-", "crun"),
        ("youki-", "youki"),
        ("drydock-", "drydock"),
    ];
    let scope = part.strip_suffix(".scope");
    for (prefix, runtime) in SCOPES {
        let Some(id) = scope.unwrap_or(part).strip_prefix(prefix) else { continue };
        // The monitors of podman and CRI-O stand beside their containers.
        if id.starts_with("conmon-") || id.is_empty() {
            return None;
        }
        // Without a scope any directory could begin so: an id is hexadecimal.
        if scope.is_some() || is_id(id) {
            return Some(made(runtime, id));
        }
    }
    for prefix in ["lxc.payload.", "lxc.payload-"] {
        if let Some(name) = part.strip_prefix(prefix).filter(|n| !n.is_empty()) {
            return Some(made("lxc", name));
        }
    }
    if let Some(name) = part.strip_prefix("systemd-nspawn@").and_then(|p| p.strip_suffix(".service")) {
        return Some(made("nspawn", &unescape(name)));
    }
    if let Some(name) = part.strip_prefix("machine-").and_then(|p| p.strip_suffix(".scope")) {
        let name = unescape(name);
        // libvirt: qemu-NUMBER-NAME.
        let guest = name.strip_prefix("qemu-").or_else(|| name.strip_prefix("lxc-"));
        return Some(match guest {
            Some(rest) => made("libvirt", rest.split_once('-').map_or(rest, |(_, name)| name)),
            None => made("nspawn", &name),
        });
    }
    None
}

/// Names that only their place explains: `/docker/ID`, `/kubepods/…/podUID/ID`, `/lxc/NAME`, `/drydock/NAME`.
fn by_place(part: &str, above: &[&str]) -> Option<Maker> {
    let parent = *above.last()?;
    let kubernetes = above.iter().any(|p| p.starts_with("kubepods"));
    match parent {
        "docker" | "moby" if is_id(part) => Some(made("docker", part)),
        "libpod_parent" => Some(made("podman", part.strip_prefix("libpod-").unwrap_or(part))),
        "lxc" | "lxc.payload" => Some(made("lxc", part)),
        "drydock" => Some(made("drydock", part)),
        // ctr(8): /NAMESPACE/ID.
        "default" | "k8s.io" | "nerdctl" if above.len() == 1 => Some(made("containerd", part)),
        _ if kubernetes && is_id(part) => Some(made("kubernetes", part)),
        _ if above.first() == Some(&"ecs") && is_id(part) => Some(made("docker", part)),
        _ if above.iter().any(|p| *p == "nomad.slice" || *p == "nomad") && part.ends_with(".scope") => {
            Some(made("nomad", part.trim_end_matches(".scope")))
        }
        _ => None,
    }
}

/// The innermost unit of systemd.
fn unit(parts: &[&str]) -> Option<Maker> {
    let is_unit =
        |p: &&&str| [".service", ".scope", ".slice", ".socket", ".mount"].iter().any(|end| p.ends_with(end));
    let name = parts.iter().rev().find(is_unit)?;
    Some(Maker { runtime: "systemd", id: unescape(name), container: false })
}

fn made(runtime: &'static str, id: &str) -> Maker {
    Maker { runtime, id: id.to_string(), container: true }
}

/// Engines give ids of 64 hexadecimal digits; some tools cut them to 12 at the least.
fn is_id(text: &str) -> bool {
    text.len() >= 12 && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// systemd writes `-` within a name as `\x2d`. Source: systemd-escape(1).
fn unescape(name: &str) -> String {
    let mut out = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.push_str(before);
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = after.get(2..).unwrap_or("");
            }
            None => {
                out.push_str("\\x");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_by_its_path() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for (path, runtime, name) in [
            (format!("/docker/{id}"), "docker", id),
            (format!("/system.slice/docker-{id}.scope"), "docker", id),
            (format!("/docker/{id}/init"), "docker", id),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{id}.scope"),
                "docker",
                id,
            ),
            (format!("/machine.slice/libpod-{id}.scope/container"), "podman", id),
            (format!("/libpod_parent/libpod-{id}"), "podman", id),
            (format!("/user.slice/libpod-payload-{id}"), "podman", id),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-{id}.scope"
                ),
                "containerd",
                id,
            ),
            (format!("/kubepods.slice/kubepods-pod1.slice/crio-{id}.scope"), "cri-o", id),
            (format!("/kubepods/burstable/pod3a/{id}"), "kubernetes", id),
            ("/default/web".into(), "containerd", "web"),
            ("/lxc.payload.web/init.scope".into(), "lxc", "web"),
            ("/lxc/web".into(), "lxc", "web"),
            ("/machine.slice/systemd-nspawn@deb\\x2d12.service/payload".into(), "nspawn", "deb-12"),
            ("/machine.slice/machine-qemu\\x2d3\\x2dvm\\x2d1.scope/libvirt".into(), "libvirt", "vm-1"),
            ("/drydock/web".into(), "drydock", "web"),
            ("/system.slice/runc-web.scope".into(), "runc", "web"),
            // A container in a container.
            (format!("/docker/{id}/system.slice/libpod-{id}.scope"), "podman", id),
        ] {
            let found = of_path(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((found.runtime, found.id.as_str(), found.container), (runtime, name, true), "{path}");
        }
        let unit = of_path("/system.slice/ssh.service").unwrap();
        assert_eq!((unit.runtime, unit.id.as_str(), unit.container), ("systemd", "ssh.service", false));
        assert!(!of_path(&format!("/machine.slice/libpod-conmon-{id}.scope")).unwrap().container);
        for plain in ["/", "/a/b", "/docker", "/docker/x", "", "/../..", "/docker-compose"] {
            assert_eq!(of_path(plain), None, "{plain}");
        }
    }
}
