//! `rootfs build` and `rootfs recipes`: root file systems as data.

use crate::{Telling, absolute};
use drydock_cli::{Outcome, output};
use drydock_core::Error;
use drydock_images::copy::Plan;
use drydock_images::recipe::{self, From, Recipe, SHIPPED};
use drydock_images::{busybox, skeleton};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Build a root file system from a recipe: a shipped one (see `rootfs recipes`) or a file.
#[derive(clap::Args)]
pub struct Args {
    /// A recipe's name, or a file (its name has a slash or ends in .recipe).
    recipe: PathBuf,
    /// The directory; it is made, or must be empty.
    dir: PathBuf,
    #[command(flatten)]
    telling: Telling,
}

pub fn run(args: &Args) -> Outcome {
    let recipe = load(&args.recipe)?;
    // The same rule for all kinds: nothing that is there is touched.
    skeleton::Request { root: args.dir.clone(), ..skeleton::Request::default() }.validate()?;
    let plan = match recipe.from {
        From::Host => Plan::creating(args.dir.clone(), recipe.host_steps()?),
        From::Busybox => busybox::Request { root: args.dir.clone(), from: None, sha256: None }.plan()?,
        From::Debian => return crate::deb::build(&args.dir, &recipe),
    };
    crate::apply(&plan, args.telling)?;
    Ok(0)
}

fn load(word: &Path) -> Result<Recipe, Error> {
    let name = word.to_string_lossy();
    if !recipe::is_file(word) {
        return Recipe::shipped(&name);
    }
    let shown = format!("'{}'", drydock_core::text::escape(&name));
    let path = absolute(word, false)?;
    let host = drydock_images::view::View::host()?;
    let bad = |why: String| Error::bad_input(shown.clone(), why);
    let file = host.open(&path).map_err(|e| bad(unreadable(e.raw_os_error())))?;
    let mut text = String::new();
    let limit = u64::try_from(recipe::MAX_BYTES).unwrap_or(u64::MAX);
    let read = file.take(limit + 1).read_to_string(&mut text);
    match read {
        Ok(n) if n <= recipe::MAX_BYTES => Recipe::parse(&name, &text),
        Ok(_) => Err(bad(format!("is larger than {limit} bytes (allowed: a recipe)"))),
        Err(e) => Err(bad(format!("is not a text file: {e}"))),
    }
}

fn unreadable(errno: i32) -> String {
    match errno {
        nix::libc::EINVAL => "is not a regular file (allowed: a recipe)".to_string(),
        nix::libc::EISDIR => "is a directory (allowed: a recipe)".to_string(),
        other => drydock_core::error::errno_text(other),
    }
}

/// List the shipped recipes.
#[derive(clap::Args)]
pub struct RecipesArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn recipes(args: &RecipesArgs) -> Outcome {
    let all = SHIPPED.iter().map(|(name, text)| Recipe::parse(name, text)).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        drydock_cli::print_json(&all)?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = all.iter().map(|r| vec![r.name.clone(), r.about.clone()]).collect();
    drydock_cli::print_text(&output::table(&["RECIPE", "WHAT"], &rows))?;
    Ok(0)
}
