//! What the command is asked to be: the container's first process, changed by the options.

use super::FILE;
use super::descriptors::Passed;
use super::options::Args;
use drydock_bundle::Entry;
use drydock_core::{Error, Result};
use drydock_init::inside;
use drydock_security::{CapSet, Capabilities};
use drydock_supervise::exec::utf8_words;
use std::ffi::OsString;

/// A process, and what is not its own business.
pub struct Asked {
    /// The process.
    pub inside: inside::Request,
    /// Rows and columns of its terminal, if somebody says so.
    pub size: Option<(u16, u16)>,
}

/// The request. `bundle`: the container is one of a bundle, where users are numbers, as in its configuration.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] naming the option; a state that cannot be read.
pub fn of(args: &Args, entry: &Entry, bundle: bool, passed: Passed) -> Result<Asked> {
    let bytes = super::remembered(&entry.dir)?;
    let kept: inside::Request =
        serde_json::from_slice(&bytes).map_err(|e| Error::failed(FILE, format!("corrupt: {e}")))?;
    let first = inside::Request {
        hostname: None,
        domainname: None,
        reaper: false,
        cgroup_namespace: false,
        loopback: false,
        terminal: false,
        make_workdir: false,
        preserve_fds: passed.all,
        ..kept
    };
    let (inside, size) = match &args.process {
        Some(file) => crate::oci::entering(file, &entry.id, first)?,
        None => {
            let words = utf8_words("command", args.command.iter().map(OsString::as_os_str))?;
            (inside::Request { args: words, ..first }, None)
        }
    };
    let mut asked = Asked { inside, size };
    asked.inside.sysctls.clear();
    let request = &mut asked.inside;
    request.terminal |= args.tty;
    environment(args, passed, request)?;
    if args.workdir.is_some() {
        request.workdir.clone_from(&args.workdir);
    }
    if let Some(user) = &args.user {
        if !numeric(user)
            && let Some(first) = &mut request.security.user
        {
            // A name brings its own groups; those of the first process are another user's.
            first.additional_gids.clear();
        }
        request.user = Some(whole_user(user, bundle, request));
    }
    privileges(args, request)?;
    Ok(asked)
}

fn environment(args: &Args, passed: Passed, request: &mut inside::Request) -> Result<()> {
    let options =
        drydock_init::options::Options { env: args.env.clone(), tty: args.tty, ..Default::default() };
    let key = |word: &str| word.split('=').next().unwrap_or_default().to_string();
    let words: Vec<String> = args.env.iter().map(|word| key(word)).collect();
    let added = options.environment()?.into_iter();
    let added = added.filter(|word| words.contains(&key(word)) || (args.tty && key(word) == "TERM"));
    for word in added.chain(passed.environment()) {
        let start = format!("{}=", key(&word));
        request.env.retain(|word| !word.starts_with(&start));
        request.env.push(word);
    }
    Ok(())
}

/// Whether a user is given by its id.
fn numeric(user: &str) -> bool {
    let id = user.split(':').next().unwrap_or_default();
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())
}

/// A number alone changes the user of a bundle's process, not its group; elsewhere the container's passwd file is asked.
fn whole_user(user: &str, bundle: bool, request: &inside::Request) -> String {
    match &request.security.user {
        Some(first) if bundle && numeric(user) && !user.contains(':') => format!("{user}:{}", first.gid),
        _ => user.to_string(),
    }
}

fn privileges(args: &Args, request: &mut inside::Request) -> Result<()> {
    let security = &mut request.security;
    let more = args.cap.iter().try_fold(CapSet::EMPTY, |all, name| {
        CapSet::parse(name).map(|one| all | one).map_err(|e| e.on("--cap"))
    })?;
    if let Some(caps) = &mut security.capabilities {
        *caps = Capabilities {
            bounding: caps.bounding | more,
            effective: caps.effective | more,
            permitted: caps.permitted | more,
            // The kernel keeps ambient only what is inheritable, too, and that is not asked for.
            ambient: caps.ambient | (more & caps.inheritable),
            ..*caps
        };
    }
    security.no_new_privs |= args.no_new_privs;
    for (option, field) in
        [(&args.apparmor, &mut security.apparmor), (&args.process_label, &mut security.selinux)]
    {
        if option.is_some() {
            *field = option.clone().filter(|name| !name.is_empty());
        }
    }
    if !args.additional_gids.is_empty() {
        let user = security.user.get_or_insert_default();
        user.additional_gids.extend(&args.additional_gids);
    }
    Ok(())
}
