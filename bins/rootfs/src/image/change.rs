//! `rootfs tag`, `untag`, `config`, `gc`: what is known of images, changed.

use super::keep::{Destination, created, pack_options};
use super::{Which, data};
use drydock_cli::Outcome;
use drydock_core::{Error, Result, size};
use drydock_images::oci::image::choose;
use drydock_images::oci::layout::forget;
use drydock_images::oci::reference::check_name;
use drydock_images::oci::spec::Descriptor;
use drydock_images::oci::spec::History;
use drydock_images::oci::store::{Removed, used_trees};
use drydock_images::oci::{Layout, Platform, Reference, Store, Transport};
use rustix::fs::FlockOperation;
use serde_json::json;
use std::ffi::OsString;

/// Give an image a further name. Who had the name before loses it.
#[derive(clap::Args)]
pub struct TagArgs {
    /// The image: a name in the store, or oci:DIR:TAG
    image: String,
    /// Its further name there
    name: String,
}

/// An image's descriptor in the index that a reference leads to: the store's, or a layout's.
fn entry(word: &str) -> Result<(Layout, Descriptor)> {
    let reference = Reference::parse(word)?;
    match (&reference.transport, &reference.name) {
        (Transport::Store | Transport::Registry, Some(name)) => {
            let store = Store::at(&data()?);
            let Some(descriptor) = store.entry(name)? else { return Err(unknown(word, "the store")) };
            Ok((store.layout()?, descriptor))
        }
        (Transport::Oci(dir), name) => {
            let layout = Layout::open(dir)?;
            let index = layout.index()?;
            let found = choose(&index, name.as_deref(), &Platform::here(), dir)?.clone();
            Ok((layout, found))
        }
        _ => Err(no_names(word)),
    }
}

fn unknown(word: &str, place: &str) -> Error {
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 200);
    Error::bad_input(format!("image '{shown}'"), format!("is not in {place}")).hint("rootfs list")
}

fn no_names(word: &str) -> Error {
    let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 200);
    let allowed = "is in an archive, which is not changed (allowed: a name in the store, or oci:DIR:TAG)";
    Error::bad_input(format!("image '{shown}'"), allowed).hint("rootfs pull it into the store first")
}

pub fn tag(args: &TagArgs) -> Outcome {
    check_name(&args.name)?;
    let (layout, descriptor) = entry(&args.image)?;
    let of_store = layout.path() == Store::at(&data()?).path();
    let _held = of_store.then(|| layout.lock("lock", FlockOperation::LockShared)).transpose()?;
    layout.name(&args.name, &descriptor, descriptor.platform.clone())?;
    Ok(0)
}

/// Take names of images away. The files go with the next `rootfs gc`, unless another image needs them; in a layout they stay.
#[derive(clap::Args)]
pub struct UntagArgs {
    /// Names in the store, or oci:DIR:TAG
    #[arg(required = true)]
    names: Vec<String>,
}

pub fn untag(args: &UntagArgs) -> Outcome {
    for word in &args.names {
        let reference = Reference::parse(word)?;
        let (gone, place) = match (&reference.transport, &reference.name) {
            (Transport::Store | Transport::Registry, Some(name)) => {
                (Store::at(&data()?).untag(name)?, "the store")
            }
            (Transport::Oci(dir), Some(tag)) => {
                (Layout::open(dir)?.change(|index| Ok(forget(index, tag)))?, "the layout")
            }
            (Transport::Oci(_), None) => {
                let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 200);
                return Err(Error::bad_input(shown, "names no image (allowed: oci:DIR:TAG)").into());
            }
            _ => return Err(no_names(word).into()),
        };
        if !gone {
            return Err(unknown(word, place).into());
        }
    }
    Ok(0)
}

/// Change how an image's command runs. Without --to the image of that name in the store is replaced.
#[derive(clap::Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    which: Which,
    /// What to call the changed image: a name in the store, or oci:DIR:TAG
    #[arg(long, value_name = "IMAGE")]
    to: Option<String>,
    /// Entrypoint: a JSON array, or one word; empty for none
    #[arg(long, value_name = "WORDS")]
    entrypoint: Option<String>,
    /// Command: a JSON array, or one word; empty for none
    #[arg(long, value_name = "WORDS")]
    cmd: Option<String>,
    /// Environment: KEY=VALUE (repeatable); KEY= is empty, KEY alone is removed
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User: UID[:GID] or names
    #[arg(short, long)]
    user: Option<String>,
    /// A directory whose content is not the image's (repeatable)
    #[arg(long, value_name = "DIR")]
    volume: Vec<String>,
    /// A port that is listened on (repeatable): PORT[/tcp|udp]
    #[arg(long, value_name = "PORT")]
    port: Vec<String>,
    /// Label: KEY=VALUE (repeatable); KEY alone is removed
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Signal that asks the command to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Author
    #[arg(long)]
    author: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn words(option: &str, text: &str) -> Result<Vec<String>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if !text.starts_with('[') {
        return Ok(vec![text.to_string()]);
    }
    serde_json::from_str(text).map_err(|_| {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 100);
        Error::bad_input(option, format!("'{shown}' (allowed: a word, or a JSON array of words)"))
    })
}

/// `KEY=VALUE`, or `KEY` to remove.
fn pair<'w>(option: &str, word: &'w str) -> Result<(&'w str, Option<&'w str>)> {
    let (key, value) = word.split_once('=').map_or((word, None), |(k, v)| (k, Some(v)));
    if key.is_empty() || word.contains('\0') {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(word), 60);
        return Err(Error::bad_input(option, format!("'{shown}' (allowed: KEY=VALUE, or KEY)")));
    }
    Ok((key, value))
}

