//! One repository of one registry: requests with whatever the registry wants to know of us.

use super::auth::{self, Challenge};
use super::names::Names;
use super::{Access, refused, shown};
use drydock_core::{Error, Result};
use drydock_images::oci::reference::Name;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, SendBody};

/// Answers in JSON, at most.
const MAX_ANSWER: u64 = 4 << 20;

/// See the module. Shared by the threads that work at once.
pub struct Client {
    agent: Agent,
    name: Name,
    scheme: &'static str,
    host: String,
    basic: Option<String>,
    scope: String,
    /// The Authorization header that worked last.
    authorization: Mutex<Option<String>>,
}

/// What is asked.
pub struct Ask<'a> {
    /// GET, HEAD, POST, PUT.
    pub method: &'a str,
    /// Below `/v2/REPOSITORY`, or a whole URL.
    pub path: &'a str,
    /// Further headers.
    pub headers: Vec<(&'a str, String)>,
}

impl Client {
    /// For one repository. `push`: also to write.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] for files that cannot be read; no answer at all.
    pub fn new(name: &Name, push: bool, access: &Access) -> Result<Self> {
        let verbs = if push { "pull,push" } else { "pull" };
        let scope = format!("repository:{}:{verbs}", name.repository);
        Self::with(name, scope, auth::basic(&name.host, access)?, access)
    }

