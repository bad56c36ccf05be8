//! `rootfs deb`: Debian, by the tool that Debian has for it.

use drydock_cli::Outcome;
use drydock_core::Error;
use drydock_core::text::{escape, shorten};
use drydock_images::recipe::Recipe;
use drydock_images::skeleton;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the tools are; the caller's PATH is not asked.
const MMDEBSTRAP: [&str; 2] = ["/usr/bin/mmdebstrap", "/usr/local/bin/mmdebstrap"];
const DEBOOTSTRAP: [&str; 2] = ["/usr/sbin/debootstrap", "/usr/local/sbin/debootstrap"];

/// Make a Debian or Ubuntu root file system with mmdebstrap(1) or debootstrap(8), whichever is installed.
#[derive(clap::Args)]
pub struct Args {
    /// The directory; it is made, or must be empty.
    dir: PathBuf,
    /// Release: bookworm, trixie, stable, noble, …
    #[arg(long)]
    suite: String,
    /// Which packages: minbase, or what the tool knows.
    #[arg(long, default_value = "minbase")]
    variant: String,
    /// Where packages come from: http://, https:// or file:///.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    debian(&args.dir, &args.suite, &args.variant, args.mirror.as_deref(), args.json)
}

/// A recipe made from Debian packages.
pub fn build(dir: &Path, recipe: &Recipe) -> Outcome {
    let suite = recipe.suite.as_deref().unwrap_or("stable");
    debian(dir, suite, recipe.variant.as_deref().unwrap_or("minbase"), recipe.mirror.as_deref(), false)
}

fn debian(dir: &Path, suite: &str, variant: &str, mirror: Option<&str>, json: bool) -> Outcome {
    word("--suite", suite)?;
    word("--variant", variant)?;
    if let Some(mirror) = mirror {
        url(mirror)?;
    }
    let dir = crate::absolute(dir, false)?;
    skeleton::Request { root: dir.clone(), ..skeleton::Request::default() }.validate()?;
    let tool =
        MMDEBSTRAP.iter().chain(&DEBOOTSTRAP).find(|path| Path::new(path).is_file()).ok_or_else(|| {
            Error::failed("deb", "neither mmdebstrap nor debootstrap is installed")
                .hint("apt-get install mmdebstrap, or build from this host with: rootfs build host-tools DIR")
        })?;
    let mut command = Command::new(tool);
    command.arg(format!("--variant={variant}")).arg(suite).arg(&dir).args(mirror);
    // What it prints is progress: standard output is for results.
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    let status = command.status().map_err(|e| Error::call(format!("execve({tool:?})"), e))?;
    if !status.success() {
        let problem = format!("{tool} failed ({status})");
        return Err(Error::failed(dir.to_string_lossy(), problem).hint("its own messages are above").into());
    }
    if json {
        let report = json!({ "directory": dir, "suite": suite, "variant": variant, "tool": tool });
        drydock_cli::print_json(&report)?;
        return Ok(0);
    }
    drydock_cli::print_line(&format!("{}: {suite} ({variant}) by {tool}", dir.display()))?;
    Ok(0)
}

/// A word that cannot be taken for an option.
fn word(option: &str, text: &str) -> Result<(), Error> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '+');
    if !text.is_empty() && text.len() <= 64 && text.chars().all(good) && !text.starts_with(['-', '.']) {
        return Ok(());
    }
    let shown = shorten(&escape(text), 40);
    Err(Error::bad_input(option, format!("'{shown}' is not a name (allowed: letters, digits and - . _ +)")))
}

fn url(text: &str) -> Result<(), Error> {
    let known = ["http://", "https://", "file:///", "copy:///"].iter().any(|scheme| text.starts_with(scheme));
    if known && !text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Ok(());
    }
    let shown = shorten(&escape(text), 80);
    Err(Error::bad_input(
        "--mirror",
        format!("'{shown}' is not a mirror (allowed: http://, https://, file:///)"),
    ))
}
