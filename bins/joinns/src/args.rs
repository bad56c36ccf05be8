//! The command line: nsenter(1)'s flags, or files and container names before the command.

use clap::Parser;
use drydock_cli::args::{Parsed, parse_from};
use drydock_core::{Error, Result};
use drydock_namespaces::Kind;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Join namespaces and run a command there.
///
///   joinns PATH... [--] COMMAND      namespace files, such as /proc/1234/ns/net or /run/netns/blue
///   joinns NAME [--] COMMAND         everything of a Drydock container
///   joinns -t PID -a -- COMMAND      everything of a process; or -m -u -i -n -p -C -U -T one by one
///
/// Namespaces that are shared already are left out. To be inside a pid or time namespace the command is forked; its
/// exit code is passed on, 128+n if signal n ended it. In a joined user namespace it runs as uid and gid 0 unless
/// -S, -G or --preserve-credentials say otherwise. See setns(2), namespaces(7).
#[derive(Parser, Debug)]
#[command(name = "joinns", version, verbatim_doc_comment)]
pub struct Args {
    /// Process to join; with :INODE, only if its pidfd has that inode (pidfd_open(2), Linux 6.9)
    #[arg(short = 't', long, value_name = "PID[:INODE]", allow_hyphen_values = true)]
    pub target: Option<String>,
    /// Join all namespaces of the target
    #[arg(short = 'a', long)]
    pub all: bool,
    /// The kinds of namespaces.
    #[command(flatten)]
    pub kinds: Kinds,
    /// User id inside [default in a joined user namespace: 0]; setuid(2)
    #[arg(short = 'S', long, value_name = "UID", value_parser = parse_id)]
    pub setuid: Option<u32>,
    /// Group id inside [default in a joined user namespace: 0]; setgid(2)
    #[arg(short = 'G', long, value_name = "GID", value_parser = parse_id)]
    pub setgid: Option<u32>,
    /// Keep the caller's ids and groups in a joined user namespace
    #[arg(long, conflicts_with_all = ["setuid", "setgid"])]
    pub preserve_credentials: bool,
    /// Pass the capabilities of a joined user namespace on to a command that is not root; capabilities(7)
    #[arg(long)]
    pub keep_caps: bool,
    /// Root directory: the target's, or DIR; chroot(2)
    #[arg(short = 'r', long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub root: Option<OsString>,
    /// Working directory: the target's, or DIR as seen before joining
    #[arg(short = 'w', long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub wd: Option<OsString>,
    /// Working directory, as seen after joining
    #[arg(short = 'W', long, value_name = "DIR", conflicts_with = "wd")]
    pub wdns: Option<PathBuf>,
    /// Use the target's environment; environ(7)
    #[arg(short = 'e', long)]
    pub env: bool,
    /// Do not fork: the command stays outside a joined pid namespace, only its children are inside
    #[arg(short = 'F', long)]
    pub no_fork: bool,
    /// Join the target's cgroups too; cgroups(7)
    #[arg(short = 'c', long)]
    pub join_cgroup: bool,
    /// Print each step before it is done
    #[arg(long)]
    pub explain: bool,
    /// When the command has ended, print on stderr, as a line of JSON, what was joined and how it ended
    #[arg(long, conflicts_with = "no_fork")]
    pub json: bool,
    /// Directory with the state of containers [default: /run/drydock]
    #[arg(long = "state-root", value_name = "DIR")]
    pub state_root: Option<PathBuf>,
    /// Namespace files or a container's name (without -t), then the command [default: $SHELL or /bin/sh]
    #[arg(trailing_var_arg = true, value_name = "TARGET|COMMAND")]
    pub words: Vec<OsString>,
    /// What was named before the command.
    #[arg(skip)]
    pub named: Named,
}

/// What stands before the command when there is no `-t`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// Nothing.
    #[default]
    None,
    /// Namespace files.
    Paths(Vec<PathBuf>),
    /// A container.
    Container(String),
}

/// The kinds of namespaces, each with an optional file.
#[derive(clap::Args, Debug)]
pub struct Kinds {
    /// Join the mount namespace, of the target or of FILE; mount_namespaces(7)
    #[arg(short = 'm', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    mount: Option<OsString>,
    /// Join the uts namespace: host name; uts_namespaces(7)
    #[arg(short = 'u', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    uts: Option<OsString>,
    /// Join the ipc namespace; ipc_namespaces(7)
    #[arg(short = 'i', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    ipc: Option<OsString>,
    /// Join the network namespace; network_namespaces(7)
    #[arg(short = 'n', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    net: Option<OsString>,
    /// Join the pid namespace; pid_namespaces(7)
    #[arg(short = 'p', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pid: Option<OsString>,
    /// Join the cgroup namespace; cgroup_namespaces(7)
    #[arg(short = 'C', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    cgroup: Option<OsString>,
    /// Join the user namespace; user_namespaces(7)
    #[arg(short = 'U', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    user: Option<OsString>,
    /// Join the time namespace; time_namespaces(7)
    #[arg(short = 'T', long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    time: Option<OsString>,
}

impl Kinds {
    /// The kinds that were given; `None` as the file means the target's.
    pub fn given(&self) -> Vec<(Kind, Option<PathBuf>)> {
        let all = [
            (Kind::User, &self.user),
            (Kind::Mount, &self.mount),
            (Kind::Pid, &self.pid),
            (Kind::Network, &self.net),
            (Kind::Ipc, &self.ipc),
            (Kind::Uts, &self.uts),
            (Kind::Cgroup, &self.cgroup),
            (Kind::Time, &self.time),
        ];
        let file = |f: &OsString| (!f.is_empty()).then(|| PathBuf::from(f));
        all.into_iter().filter_map(|(kind, value)| Some((kind, file(value.as_ref()?)))).collect()
    }
}

