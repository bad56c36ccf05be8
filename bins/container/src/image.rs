//! `container run IMAGE`: an image's root file system, and what the image says about its command. The image is hostile:
//! what it says is taken like options of the command line, of which those of the command line win; labels and
//! annotations mean nothing to us.

use crate::options::Options;
use crate::pull::is_remote;
use drydock_core::{Ctx, Error, Result, paths};
use drydock_images::oci::store::platform_of;
use drydock_images::oci::{Image, Platform, Reference, Store};
use drydock_images::unpack;
use drydock_rootfs::rootless;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Options, the command, and whether the options name an image now.
pub struct Resolved {
    /// As they are with the image's words.
    pub options: Options,
    /// The command.
    pub command: Vec<String>,
}

/// What the first word of the command means, where it is left to us: an image (`oci:DIR`, a name in the store), or a
/// directory that becomes the root. Everything else is a program of the default root file system.
fn first_word(options: &mut Options, command: &mut Vec<String>) -> Result<()> {
    let Some(word) = command.first() else { return Ok(()) };
    if options.image.is_some() || options.rootfs.is_some() {
        return Ok(());
    }
    if word.contains('/') && !Reference::is_explicit(word) && is_root(Path::new(word)) {
        options.rootfs = Some(PathBuf::from(command.remove(0)));
    } else if Reference::is_explicit(word)
        || (!word.starts_with(['/', '.']) && (is_tagged(word) || is_remote(word) || is_stored(word)?))
    {
        options.image = Some(command.remove(0));
    }
    Ok(())
}

fn is_root(path: &Path) -> bool {
    path.is_dir() && !path.join("oci-layout").is_file()
}

/// `NAME:TAG` and `NAME@DIGEST` are no programs' names: an image that is not there is to be told of as one.
fn is_tagged(word: &str) -> bool {
    word.contains([':', '@']) && !word.contains(char::is_whitespace)
}

fn is_stored(word: &str) -> Result<bool> {
    let store = Store::at(&paths::data_root()?);
    Ok(store.exists() && store.entry(word)?.is_some())
}

/// Finds out which image is meant, if one is, unpacks it into the store if it is not there yet, and adds what it says to
/// the options. `open`: the first word of the command may be an image.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for an image that is not there or not usable; those of unpacking.
pub fn resolve(options: &Options, command: &[String], open: bool, ctx: &Ctx<'_>) -> Result<Option<Resolved>> {
    if options.image.is_none()
        && options.entrypoint.is_none()
        && !(open && options.rootfs.is_none() && !command.is_empty())
    {
        return Ok(None);
    }
    let (mut options, mut command) = (options.clone(), command.to_vec());
    let before = options.rootfs.is_some();
    if open {
        first_word(&mut options, &mut command)?;
    }
    let Some(word) = options.image.clone() else {
        if let Some(first) = &options.entrypoint {
            command.insert(0, first.clone());
        }
        let changed = options.rootfs.is_some() != before || options.entrypoint.is_some();
        return Ok(changed.then_some(Resolved { options, command }));
    };
    if options.rootfs.is_some() {
        return Err(Error::bad_input("--image", "has its own root (allowed: without --rootfs)"));
    }
    let data = paths::data_root()?;
    let image = crate::pull::image(&word, &options, &data)?;
    warn_of_platform(&image);
    merge(&image, &mut options, &mut command)?;
    let mut progress = Progress::new(&word);
    let tree = tree(&Store::at(&data), &image, ctx, &mut |done, all| {
        progress.at(done, all);
        true
    });
    drop(progress);
    options.tree = Some(tree?);
    Ok(Some(Resolved { options, command }))
}

