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
/// -S, -G or --preserve-credentials say otherwise.
///
/// Who enters a process's pid, mount or user namespace takes on what holds that process: no_new_privs, capabilities, system
/// call filters, label, cgroup and root directory, with little of the caller's environment, no descriptor, and at a
/// terminal one of its own. --privileged leaves all of that out, as nsenter(1) does. See setns(2), namespaces(7).
#[derive(Parser, Debug)]
#[command(name = "joinns", version, verbatim_doc_comment)]
pub struct Args {
    /// Process to join, or a container's first one; with :INODE, only if its pidfd has that inode (pidfd_open(2), Linux 6.9)
    #[arg(short = 't', long, value_name = "PID[:INODE]|CONTAINER", allow_hyphen_values = true)]
    pub target: Option<String>,
    /// Join all namespaces of the target
    #[arg(short = 'a', long)]
    pub all: bool,
    /// The kinds of namespaces.
    #[command(flatten)]
    pub kinds: Kinds,
    /// Join the network namespace of the target's socket number FD (SIOCGSKNS; pidfd_getfd(2))
    #[arg(short = 'N', long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    pub net_socket: Option<i32>,
    /// Join the user namespace that owns the other one that is joined; with -U the parent of that one (ioctl_ns(2))
    #[arg(long)]
    pub user_parent: bool,
    /// User inside: an id, a name of the target's /etc/passwd, or 'follow' for the target's own [default in a joined user
    /// namespace: 0]; setuid(2)
    #[arg(short = 'S', long, value_name = "UID|NAME|follow", value_parser = parse_id)]
    pub setuid: Option<Id>,
    /// Group inside: an id, a name, or 'follow' [default in a joined user namespace: 0]; setgid(2)
    #[arg(short = 'G', long, value_name = "GID|NAME|follow", value_parser = parse_id)]
    pub setgid: Option<Id>,
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
    /// Set a variable of the command's environment; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    pub setenv: Vec<OsString>,
    /// Do not fork: the command stays outside a joined pid namespace, only its children are inside
    #[arg(short = 'F', long)]
    pub no_fork: bool,
    /// Join the target's cgroups, or fail; cgroups(7)
    #[arg(short = 'c', long)]
    pub join_cgroup: bool,
    /// Take on the target's SELinux context or AppArmor profile, or fail
    #[arg(short = 'Z', long)]
    pub follow_context: bool,
    /// Run with these capabilities only, of those that the target has; may be given again; capabilities(7)
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    pub cap: Vec<String>,
    /// Pass this many descriptors from 3 up on to the command
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1021))]
    pub preserve_fds: u32,
    /// A terminal of the command's own [default at a terminal, if what holds the target is taken on]; pts(4)
    #[arg(long, overrides_with = "no_tty")]
    pub tty: bool,
    /// The caller's streams, even if they are a terminal
    #[arg(long, overrides_with = "tty")]
    pub no_tty: bool,
    /// Keep the caller's privileges, cgroup, environment and terminal, as nsenter(1)
    #[arg(long)]
    pub privileged: bool,
    /// Bring this machine's programs along, for a target that has none: below /.drydock, read-only, seen by the command alone
    #[arg(long)]
    pub tools: bool,
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
    /// Join the mount namespace, of the target or of FILE, or number ID as lsns(8) and monitor show it; mount_namespaces(7)
    #[arg(short = 'm', long, value_name = "FILE|:ID", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    mount: Option<OsString>,
    /// Join the uts namespace: host name; uts_namespaces(7)
    #[arg(short = 'u', long, value_name = "FILE|:ID", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    uts: Option<OsString>,
    /// Join the ipc namespace; ipc_namespaces(7)
    #[arg(short = 'i', long, value_name = "FILE|:ID", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    ipc: Option<OsString>,
    /// Join the network namespace; network_namespaces(7)
    #[arg(short = 'n', long, value_name = "FILE|:ID", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    net: Option<OsString>,
    /// Join the pid namespace; pid_namespaces(7)
    #[arg(short = 'p', long, value_name = "FILE|:ID", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pid: Option<OsString>,
    /// Join the cgroup namespace; cgroup_namespaces(7)
    #[arg(short = 'C', long, value_name = "FILE|:ID", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    cgroup: Option<OsString>,
    /// Join the user namespace; user_namespaces(7)
    #[arg(short = 'U', long, value_name = "FILE|:ID", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    user: Option<OsString>,
    /// Join the time namespace; time_namespaces(7)
    #[arg(short = 'T', long, value_name = "FILE|:ID", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    time: Option<OsString>,
}

/// Where a namespace is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// The target.
    Target,
    /// A file.
    File(PathBuf),
    /// The number of its file, or its identifier.
    Number(u64),
}

impl Kinds {
    /// The kinds that were given.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for a number that is none.
    pub fn given(&self) -> Result<Vec<(Kind, Where)>> {
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
        let given = all.into_iter().filter_map(|(kind, value)| Some((kind, value.as_ref()?)));
        given.map(|(kind, value)| place(kind, value).map(|place| (kind, place))).collect()
    }

    /// Whether any was given with a file or number.
    fn elsewhere(&self) -> bool {
        self.given().is_ok_and(|given| given.iter().any(|(_, place)| *place != Where::Target))
    }
}

fn place(kind: Kind, value: &OsStr) -> Result<Where> {
    let Some(number) = value.as_encoded_bytes().strip_prefix(b":") else {
        return Ok(if value.is_empty() { Where::Target } else { Where::File(value.into()) });
    };
    let digits = std::str::from_utf8(number).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).filter(|n| *n > 0).map(Where::Number).ok_or_else(|| {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(&value.to_string_lossy()), 40);
        Error::bad_input(
            format!("{kind} namespace"),
            format!("'{shown}' is no number (allowed: :NUMBER, such as :4026531840)"),
        )
    })
}