fn parse_id(text: &str) -> Result<u32, String> {
    let id = text.parse::<u32>().ok().filter(|id| *id < u32::MAX && !text.starts_with('+'));
    id.ok_or_else(|| "not an id (allowed: 0 to 4294967294)".to_string())
}

/// Parses the process's arguments.
///
/// # Errors
/// One sentence about what is wrong.
pub fn parse() -> Result<Parsed<Args>> {
    parse_words(std::env::args_os().collect())
}

/// Parses given arguments. Options may also stand between a target and `--`.
pub(crate) fn parse_words(argv: Vec<OsString>) -> Result<Parsed<Args>> {
    let mut args = match parse_from::<Args>(argv.clone())? {
        Parsed::Args(args) => args,
        done => return Ok(done),
    };
    if args.target.is_some() || args.words.is_empty() || !args.kinds.given().iter().all(|(_, f)| f.is_none())
    {
        return Ok(Parsed::Args(args));
    }
    let options = argv.len().saturating_sub(args.words.len());
    if options.checked_sub(1).and_then(|last| argv.get(last)).is_some_and(|w| w == "--") {
        // All that follows is the command.
        return Ok(Parsed::Args(args));
    }
    let (named, rest) = split_targets(&args.words)?;
    if rest.first().is_some_and(|w| w.as_encoded_bytes().starts_with(b"-") && w != "--") {
        let mut again: Vec<OsString> = argv.into_iter().take(options).collect();
        again.extend(rest);
        args = match parse_from::<Args>(again)? {
            Parsed::Args(args) => args,
            done => return Ok(done),
        };
    } else {
        let skip = usize::from(rest.first().is_some_and(|w| w == "--"));
        args.words = rest.into_iter().skip(skip).collect();
    }
    args.named = named;
    Ok(Parsed::Args(args))
}

/// Splits leading namespace files, or one container name, from the rest.
fn split_targets(words: &[OsString]) -> Result<(Named, Vec<OsString>)> {
    let Some(first) = words.first() else { return Ok((Named::None, Vec::new())) };
    if !has_slash(first) {
        let name = first.to_string_lossy().into_owned();
        return Ok((Named::Container(name), words.iter().skip(1).cloned().collect()));
    }
    // Before `--` all are targets, good or bad; without it, those that are namespace files.
    let dashes = words.iter().position(|w| w == "--");
    let mut paths = vec![PathBuf::from(first)];
    for (i, word) in words.iter().enumerate().skip(1) {
        let option = word.as_encoded_bytes().starts_with(b"-");
        let before_dashes = dashes.is_some_and(|at| i < at && words.iter().take(at).all(|w| has_slash(w)));
        let is_target = before_dashes
            || (has_slash(word) && drydock_namespaces::nsfile::is_namespace_file(Path::new(word)));
        if option || !is_target {
            break;
        }
        paths.push(PathBuf::from(word));
    }
    let rest = words.iter().skip(paths.len()).cloned().collect();
    Ok((Named::Paths(paths), rest))
}

fn has_slash(word: &OsStr) -> bool {
    word.as_encoded_bytes().contains(&b'/')
}

/// A pid and the inode of its pidfd, if given.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn parse_target(text: &str) -> Result<(i32, Option<u64>)> {
    let bad = || {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
        Error::bad_input("--target", format!("'{shown}' is not a process id (allowed: PID or PID:INODE)"))
    };
    let (pid, inode) = match text.split_once(':') {
        Some((pid, inode)) => (pid, Some(inode.parse::<u64>().map_err(|_| bad())?)),
        None => (text, None),
    };
    let pid = pid.parse::<i32>().ok().filter(|n| *n > 0 && !pid.starts_with('+')).ok_or_else(bad)?;
    Ok((pid, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Args {
        let argv = std::iter::once("joinns").chain(words.iter().copied()).map(OsString::from).collect();
        match parse_words(argv) {
            Ok(Parsed::Args(args)) => args,
            Ok(Parsed::Done(code)) => panic!("done {code}"),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn targets_and_commands() {
        let a = parsed(&["-t", "7", "-n", "--", "ip", "-o", "a"]);
        assert_eq!((a.words.len(), a.named), (3, Named::None));
        let a = parsed(&["-t", "7", "-mup", "ip", "--", "x"]);
        assert_eq!((a.words.len(), a.kinds.given().len()), (3, 3));
        let a = parsed(&["/proc/self/ns/net", "/proc/self/ns/uts", "/bin/ls", "-l"]);
        assert_eq!(a.words, ["/bin/ls", "-l"]);
        assert!(matches!(a.named, Named::Paths(p) if p.len() == 2));
        let a = parsed(&["/proc/self/ns/net", "/nonexistent/x", "--", "ls"]);
        assert!(matches!(a.named, Named::Paths(p) if p.len() == 2));
        assert_eq!(a.words, ["ls"]);
        let a = parsed(&["web", "-n", "--", "ip", "a"]);
        assert_eq!((a.named, a.words.len(), a.kinds.given().len()), (Named::Container("web".into()), 2, 1));
        let a = parsed(&["web", "ls", "-l"]);
        assert_eq!((a.named, a.words.len()), (Named::Container("web".into()), 2));
        let a = parsed(&["--net=/run/netns/x", "ls"]);
        assert_eq!((a.named, a.words.len()), (Named::None, 1));
    }

    #[test]
    fn pids() {
        assert_eq!(parse_target("12").unwrap(), (12, None));
        assert_eq!(parse_target("12:34").unwrap(), (12, Some(34)));
        for bad in ["", "0", "-1", "abc", "2147483648", "1:x", "+1", "1 "] {
            assert_eq!(parse_target(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