fn edit(args: &ConfigArgs, process: &mut drydock_images::oci::spec::Process) -> Result<()> {
    if let Some(text) = &args.entrypoint {
        process.entrypoint = words("--entrypoint", text)?;
    }
    if let Some(text) = &args.cmd {
        process.cmd = words("--cmd", text)?;
    }
    for word in &args.env {
        let (key, value) = pair("--env", word)?;
        process.env.retain(|known| known.split('=').next() != Some(key));
        process.env.extend(value.map(|value| format!("{key}={value}")));
    }
    if let Some(dir) = &args.workdir {
        if !dir.is_empty() && !dir.starts_with('/') {
            return Err(Error::bad_input("--workdir", "is relative (allowed: an absolute path)"));
        }
        process.working_dir.clone_from(dir);
    }
    if let Some(user) = &args.user {
        process.user.clone_from(user);
    }
    for dir in &args.volume {
        if !dir.starts_with('/') {
            return Err(Error::bad_input("--volume", "is relative (allowed: an absolute path)"));
        }
        process.volumes.insert(dir.clone(), json!({}));
    }
    for port in &args.port {
        let (number, kind) = port.split_once('/').unwrap_or((port, "tcp"));
        if number.parse::<u16>().ok().filter(|n| *n > 0).is_none() || !matches!(kind, "tcp" | "udp" | "sctp")
        {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(port), 40);
            return Err(Error::bad_input(
                "--port",
                format!("'{shown}' (allowed: 1 to 65535, with /tcp or /udp)"),
            ));
        }
        process.exposed_ports.insert(format!("{number}/{kind}"), json!({}));
    }
    for word in &args.label {
        let (key, value) = pair("--label", word)?;
        match value {
            Some(value) => drop(process.labels.insert(key.into(), value.into())),
            None => drop(process.labels.remove(key)),
        }
    }
    if let Some(signal) = &args.stop_signal {
        if !signal.is_empty() {
            drydock_supervise::signals::parse_signal(signal)?;
        }
        process.stop_signal.clone_from(signal);
    }
    Ok(())
}

pub fn config(args: &ConfigArgs) -> Outcome {
    let image = args.which.find()?;
    let mut config = image.config.clone();
    edit(args, &mut config.config)?;
    if let Some(author) = &args.author {
        config.author = Some(author.clone());
    }
    let options = pack_options()?;
    config.created = created(&options);
    config.history.push(History {
        created: config.created.clone(),
        created_by: Some("rootfs config".into()),
        empty_layer: true,
        ..History::default()
    });
    let name = match (&args.to, Reference::parse(&args.which.image)?) {
        (Some(to), _) => to.clone(),
        (None, Reference { transport: Transport::Store, .. }) => {
            image.names.last().cloned().unwrap_or_else(|| args.which.image.clone())
        }
        (None, Reference { transport: Transport::Oci(_), .. }) => args.which.image.clone(),
        _ => return Err(Error::bad_input("--to", "is missing (archives are not changed)").into()),
    };
    let layers: Vec<_> = image.layers.iter().filter_map(|l| l.descriptor.clone()).collect();
    if layers.len() != image.layers.len() {
        return Err(Error::bad_input("image", "is none of a layout")
            .hint("rootfs pull it into the store first")
            .into());
    }
    let to = Destination::parse(&name)?;
    to.layout.add(&image, &mut |_| true)?;
    let manifest = to.finish(&config, layers)?;
    if args.json {
        drydock_cli::print_json(&json!({ "image": name, "digest": manifest.digest }))?;
    } else {
        drydock_cli::print_line(&format!("{name}: {}", manifest.digest))?;
    }
    Ok(0)
}

/// Remove what nobody needs: blobs and unpacked trees of no image that no container uses, and what killed processes have
/// left unfinished, here and where they unpacked to.
#[derive(clap::Args)]
pub struct GcArgs {
    /// Only list it; exits 1 if there is something
    #[arg(long)]
    check: bool,
    /// A tree that a process uses whom we may not look at from here
    #[arg(long, value_name = "LINE", hide = true)]
    in_use: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl GcArgs {
    /// The trees in use, as options for one who sees less.
    pub fn in_use(&self) -> Vec<OsString> {
        used_trees().into_iter().map(|line| format!("--in-use={line}").into()).collect()
    }
}

pub fn gc(args: &GcArgs) -> Outcome {
    crate::interrupt::raise_file_limit();
    let removed = Store::at(&data()?).gc(args.check, &args.in_use)?;
    let Removed { blobs, trees, unfinished, bytes } = &removed;
    let count = blobs.len() + trees.len() + unfinished.len();
    if args.json {
        drydock_cli::print_json(&removed)?;
    } else {
        for path in unfinished {
            drydock_cli::print_line(&format!("unfinished {}", path.display()))?;
        }
        for (what, names) in [("blob sha256:", blobs), ("tree ", trees)] {
            for name in names.iter().filter(|_| args.check) {
                drydock_cli::print_line(&format!("{what}{name}"))?;
            }
        }
        drydock_cli::print_line(&match (count, args.check) {
            (0, true) => "nothing that is not needed".to_string(),
            (0, false) => "nothing to remove".to_string(),
            (_, check) => format!(
                "{}: {}, {}, {} unfinished, {}",
                if check { "not needed" } else { "removed" },
                counted(blobs.len(), "blob"),
                counted(trees.len(), "tree"),
                unfinished.len(),
                size::show(*bytes)
            ),
        })?;
    }
    Ok(u8::from(args.check && count > 0))
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
