//! `rootfs mount` and `rootfs umount`: overlays, bind mounts and tmpfs in the caller's own mount namespace.

use crate::shift::{Holder, Maps};
use drydock_cli::{Explainer, Outcome};
use drydock_core::error::CallExt;
use drydock_core::{ContainerId, Ctx, Error, Journal, Object, Result};
use drydock_mounts::Overlay;
use drydock_mounts::host::{Kind, Report, Request, unmount};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

const NOTES: &str = "\
Needs root. What is mounted stays until 'rootfs umount MNT'; with --owner it is written to that container's journal
first, so that 'container gc' finds it. See mount(2), tmpfs(5), and the kernel's overlayfs.rst.";

/// Mounts an overlay of layers (or, with --bind or --tmpfs, another tree) on a directory. Needs root. What is mounted
/// stays until `rootfs umount`; with --owner it is written to that container's journal first, for `container gc`.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// Read-only layers of an overlay, the topmost first, separated by ':' (write '\:' for a colon in a name);
    /// 'default' is the root file system of `rootfs default`
    #[arg(long, value_name = "DIR[:DIR…]", conflicts_with_all = ["bind", "tmpfs"])]
    lower: Vec<String>,
    /// Writable layer; without one the overlay is read-only
    #[arg(long, value_name = "DIR", requires = "work", requires = "lower")]
    upper: Option<PathBuf>,
    /// Empty directory for the kernel's use, on the same file system as the upper layer
    #[arg(long, value_name = "DIR", requires = "upper")]
    work: Option<PathBuf>,
    /// Make --upper, --work and MNT (with --map-users: MNT) if they are missing, and what they lie in
    #[arg(long)]
    make: bool,
    /// First mount a tmpfs of this size on the directory of --upper, --work and MNT, which are made in it
    #[arg(long, value_name = "SIZE", requires = "upper", requires = "make")]
    scratch: Option<String>,
    /// Never sync the upper layer: faster, for trees that are thrown away
    #[arg(long, requires = "upper")]
    volatile: bool,
    /// Keep the overlay's marks in user.* attributes, as user namespaces need
    #[arg(long, requires = "lower")]
    userxattr: bool,
    /// Bind this file or directory, with all mounts below; 'default' as for --lower
    #[arg(long, value_name = "SRC", conflicts_with = "tmpfs")]
    bind: Option<PathBuf>,
    #[command(flatten)]
    maps: Maps,
    /// Mount a tmpfs with these options, separated by ',': size=64m,nr_inodes=1k,mode=755 (default size 256m)
    #[arg(long, value_name = "OPTIONS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    tmpfs: Option<String>,
    /// Mount it read-only
    #[arg(long)]
    read_only: bool,
    /// The container that the mount belongs to: journalled there
    #[arg(long, value_name = "ID")]
    owner: Option<ContainerId>,
    /// Directory of the containers' state
    #[arg(long, value_name = "DIR", requires = "owner")]
    root: Option<PathBuf>,
    /// Print the mount as JSON
    #[arg(long)]
    json: bool,
    /// Print the step with its system call and why, before doing it
    #[arg(long)]
    explain: bool,
    /// Mount point
    #[arg(value_name = "MNT")]
    target: PathBuf,
}

/// Unmounts what is mounted on MNT. Nothing mounted there is no error.
#[derive(clap::Args)]
pub struct UmountArgs {
    /// Detach now, even if in use; the rest is done when the last user is gone
    #[arg(long)]
    lazy: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Mount points
    #[arg(value_name = "MNT", required = true)]
    targets: Vec<PathBuf>,
}

/// Mounts.
pub fn run(args: Args) -> Outcome {
    let shifted = args.make && args.maps.any();
    if args.make && args.upper.is_none() && !shifted {
        return Err(
            Error::bad_input("--make", "has nothing to make (allowed: with --upper or --map-users)").into()
        );
    }
    let layers = (args.make && !shifted).then(|| overlay(&args)).transpose()?;
    match &layers {
        Some(layers) => layers.check()?,
        None if shifted => drop(source(&args)?),
        None => drop(request(&args)?.validate()?),
    }
    let own = own_layers(&args, layers.as_ref())?;
    let journal = args.owner.as_ref().map(|id| journal(id, args.root.as_deref())).transpose()?;
    let explainer = Explainer { on: args.explain };
    let ctx = Ctx::new(&explainer, journal.as_ref());
    if let (Some(size), Some(layers)) = (&args.scratch, &layers) {
        scratch(size, layers, &ctx)?;
    }
    let made = match &layers {
        Some(layers) => make(layers, &absolute(&args.target)?, own.as_ref(), &ctx)?,
        None if shifted => make(&Overlay::default(), &absolute(&args.target)?, own.as_ref(), &ctx)?,
        None => Vec::new(),
    };
    let report = mount(&args, own.as_ref(), &ctx);
    if report.is_err() {
        drydock_mounts::layers::take_back(&made);
    }
    tell(&report?, args.json)?;
    Ok(0)
}