    /// With a password of the caller's, for no repository.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn of_host(name: &Name, basic: String, access: &Access) -> Result<Self> {
        Self::with(name, String::new(), Some(basic), access)
    }

    fn with(name: &Name, scope: String, basic: Option<String>, access: &Access) -> Result<Self> {
        let host =
            if name.host == "docker.io" { "registry-1.docker.io".to_string() } else { name.host.clone() };
        let bare = host.rsplit_once(':').map_or(host.as_str(), |(h, _)| h);
        let own = bare == "localhost" || bare == "[::1]" || bare.starts_with("127.");
        let tls = TlsConfig::builder().root_certs(roots(access)?).disable_verification(!access.tls_verify);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("drydock/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .timeout_per_write(Some(Duration::from_secs(60)))
            .tls_config(tls.build())
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), Names);
        let mut client = Self {
            agent,
            scheme: "https",
            host,
            basic,
            scope,
            authorization: Mutex::new(None),
            name: name.clone(),
        };
        // This machine's own registries, and those that are said to be so, may speak plain HTTP.
        if own || !access.tls_verify {
            let secure = client.agent.get(format!("https://{}/v2/", client.host)).call();
            // One that speaks TLS, but that nobody vouches for, is not spoken to in clear text.
            if secure.is_err_and(|e| !e.to_string().contains("certificate")) {
                client.scheme = "http";
            }
        }
        Ok(client)
    }

    /// The image that it is asked for.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// A URL in the repository.
    pub fn url(&self, path: &str) -> String {
        if path.starts_with("http://") || path.starts_with("https://") {
            return path.to_string();
        }
        if path.starts_with('/') {
            return format!("{}://{}{path}", self.scheme, self.host);
        }
        format!("{}://{}/v2/{}/{path}", self.scheme, self.host, self.name.repository)
    }

    fn failed(&self, error: &ureq::Error) -> Error {
        let text = drydock_core::text::shorten(&drydock_core::text::escape(&error.to_string()), 300);
        let failed = Error::failed(shown(&self.name), format!("{}: {text}", self.host));
        match error {
            ureq::Error::HostNotFound => failed.hint("no such host, or no name server answers"),
            _ if error.to_string().contains("certificate") => {
                failed.hint("--ca FILE adds an authority, --tls-verify=false takes any certificate")
            }
            _ => failed,
        }
    }

    /// Asks; where the registry wants a token or password, gets it and asks again. `body` is called for each try.
    ///
    /// # Errors
    /// No answer.
    pub fn ask<'b>(
        &self,
        ask: &Ask<'_>,
        mut body: impl FnMut() -> Result<Option<SendBody<'b>>>,
    ) -> Result<Response<Body>> {
        let mut tried = false;
        loop {
            let authorization = self.authorization.lock().map_or(None, |a| a.clone());
            let response = self.once(ask, authorization.as_deref(), body()?)?;
            if response.status().as_u16() != 401 || tried {
                return Ok(response);
            }
            tried = true;
            let new = self.authorize(&response)?;
            if let Ok(mut known) = self.authorization.lock() {
                *known = Some(new);
            }
        }
    }

    fn once(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&str>,
        body: Option<SendBody<'_>>,
    ) -> Result<Response<Body>> {
        let url = self.url(ask.path);
        let mut request = ureq::http::Request::builder().method(ask.method).uri(&url);
        for (key, value) in &ask.headers {
            request = request.header(*key, value);
        }
        // Only to the registry itself: where it sends us may be somebody else's.
        let own = url.starts_with(&format!("{}://{}/", self.scheme, self.host));
        if let Some(value) = authorization.filter(|_| own) {
            request = request.header("Authorization", value);
        }
        let bad = |e: ureq::http::Error| {
            Error::failed(shown(&self.name), drydock_core::text::escape(&e.to_string()))
        };
        let answer = match body {
            Some(body) => self.agent.run(request.body(body).map_err(bad)?),
            None => self.agent.run(request.body(()).map_err(bad)?),
        };
        answer.map_err(|e| self.failed(&e))
    }

    fn authorize(&self, response: &Response<Body>) -> Result<String> {
        let headers = response.headers().get_all("www-authenticate");
        let challenge = headers.iter().filter_map(|h| h.to_str().ok()).find_map(Challenge::parse);
        let Some(challenge) = challenge else {
            return self.basic.clone().ok_or_else(|| refused(&self.name, 401, ""));
        };
        // A password never goes unprotected to a place that a protected one has named.
        if self.scheme == "https" && !challenge.realm.starts_with("https://") {
            return Err(Error::failed(
                shown(&self.name),
                "the registry sends us to an unprotected token server",
            ));
        }
        let mut request = self.agent.get(challenge.url(&self.scope));
        if let Some(basic) = &self.basic {
            request = request.header("Authorization", basic);
        }
        let answer = request.call().map_err(|e| self.failed(&e))?;
        let status = answer.status().as_u16();
        let body = self.text(answer)?;
        if status != 200 {
            return Err(refused(&self.name, status, &String::from_utf8_lossy(&body)));
        }
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = value.get("token").or(value.get("access_token")).and_then(|t| t.as_str());
        token
            .map(|t| format!("Bearer {t}"))
            .ok_or_else(|| Error::failed(shown(&self.name), "the token server gives no token"))
    }

    /// A short answer, whole.
    ///
    /// # Errors
    /// More than 4 MiB; the connection's.
    pub fn text(&self, response: Response<Body>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let read = reader.take(MAX_ANSWER + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::failed(shown(&self.name), drydock_core::text::escape(&e.to_string())))?;
        if bytes.len() as u64 > MAX_ANSWER {
            return Err(Error::bad_input(
                shown(&self.name),
                format!("an answer has more than {MAX_ANSWER} bytes"),
            ));
        }
        Ok(bytes)
    }
}

/// The system's authorities, where it has a file of them, else Mozilla's, which are part of the program; with `--ca` those,
/// too.
fn roots(access: &Access) -> Result<RootCerts> {
    const BUNDLES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let read = |text: &[u8]| -> Vec<Certificate<'static>> {
        let certificate = |item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        };
        parse_pem(text).filter_map(certificate).collect()
    };
    let mut all =
        BUNDLES.iter().find_map(|path| std::fs::read(path).ok()).map(|t| read(&t)).unwrap_or_default();
    if let Some(path) = &access.ca {
        let shown = drydock_core::text::escape(&path.to_string_lossy());
        let text = std::fs::read(path).map_err(|e| Error::bad_input("--ca", format!("'{shown}': {e}")))?;
        let own = read(&text);
        if own.is_empty() {
            return Err(Error::bad_input("--ca", format!("'{shown}' has no certificate (allowed: PEM)")));
        }
        all.extend(own);
    }
    Ok(if all.is_empty() { RootCerts::WebPki } else { RootCerts::Specific(Arc::new(all)) })
}