/// The image's tree; without root with its owners, where there are ids for them.
fn tree(
    store: &Store,
    image: &Image,
    ctx: &Ctx<'_>,
    go_on: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<PathBuf> {
    let ids = &image.config.rootfs.diff_ids;
    if let Some(tree) = store.tree_of(ids) {
        return Ok(tree);
    }
    let made = rootless::within(|| store.tree(image, &unpack::Options::usual(), ctx, go_on).map(drop))?;
    match made.and_then(|()| store.tree_of(ids)) {
        Some(tree) => Ok(tree),
        None => store.tree(image, &unpack::Options::usual(), ctx, go_on),
    }
}

fn warn_of_platform(image: &Image) {
    let (here, there) = (Platform::here(), platform_of(image));
    if !there.architecture.is_empty() && (there.architecture != here.architecture || there.os != here.os) {
        drydock_cli::output::warn("container", &format!("the image is for {there}, this machine is {here}"));
    }
}

/// What the image says, where the command line says nothing.
fn merge(image: &Image, options: &mut Options, command: &mut Vec<String>) -> Result<()> {
    let said = &image.config.config;
    let words = if command.is_empty() && options.entrypoint.is_none() { &said.cmd } else { &*command };
    let first: Vec<String> = match &options.entrypoint {
        Some(word) if word.is_empty() => Vec::new(),
        Some(word) => vec![word.clone()],
        None => said.entrypoint.clone(),
    };
    let whole: Vec<String> = first.into_iter().chain(words.iter().cloned()).collect();
    if whole.is_empty() {
        return Err(Error::bad_input("image", "says no command (allowed: container run IMAGE COMMAND)"));
    }
    *command = whole;
    let inside = &mut options.inside;
    // Before the files' words, which come before those of --env.
    let mut env = said.env.clone();
    for file in std::mem::take(&mut inside.env_file) {
        env.extend(drydock_init::options::env_file(&file)?);
    }
    env.append(&mut inside.env);
    inside.env = env;
    if inside.workdir.is_none() && !said.working_dir.is_empty() {
        // A relative one is taken from the root, as others do.
        inside.workdir = Some(format!("/{}", said.working_dir.trim_start_matches('/')));
    }
    if inside.user.is_none() && !said.user.is_empty() {
        inside.user = Some(said.user.clone());
    }
    if options.stop_signal.is_none() && !said.stop_signal.is_empty() {
        drydock_supervise::signals::parse_signal(&said.stop_signal).map_err(|e| {
            Error::bad_input("image configuration", format!("/config/StopSignal: {}", e.sentence()))
        })?;
        options.stop_signal = Some(said.stop_signal.clone());
    }
    volumes(said.volumes.keys(), options);
    Ok(())
}

/// Each directory that the image calls a volume gets a file system of its own, in memory, with what the image has there;
/// it can be written also where the root cannot.
fn volumes<'v>(dirs: impl Iterator<Item = &'v String>, options: &mut Options) {
    const MAX: usize = 64;
    for dir in dirs.take(MAX) {
        let clean: PathBuf = Path::new("/").join(dir).components().collect();
        let kernel = ["/proc", "/sys", "/dev"].iter().any(|k| clean.starts_with(k));
        let text = clean.to_string_lossy();
        let plain = !text.contains([':', ',', '\\'])
            && !text.split('/').any(|p| p == "..")
            && !text.chars().any(char::is_control);
        if text == "/" || kernel || !plain {
            let shown = drydock_core::text::shorten(&drydock_core::text::escape(dir), 100);
            drydock_cli::output::warn("container", &format!("the image's volume '{shown}' is left out"));
            continue;
        }
        let inside = &options.inside;
        let target =
            |spec: &String, n: usize| spec.split(':').nth(n).map(|d| d.trim_end_matches('/').to_string());
        let taken = inside
            .volume
            .iter()
            .filter_map(|v| target(v, 1))
            .chain(inside.tmpfs.iter().filter_map(|t| target(t, 0)));
        if taken.into_iter().any(|known| known == text) {
            continue;
        }
        options.inside.tmpfs.push(format!("{text}:tmpcopyup,size=1g"));
    }
}

/// How far unpacking is, on a terminal.
struct Progress<'w> {
    name: &'w str,
    shown: Option<u64>,
    terminal: bool,
}

impl<'w> Progress<'w> {
    fn new(name: &'w str) -> Self {
        Self { name, shown: None, terminal: std::io::stderr().is_terminal() }
    }

    fn at(&mut self, done: u64, all: u64) {
        // What is unpacked is about three times what is read.
        let percent = (done.saturating_mul(100) / all.saturating_mul(3).max(1)).min(99);
        if self.terminal && self.shown != Some(percent) {
            self.shown = Some(percent);
            let name = drydock_core::text::shorten(&drydock_core::text::escape(self.name), 50);
            // Nothing depends on it.
            let _ = write!(std::io::stderr(), "\runpacking {name}: {percent}%\x1b[K");
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