/// The mount itself. A tree that is shifted lies in a directory that its new owners can enter.
fn mount(args: &Args, own: Option<&Own>, ctx: &Ctx<'_>) -> Result<Report> {
    let mut request = request(args)?;
    let holder = args.maps.any().then(|| args.maps.hold(ctx)).transpose()?;
    if let (Some(_), Some(own)) = (&holder, own) {
        args.maps.give(&own.layers)?;
    }
    request.shift = holder.as_ref().map(Holder::file);
    request.validate()?.apply(ctx)
}

/// Mounts the tmpfs for a writable layer, made if missing, closed to others.
fn scratch(size: &str, layers: &Overlay, ctx: &Ctx<'_>) -> Result<()> {
    let size = drydock_core::size::parse("--scratch", size)?;
    let Some(path) = layers.upper.parent().map(Path::to_path_buf) else {
        return Err(Error::bad_input("--upper", "has no directory above it"));
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&path).call(|| format!("mkdir({path:?}, 0700)"))?;
    let scratch = drydock_mounts::Scratch { path: path.clone(), size };
    Request { kind: Kind::Tmpfs(scratch.options()), target: path, readonly: false, shift: None }
        .validate()?
        .apply(ctx)
        .map(drop)
}

/// The directory among the layers of containers that is the owner's own, and the owner's state directory.
struct Own {
    layers: PathBuf,
    state: PathBuf,
}

fn own_layers(args: &Args, layers: Option<&Overlay>) -> Result<Option<Own>> {
    let Some(id) = &args.owner else { return Ok(None) };
    let inside = match layers {
        Some(overlay) => overlay.upper.clone(),
        None if args.maps.any() => absolute(&args.target)?,
        None => return Ok(None),
    };
    let layers = drydock_core::paths::data_root()?.join("containers").join(id);
    if !inside.starts_with(&layers) || inside == layers {
        return Ok(None);
    }
    let state = drydock_core::paths::state_root(args.root.as_deref())?.join(id);
    let shown = layers.display().to_string();
    match drydock_mounts::layers::owner(&layers) {
        Some(other) if !other.exists() => {
            Err(Error::failed(shown, "has what a dead container left").hint("container gc removes it"))
        }
        Some(other) if other != state => {
            Err(Error::failed(shown, format!("belongs to the container of {}", other.display()))
                .hint("choose another --owner"))
        }
        _ => Ok(Some(Own { layers, state })),
    }
}

/// `--make`. The owner's layers are written down first, and say whose they are: they go with the container.
fn make(overlay: &Overlay, target: &Path, own: Option<&Own>, ctx: &Ctx<'_>) -> Result<Vec<PathBuf>> {
    if let Some(own) = own {
        ctx.record(&Object::Directory { path: own.layers.clone() })?;
    }
    let made = drydock_mounts::layers::make(overlay, target)?;
    if let Some(own) = own {
        drydock_mounts::layers::mark(&own.layers, &own.state)?;
    }
    Ok(made)
}

fn request(args: &Args) -> Result<Request> {
    let target = std::fs::canonicalize(&args.target).map_err(|e| {
        let shown = drydock_core::text::escape(&args.target.to_string_lossy());
        let why = e.raw_os_error().map_or_else(|| e.to_string(), drydock_core::error::errno_text);
        Error::bad_input(
            format!("'{shown}'"),
            format!("cannot be the mount point: {why} (allowed: a path that exists)"),
        )
    })?;
    let kind = match (&args.bind, &args.tmpfs) {
        (Some(_), _) => Kind::Bind(source(args)?),
        (_, Some(options)) => {
            Kind::Tmpfs(options.split(',').filter(|o| !o.is_empty()).map(String::from).collect())
        }
        _ if args.lower.is_empty() => {
            return Err(Error::bad_input(
                "arguments",
                "nothing to mount (allowed: --lower, --bind or --tmpfs)",
            ));
        }
        _ => Kind::Overlay(overlay(args)?),
    };
    Ok(Request { kind, target, readonly: args.read_only, shift: None })
}

