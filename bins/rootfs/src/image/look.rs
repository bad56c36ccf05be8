//! `rootfs list`, `rootfs inspect`: what there is.

use super::{Which, data};
use drydock_cli::{Outcome, output};
use drydock_core::{Result, size};
use drydock_images::oci::{Image, Store};
use serde_json::{Value, json};

/// List the images in the store.
#[derive(clap::Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
}

pub fn list(args: &ListArgs) -> Outcome {
    let all = Store::at(&data()?).list()?;
    if args.json {
        drydock_cli::print_json(&all)?;
        return Ok(0);
    }
    let name = |n: &Option<String>| n.as_deref().map_or_else(|| "-".to_string(), drydock_core::text::escape);
    if args.quiet {
        for image in &all {
            drydock_cli::print_line(&image.name.clone().unwrap_or_else(|| image.digest.to_string()))?;
        }
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|i| {
            vec![
                name(&i.name),
                i.digest.short().to_string(),
                i.platform.clone(),
                i.layers.to_string(),
                size::show(i.size),
                i.created.as_deref().map_or_else(
                    || "-".into(),
                    |c| drydock_core::text::shorten(&drydock_core::text::escape(c), 20),
                ),
                if i.unpacked { "yes" } else { "no" }.to_string(),
            ]
        })
        .collect();
    let head = ["NAME", "DIGEST", "PLATFORM", "LAYERS", "SIZE", "CREATED", "UNPACKED"];
    drydock_cli::print_text(&output::table(&head, &rows))?;
    Ok(0)
}

/// Show an image: its command, layers and history. All words in it are the image's own.
#[derive(clap::Args)]
pub struct InspectArgs {
    #[command(flatten)]
    which: Which,
    /// Print the manifest as it is
    #[arg(long, conflicts_with_all = ["config", "json"])]
    manifest: bool,
    /// Print the configuration as it is
    #[arg(long, conflicts_with = "json")]
    config: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn inspect(args: &InspectArgs) -> Outcome {
    let image = args.which.find()?;
    if args.manifest || args.config {
        let bytes = if args.config { &image.config_bytes } else { &image.manifest_bytes };
        drydock_cli::print_text(&format!("{}\n", String::from_utf8_lossy(bytes).trim_end()))?;
        return Ok(0);
    }
    let shown = shown(&image)?;
    if args.json {
        drydock_cli::print_json(&shown)?;
    } else {
        drydock_cli::print_text(&text(&shown))?;
    }
    Ok(0)
}

fn shown(image: &Image) -> Result<Value> {
    let config = &image.config;
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|l| {
            json!({
                "diff_id": l.diff_id,
                "digest": l.descriptor.as_ref().map(|d| &d.digest),
                "size": l.descriptor.as_ref().map(|d| d.size),
                "media_type": l.descriptor.as_ref().map(|d| &d.media_type),
            })
        })
        .collect();
    Ok(json!({
        "names": image.names,
        "digest": image.descriptor.as_ref().map(|d| &d.digest),
        "created": config.created,
        "author": config.author,
        "platform": drydock_images::oci::store::platform_of(image).to_string(),
        "size": image.size(),
        "entrypoint": config.config.entrypoint,
        "cmd": config.config.cmd,
        "env": config.config.env,
        "workdir": config.config.working_dir,
        "user": config.config.user,
        "volumes": config.config.volumes.keys().collect::<Vec<_>>(),
        "exposed_ports": config.config.exposed_ports.keys().collect::<Vec<_>>(),
        "labels": config.config.labels,
        "stop_signal": config.config.stop_signal,
        "layers": layers,
        "history": config.history,
    }))
}

fn text(shown: &Value) -> String {
    let escape = drydock_core::text::escape;
    let word = |v: &Value| match v {
        Value::Null => String::new(),
        Value::String(s) => escape(s),
        Value::Array(list) => {
            list.iter().map(|w| escape(w.as_str().unwrap_or_default())).collect::<Vec<_>>().join(" ")
        }
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| format!("{}={}", escape(k), escape(v.as_str().unwrap_or_default())))
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    };
    let mut rows = Vec::new();
    for key in [
        "names",
        "digest",
        "created",
        "author",
        "platform",
        "entrypoint",
        "cmd",
        "env",
        "workdir",
        "user",
        "volumes",
        "exposed_ports",
        "labels",
        "stop_signal",
    ] {
        let value = word(shown.get(key).unwrap_or(&Value::Null));
        if !value.is_empty() {
            rows.push(vec![key.to_uppercase().replace('_', " "), value]);
        }
    }
    for (n, layer) in shown.get("layers").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let digest = layer.get("digest").filter(|d| !d.is_null()).or(layer.get("diff_id"));
        let bytes = layer.get("size").and_then(Value::as_u64).map(size::show).unwrap_or_default();
        rows.push(vec![
            format!("LAYER {}", n + 1),
            format!("{} {bytes}", word(digest.unwrap_or(&Value::Null))),
        ]);
    }
    for step in shown.get("history").and_then(Value::as_array).into_iter().flatten() {
        let by = word(step.get("created_by").unwrap_or(&Value::Null));
        rows.push(vec!["HISTORY".into(), drydock_core::text::shorten(&by, 120)]);
    }
    output::table(&["WHAT", "VALUE"], &rows)
}
