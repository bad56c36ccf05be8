//! `volumes` and `tmpfs` of a service, as the options `--volume` and `--tmpfs` want them.

use crate::compose::file::File;
use crate::compose::tree::Node;
use drydock_core::Result;
use drydock_init::options::Options as Inside;

const LONG: [&str; 6] = ["type", "source", "target", "read_only", "bind", "tmpfs"];

/// One entry of `volumes`.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming the place.
pub fn volume(node: &Node<'_>, file: &File, inside: &mut Inside) -> Result<()> {
    if node.is_map() { long(node, file, inside) } else { short(node, file, inside) }
}

fn short(node: &Node<'_>, file: &File, inside: &mut Inside) -> Result<()> {
    let text = node.text()?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [_] => {
            return Err(
                node.bad("anonymous volumes are not supported (allowed: ./DIR:DST, /DIR:DST, or tmpfs)")
            );
        }
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(node.bad("not a volume (allowed: SRC:DST[:OPTIONS])")),
    };
    if !source.starts_with(['/', '.', '~']) {
        return Err(node.bad("named volumes are not supported (allowed: ./DIR:DST, /DIR:DST, or tmpfs)"));
    }
    bind(node, file, inside, source, target, options)
}

fn bind(
    node: &Node<'_>,
    file: &File,
    inside: &mut Inside,
    source: &str,
    target: &str,
    options: &str,
) -> Result<()> {
    let path = file.path(source);
    let path = path.to_str().ok_or_else(|| node.bad("the path is not UTF-8"))?;
    if path.contains(':') || target.contains(':') {
        return Err(node.bad("a path with ':' is not supported"));
    }
    if !target.starts_with('/') || target.trim_matches('/').is_empty() {
        return Err(node.bad("the target must be an absolute path below / inside"));
    }
    if let Err(e) = std::fs::metadata(path) {
        let why = e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text);
        return Err(
            node.bad(format!("the source '{}' cannot be used: {why}", drydock_core::text::escape(path)))
        );
    }
    let options = if options.is_empty() { String::new() } else { format!(":{options}") };
    inside.volume.push(format!("{path}:{target}{options}"));
    Ok(())
}

fn long(node: &Node<'_>, file: &File, inside: &mut Inside) -> Result<()> {
    let (mut kind, mut source, mut target, mut options, mut size) =
        (None, None, None, Vec::new(), Vec::new());
    let (mut has_bind, mut has_tmpfs) = (false, false);
    for (key, value) in node.entries()? {
        match key {
            "type" => kind = Some(value.text()?),
            "source" => source = Some(value.text()?),
            "target" => target = Some(value.text()?),
            "read_only" if value.boolean()? => options.push("ro".to_string()),
            "read_only" => {}
            "bind" => {
                has_bind = true;
                for (key, value) in value.entries()? {
                    match key {
                        "propagation" => options.push(value.text()?.to_string()),
                        "create_host_path" if !value.boolean()? => {}
                        _ => return Err(value.unsupported(&["propagation", "create_host_path: false"])),
                    }
                }
            }
            "tmpfs" => {
                has_tmpfs = true;
                for (key, value) in value.entries()? {
                    match key {
                        "size" => size.push(format!("size={}", value.quantity()?)),
                        "mode" => size.push(format!("mode={:o}", mode(&value)?)),
                        _ => return Err(value.unsupported(&["size", "mode"])),
                    }
                }
            }
            key if key.starts_with("x-") => {}
            _ => return Err(value.unsupported(&LONG)),
        }
    }
    let target = target.ok_or_else(|| node.bad("has no target"))?;
    match (kind, source) {
        (Some("bind"), Some(source)) if !has_tmpfs => {
            bind(node, file, inside, source, target, &options.join(","))
        }
        (Some("bind"), None) => Err(node.bad("has no source")),
        (Some("tmpfs"), None) if !has_bind => {
            size.extend(options);
            tmpfs(
                node,
                inside,
                &format!("{target}{}{}", if size.is_empty() { "" } else { ":" }, size.join(",")),
            )
        }
        (Some("bind" | "tmpfs"), _) => Err(node.bad("has fields of another type of volume")),
        (Some(_), _) => Err(node.bad("type: not supported (allowed: bind, tmpfs)")),
        (None, _) => Err(node.bad("has no type (allowed: bind, tmpfs)")),
    }
}

/// A mode: a YAML number is what it is, text is octal.
fn mode(node: &Node<'_>) -> Result<u32> {
    let value = match node.text() {
        Ok(text) => u32::from_str_radix(text, 8).ok(),
        Err(_) => u32::try_from(node.integer()?).ok(),
    };
    value.filter(|mode| *mode <= 0o7777).ok_or_else(|| node.bad("not a mode (allowed: such as 0o1777)"))
}

/// One entry of `tmpfs`: `DST[:OPTIONS]`.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming the place.
pub fn tmpfs(node: &Node<'_>, inside: &mut Inside, text: &str) -> Result<()> {
    let target = text.split(':').next().unwrap_or_default();
    if !target.starts_with('/') || target.trim_matches('/').is_empty() {
        return Err(node.bad("the target must be an absolute path below / inside"));
    }
    inside.tmpfs.push(text.to_string());
    Ok(())
}
