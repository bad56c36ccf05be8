//! `rootfs busybox`: a root out of one static file.

use crate::{Telling, absolute};
use drydock_cli::Outcome;
use drydock_core::Error;
use drydock_images::busybox::{Request, file_of_url};
use std::path::PathBuf;

/// Make a root file system out of a static busybox: the file, a relative link for each applet, directories and /etc
/// files. The busybox is not run. Without --from and --url the host's own is taken.
#[derive(clap::Args)]
pub struct Args {
    /// The directory; it is made if missing, and what is in it stays.
    dir: PathBuf,
    /// A static busybox.
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    from: Option<PathBuf>,
    /// A static busybox by URL (file:///…); needs --sha256.
    #[arg(long)]
    url: Option<String>,
    /// The file's SHA-256; it is refused if it has another.
    #[arg(long, value_name = "DIGEST")]
    sha256: Option<String>,
    #[command(flatten)]
    telling: Telling,
}

pub fn run(args: &Args) -> Outcome {
    let from = match (&args.from, &args.url) {
        (_, Some(_)) if args.sha256.is_none() => {
            return Err(Error::bad_input("--url", "needs --sha256 (allowed: --url URL --sha256 DIGEST)")
                .hint("take the digest from a source that you trust, not from where the file is")
                .into());
        }
        (_, Some(url)) => Some(file_of_url(url)?),
        (Some(path), None) if path.as_os_str().is_empty() => {
            return Err(Error::bad_input("--from", "'' is not a path (allowed: a static busybox)").into());
        }
        (Some(path), None) => Some(absolute(path, false)?),
        (None, None) => None,
    };
    let request = Request { root: args.dir.clone(), from, sha256: args.sha256.clone() };
    crate::apply(&request.plan()?, args.telling)?;
    Ok(0)
}
