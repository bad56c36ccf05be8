//! `container ns`: namespaces that `container unshare --net=FILE` and the like have kept.

use drydock_cli::{Explainer, Outcome, print_json, print_text};
use drydock_core::{Ctx, Result};
use drydock_namespaces::kept::{self, Kept, Remove};
use std::path::{Path, PathBuf};

/// Arguments of `container ns`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// List the namespaces that are kept by a mount of their file; namespaces(7)
    #[command(visible_alias = "ls")]
    List,
    /// Unmount them and remove their files; processes that are inside stay there
    #[command(visible_alias = "remove")]
    Rm {
        /// Print each step before it is done
        #[arg(long)]
        explain: bool,
        /// Their files, as `list` shows them; a name without a slash is one in /run/netns (ip-netns(8)), or else
        /// a file here
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Runs `container ns`.
///
/// # Errors
/// A file at which no namespace is kept; umount2(2)'s.
pub fn run(args: &Args) -> Outcome {
    match &args.what {
        What::List => list(args.json)?,
        What::Rm { files, explain } => {
            // All are checked before the first is touched.
            let steps: Vec<Remove> =
                files.iter().map(|file| Remove::plan(&place(file))).collect::<Result<_>>()?;
            let explainer = Explainer { on: *explain };
            steps.iter().try_for_each(|step| step.apply(&Ctx::new(&explainer, None)))?;
        }
    }
    Ok(0)
}

/// A name is one of ip-netns(8)'s, or else a file in the current directory, as for `unshare --net=NAME`.
fn place(file: &Path) -> PathBuf {
    let named = Path::new("/run/netns").join(file);
    let is_here = file.symlink_metadata().is_ok() && named.symlink_metadata().is_err();
    let is_path = file.to_string_lossy().contains('/');
    if is_path || is_here { file.to_path_buf() } else { named }
}

fn list(json: bool) -> Result<()> {
    let kept = kept::list()?;
    if json {
        let rows: Vec<_> = kept.iter().map(|k| serde_json::json!({ "type": k.kind.proc_name(), "ns": k.inode, "path": k.path.to_string_lossy() })).collect();
        return print_json(&rows);
    }
    let row = |k: &Kept| vec![k.kind.to_string(), k.inode.to_string(), k.path.to_string_lossy().into_owned()];
    let rows: Vec<Vec<String>> = kept.iter().map(row).collect();
    print_text(&drydock_cli::output::table(&["TYPE", "NS", "PATH"], &rows))
}
