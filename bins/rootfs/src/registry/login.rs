//! `rootfs login` and `rootfs logout`: a registry's password into the file where `pull` and `push` look for it, and out of
//! it. Source: containers-auth.json(5).

use super::client::{Ask, Client};
use super::{Access, auth};
use drydock_cli::Outcome;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result, text};
use drydock_images::oci::reference::Name;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use serde_json::{Map, Value, json};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Log in to a registry: the password is tried, and then kept for `pull`, `push` and `container run` in --authfile, or where
/// podman login keeps it: $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json (as root /run/containers/0/auth.json).
#[derive(clap::Args)]
pub struct LoginArgs {
    /// HOST[:PORT] [default: docker.io]
    #[arg(default_value = "docker.io")]
    registry: String,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password; other users may see it among the processes: --password-stdin is better
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    access: Access,
}

/// Forget a registry's password that `login` has kept.
#[derive(clap::Args)]
pub struct LogoutArgs {
    /// HOST[:PORT] [default: docker.io]
    #[arg(default_value = "docker.io")]
    registry: String,
    #[command(flatten)]
    access: Access,
}

/// See [`LoginArgs`].
pub fn login(args: &LoginArgs) -> Outcome {
    let name = registry(&args.registry)?;
    let file = auth::file(&args.access)?;
    // Read before anything is asked: a damaged file is no place for a password.
    known(&file)?;
    let (user, password) = (user(args)?, password(args)?);
    let header = auth::header(&user, &password);
    let client = Client::of_host(&name, header.clone(), &args.access)?;
    let response = client.ask(&Ask { method: "GET", path: "/v2/", headers: Vec::new() }, || Ok(None))?;
    match response.status().as_u16() {
        200 => {}
        401 | 403 => {
            return Err(Error::failed(&name.host, "does not take this user name and password").into());
        }
        status => {
            return Err(
                Error::failed(&name.host, format!("answered HTTP {status} (wanted: a registry)")).into()
            );
        }
    }
    let word = header.trim_start_matches("Basic ");
    change(&file, |auths| drop(auths.insert(name.host.clone(), json!({ "auth": word }))))?;
    drydock_cli::print_line(&format!("{}: logged in as {user}", name.host))?;
    Ok(0)
}

/// See [`LogoutArgs`].
pub fn logout(args: &LogoutArgs) -> Outcome {
    let name = registry(&args.registry)?;
    let file = auth::file(&args.access)?;
    let mut found = false;
    if known(&file)?.get("auths").and_then(|a| a.get(&name.host)).is_some() {
        change(&file, |auths| found = auths.remove(&name.host).is_some())?;
    }
    if !found {
        let shown = text::escape(&file.to_string_lossy());
        return Err(Error::bad_input(&name.host, format!("has no password in {shown}")).into());
    }
    drydock_cli::print_line(&format!("{}: logged out", name.host))?;
    Ok(0)
}

/// A registry's name, with or without the scheme that people copy along.
fn registry(word: &str) -> Result<Name> {
    let host = word.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let host = host.trim_end_matches("/v1").trim_end_matches("/v2").trim_end_matches('/');
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let good = |c: char| c.is_ascii_alphanumeric() || "._-:[]".contains(c);
    if host.is_empty() || host.len() > 255 || host.starts_with(['-', '.']) || !host.chars().all(good) {
        let shown = text::shorten(&text::escape(word), 100);
        return Err(Error::bad_input(format!("registry '{shown}'"), "is no host (allowed: HOST[:PORT])"));
    }
    Ok(Name { host: host.into(), repository: String::new(), tag: None, digest: None })
}

fn user(args: &LoginArgs) -> Result<String> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("Username: ", true)?
            .ok_or_else(|| Error::bad_input("--username", "is missing (nobody to ask)"))?,
    };
    if user.is_empty() || user.contains([':', '\n', '\0']) {
        return Err(Error::bad_input("--username", "is empty or has a colon (allowed: a name)"));
    }
    Ok(user)
}

fn password(args: &LoginArgs) -> Result<String> {
    if args.password_stdin {
        let mut all = String::new();
        let read = std::io::stdin().lock().take(64 << 10).read_to_string(&mut all);
        read.call(|| "read(0)")?;
        return Ok(all.trim_end_matches(['\n', '\r']).to_string());
    }
    match &args.password {
        Some(password) => Ok(password.clone()),
        None => ask("Password: ", false)?.ok_or_else(|| {
            Error::bad_input("password", "is missing (allowed: --password-stdin, or a terminal to ask on)")
        }),
    }
}

/// Asks whoever is on the terminal. `None`: nobody is.
fn ask(prompt: &str, echo: bool) -> Result<Option<String>> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    let before = tcgetattr(&stdin).call(|| "tcgetattr(0)")?;
    if !echo {
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&stdin, SetArg::TCSAFLUSH, &quiet).call(|| "tcsetattr(0, ~ECHO)")?;
    }
    drydock_cli::output::print_error_text(prompt);
    let mut line = String::new();
    let read = stdin.lock().take(64 << 10).read_line(&mut line);
    if !echo {
        tcsetattr(&stdin, SetArg::TCSANOW, &before).call(|| "tcsetattr(0)")?;
        drydock_cli::output::print_error_text("\n");
    }
    read.call(|| "read(0)")?;
    Ok(Some(line.trim_end_matches(['\n', '\r']).to_string()))
}

fn known(file: &Path) -> Result<Map<String, Value>> {
    let shown = || text::escape(&file.to_string_lossy());
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(Error::call(format!("open({file:?})"), e)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) if map.get("auths").is_none_or(Value::is_object) => Ok(map),
        _ => Err(Error::bad_input(
            shown(),
            "is no file of passwords (allowed: {\"auths\": {…}}, or a new file)",
        )),
    }
}

/// Changes the passwords and puts the file in its place whole, readable by its owner only.
fn change(file: &Path, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
    let mut all = known(file)?;
    if let Value::Object(auths) = all.entry("auths").or_insert_with(|| json!({})) {
        edit(auths);
    }
    if let Some(dir) = file.parent().filter(|d| !d.as_os_str().is_empty()) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.call(|| format!("mkdir({dir:?}, 0700)"))?;
    }
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(format!(".new-{}", std::process::id()));
    let temporary = Path::new(&temporary);
    let text = serde_json::to_vec_pretty(&all).map_err(|e| Error::failed("authfile", e.to_string()))?;
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .and_then(|mut f| f.write_all(&text));
    let done = written
        .call(|| format!("write({temporary:?})"))
        .and_then(|()| std::fs::rename(temporary, file).call(|| format!("rename({temporary:?}, {file:?})")));
    if done.is_err() {
        let _ = std::fs::remove_file(temporary);
    }
    done
}