/// A user or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// By number.
    Number(u32),
    /// By name, in the target's files.
    Name(String),
    /// The target's own.
    Follow,
}

impl Args {
    /// Whether the command may come to be seen by the target's processes, or among its files.
    pub fn enters(&self) -> bool {
        let visible = |kind: &Kind| [Kind::Mount, Kind::Pid, Kind::User].contains(kind);
        let container =
            self.target.as_deref().is_some_and(|text| matches!(parse_target(text), Ok(Target::Container(_))));
        let directories = self.root.is_some() || self.wd.is_some();
        let kinds = self.kinds.given().map_or(true, |given| given.iter().any(|(kind, _)| visible(kind)));
        self.all || container || self.named != Named::None || self.user_parent || directories || kinds
    }
}

/// Whether these words, not yet read as options, say that [`Args::enters`] without `--privileged`. Not seeing it costs time
/// only.
pub fn plainly_confined(words: impl IntoIterator<Item = OsString>) -> bool {
    let plain = ["-a", "--all", "-m", "--mount", "-p", "--pid", "-U", "--user"];
    let options: Vec<OsString> = words.into_iter().take_while(|word| word != "--").take(16).collect();
    let has = |known: &str| options.iter().any(|word| word == known);
    plain.into_iter().any(has) && !has("--privileged")
}

fn parse_id(text: &str) -> Result<Id, String> {
    if text == "follow" {
        return Ok(Id::Follow);
    }
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !text.contains(':') {
        return Ok(Id::Name(text.to_string()));
    }
    let id = text.parse::<u32>().ok().filter(|id| *id < u32::MAX && !text.starts_with('+'));
    id.map(Id::Number).ok_or_else(|| "not an id (allowed: 0 to 4294967294, a name, or follow)".to_string())
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
    if args.target.is_some() || args.words.is_empty() || args.kinds.elsewhere() {
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

/// What `-t` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A pid, and the inode of its pidfd if given.
    Process(i32, Option<u64>),
    /// A container.
    Container(String),
}

/// A pid, or a container's name: which begins with a letter, or it would be taken for one.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`].
pub fn parse_target(text: &str) -> Result<Target> {
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(Target::Container(text.to_string()));
    }
    let bad = || {
        let shown = drydock_core::text::shorten(&drydock_core::text::escape(text), 40);
        let allowed = "allowed: PID, PID:INODE, or a container's name";
        Error::bad_input("--target", format!("'{shown}' is not a process id ({allowed})"))
    };
    let (pid, inode) = match text.split_once(':') {
        Some((pid, inode)) => (pid, Some(inode.parse::<u64>().map_err(|_| bad())?)),
        None => (text, None),
    };
    let pid = pid.parse::<i32>().ok().filter(|n| *n > 0 && !pid.starts_with('+')).ok_or_else(bad)?;
    Ok(Target::Process(pid, inode))
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
        assert_eq!((a.words.len(), a.kinds.given().unwrap().len()), (3, 3));
        let a = parsed(&["/proc/self/ns/net", "/proc/self/ns/uts", "/bin/ls", "-l"]);
        assert_eq!(a.words, ["/bin/ls", "-l"]);
        assert!(matches!(a.named, Named::Paths(p) if p.len() == 2));
        let a = parsed(&["/proc/self/ns/net", "/nonexistent/x", "--", "ls"]);
        assert!(matches!(a.named, Named::Paths(p) if p.len() == 2));
        assert_eq!(a.words, ["ls"]);
        let a = parsed(&["web", "-n", "--", "ip", "a"]);
        assert_eq!(
            (a.named, a.words.len(), a.kinds.given().unwrap().len()),
            (Named::Container("web".into()), 2, 1)
        );
        let a = parsed(&["web", "ls", "-l"]);
        assert_eq!((a.named, a.words.len()), (Named::Container("web".into()), 2));
        let a = parsed(&["--net=/run/netns/x", "ls"]);
        assert_eq!((a.named, a.words.len()), (Named::None, 1));
    }

    #[test]
    fn who_is_seen_inside() {
        for words in [
            &["-t", "7", "-a"][..],
            &["-t", "7", "-p"],
            &["-t", "web"],
            &["web"],
            &["/proc/7/ns/pid"],
            &["-t", "7", "-n", "-r"],
        ] {
            assert!(parsed(words).enters(), "{words:?}");
        }
        for words in [&["-t", "7", "-n"][..], &["-t", "7", "-u", "-i", "-C", "-T"], &["--net=/run/netns/x"]] {
            assert!(!parsed(words).enters(), "{words:?}");
        }
        let plainly = |words: &[&str]| plainly_confined(words.iter().map(OsString::from));
        assert!(!plainly(&["--privileged", "-t", "7", "-a"]));
        assert!(plainly(&["-t", "7", "-a", "--", "x"]) && plainly(&["-t", "7", "-n", "--pid"]));
        assert!(!plainly(&["-t", "7", "-n", "--", "-a"]) && !plainly(&["web", "--", "x"]));
    }

    #[test]
    fn pids() {
        assert_eq!(parse_target("12").unwrap(), Target::Process(12, None));
        assert_eq!(parse_target("12:34").unwrap(), Target::Process(12, Some(34)));
        assert_eq!(parse_target("web").unwrap(), Target::Container("web".into()));
        for bad in ["", "0", "-1", "2147483648", "1:x", "+1", "1 "] {
            assert_eq!(parse_target(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
