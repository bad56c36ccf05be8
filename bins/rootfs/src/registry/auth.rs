//! Who we are to a registry: names and passwords of the usual files, and the tokens that a registry's own server gives
//! for them. Sources: containers-auth.json(5), distribution's token specification, RFC 6750.

use super::Access;
use drydock_core::{Error, Result};
use serde_json::Value;
use std::path::PathBuf;

/// The value of an Authorization header with a name and password for a host, if a file has one.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a file that was named and cannot be read.
pub fn basic(host: &str, access: &Access) -> Result<Option<String>> {
    if let Some(path) = &access.authfile {
        let text = std::fs::read(path).map_err(|e| {
            let shown = drydock_core::text::escape(&path.to_string_lossy());
            Error::bad_input("--authfile", format!("'{shown}': {e}"))
        })?;
        let value = serde_json::from_slice(&text)
            .map_err(|e| Error::bad_input("--authfile", drydock_core::text::escape(&e.to_string())))?;
        return Ok(find(&value, host));
    }
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok();
    Ok(usual_files().into_iter().filter_map(read).find_map(|value| find(&value, host)))
}

/// The header of a name and password.
pub fn header(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

/// Where a password is written down: the file that was named, or the first of the usual ones that podman login has.
pub fn file(access: &Access) -> Result<PathBuf> {
    let named = access.authfile.clone();
    named
        .or_else(|| usual_files().into_iter().next())
        .ok_or_else(|| Error::bad_input("--authfile", "is missing, and there is no HOME (allowed: a file)"))
}

fn usual_files() -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut files = Vec::new();
    files.extend(var("REGISTRY_AUTH_FILE"));
    files.extend(var("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")));
    if nix::unistd::geteuid().is_root() {
        files.push("/run/containers/0/auth.json".into());
    }
    let home = var("HOME");
    let config = var("XDG_CONFIG_HOME").or(home.as_ref().map(|h| h.join(".config")));
    files.extend(config.map(|d| d.join("containers/auth.json")));
    files.extend(var("DOCKER_CONFIG").or(home.map(|h| h.join(".docker"))).map(|d| d.join("config.json")));
    files
}

/// `{"auths": {HOST: {"auth": BASE64}}}`
fn find(value: &Value, host: &str) -> Option<String> {
    let names: Vec<&str> = if host == "docker.io" {
        vec!["https://index.docker.io/v1/", "docker.io", "index.docker.io"]
    } else {
        vec![host]
    };
    let auths = value.get("auths")?.as_object()?;
    let entry = names.iter().find_map(|name| {
        auths
            .get(*name)
            .or_else(|| auths.get(&format!("https://{name}")))
            .or_else(|| auths.get(&format!("http://{name}")))
    })?;
    if let (Some(user), Some(password)) = (text(entry, "username"), text(entry, "password")) {
        return Some(header(user, password));
    }
    let auth = text(entry, "auth").filter(|a| !a.is_empty())?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    auth.bytes().all(plain).then(|| format!("Basic {auth}"))
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for n in 0..4 {
            let index = usize::try_from((word >> (18 - 6 * n)) & 63).unwrap_or(0);
            let letter = LETTERS.get(index).copied().unwrap_or(b'=');
            out.push(if n <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// What a `WWW-Authenticate: Bearer realm="…",service="…"` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Where tokens are.
    pub realm: String,
    /// For which service.
    pub service: Option<String>,
    /// For what.
    pub scope: Option<String>,
}

impl Challenge {
    /// Reads one; `None` for other kinds.
    pub fn parse(header: &str) -> Option<Self> {
        let (kind, mut rest) = header.trim().split_once(' ')?;
        if !kind.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut challenge = Self::default();
        while let Some((key, value)) = rest.split_once('=') {
            let value = value.trim_start();
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_once(',').unwrap_or((value, "")),
            };
            match key.trim_matches([' ', ',']) {
                "realm" => challenge.realm = value.into(),
                "service" => challenge.service = Some(value.into()),
                "scope" => challenge.scope = Some(value.into()),
                _ => {}
            }
            rest = after;
        }
        (!challenge.realm.is_empty()).then_some(challenge)
    }

    /// Where to ask for a token.
    pub fn url(&self, scope: &str) -> String {
        let scope = self.scope.as_deref().unwrap_or(scope);
        let words = [("scope", scope), ("service", self.service.as_deref().unwrap_or_default())];
        let mut url = self.realm.clone();
        for (key, value) in words.iter().filter(|(_, value)| !value.is_empty()) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{key}={}", encode(value)));
        }
        url
    }
}

/// Percent-encoding for a query.
fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let header = r#"Bearer realm="https://a/token",service="r.io",scope="repository:x/y:pull,push""#;
        let challenge = Challenge::parse(header).unwrap();
        assert_eq!(challenge.url("z"), "https://a/token?scope=repository:x/y:pull%2Cpush&service=r.io");
        assert_eq!(Challenge::parse("Basic realm=\"x\""), None);
        for bad in ["", "Bearer", "Bearer realm=\"", "Bearer x=y"] {
            assert_eq!(Challenge::parse(bad), None);
        }
    }

    #[test]
    fn passwords() {
        assert_eq!(base64(b"user:pass"), "dXNlcjpwYXNz");
        assert_eq!((base64(b"a"), base64(b"ab")), ("YQ==".into(), "YWI=".into()));
        let value = serde_json::json!({"auths": {"r:5000": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"auth": "eA=="}}});
        assert_eq!(find(&value, "r:5000").unwrap(), "Basic dTpw");
        assert_eq!(find(&value, "docker.io").unwrap(), "Basic eA==");
        assert_eq!(find(&value, "other"), None);
    }
}