/// What `--bind` names.
fn source(args: &Args) -> Result<PathBuf> {
    let given = args.bind.as_deref().unwrap_or(Path::new(""));
    match given.to_str() {
        Some("default") => lower_layer("default"),
        _ => absolute(given),
    }
}

fn overlay(args: &Args) -> Result<Overlay> {
    let lower = args.lower.iter().flat_map(|list| split_layers(list));
    let optional = |path: &Option<PathBuf>| path.as_deref().map_or(Ok(PathBuf::new()), absolute);
    Ok(Overlay {
        lower: lower.map(|layer| lower_layer(&layer)).collect::<Result<_>>()?,
        upper: optional(&args.upper)?,
        work: optional(&args.work)?,
        volatile: args.volatile,
        scratch: None,
        userxattr: args.userxattr,
    })
}

/// A directory, or `default`. A directory of that name is `./default`.
fn lower_layer(layer: &str) -> Result<PathBuf> {
    if layer != "default" {
        return absolute(Path::new(layer));
    }
    let data = drydock_core::paths::data_root()?;
    let path = drydock_images::default::default_path(&data);
    if path.is_dir() {
        return Ok(path);
    }
    let shown = data.display().to_string();
    Err(Error::bad_input("--lower default", format!("there is none in {shown}"))
        .hint("make it: rootfs default"))
}

/// `a:b\:c` is `a` and `b:c`.
fn split_layers(list: &str) -> Vec<String> {
    let mut layers = vec![String::new()];
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, layers.last_mut()) {
            ('\\', Some(last)) if matches!(chars.peek(), Some(':' | '\\')) => last.extend(chars.next()),
            (':', _) => layers.push(String::new()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    layers
}

fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(Error::bad_input("layer or source", "empty (allowed: a path that exists)"));
    }
    std::path::absolute(path).call(|| "getcwd()")
}

/// The owner's journal; its state directory is made if it is missing.
fn journal(id: &ContainerId, root: Option<&Path>) -> Result<Journal> {
    let dir = drydock_core::paths::state_root(root)?.join(id);
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&dir).call(|| format!("mkdir({dir:?}, 0700)"))?;
    let meta = std::fs::symlink_metadata(&dir).call(|| format!("lstat({dir:?})"))?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        let shown = drydock_core::text::escape(&dir.to_string_lossy());
        return Err(Error::failed(
            shown,
            "is not a state directory of ours (must be a directory that only we can write)",
        ));
    }
    Journal::create(&dir)
}

fn tell(report: &Report, json: bool) -> Result<()> {
    if json {
        return drydock_cli::print_json(report);
    }
    let kind = report.mount.as_ref().map_or("mounted", |m| m.fstype.as_str());
    drydock_cli::print_line(&format!("{}: {kind}", report.target.display()))
}

/// Unmounts.
pub fn run_umount(args: UmountArgs) -> Outcome {
    for target in &args.targets {
        if target.as_os_str().is_empty() {
            return Err(Error::bad_input("MNT", "empty (allowed: a mount point)").into());
        }
    }
    let mut done = Vec::new();
    for target in &args.targets {
        // As `rootfs mount` did: a symbolic link stands for what it leads to.
        let real = std::fs::canonicalize(target).unwrap_or_else(|_| target.clone());
        let was_mounted = unmount(&real, args.lazy)?;
        done.push(serde_json::json!({ "target": real, "unmounted": was_mounted }));
        if !was_mounted && !args.json {
            drydock_cli::output::warn("rootfs", &format!("{}: nothing is mounted there", target.display()));
        }
    }
    if args.json {
        drydock_cli::print_json(&done)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::split_layers;

    #[test]
    fn layers() {
        assert_eq!(split_layers("/a:/b"), ["/a", "/b"]);
        assert_eq!(split_layers(r"/a\:b:/c\\d"), ["/a:b", r"/c\d"]);
        assert_eq!(split_layers("/a:"), ["/a", ""]);
    }
}
