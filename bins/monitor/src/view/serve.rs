//! `monitor serve --prometheus ADDR`: figures for Prometheus, over a small HTTP server that waits for nobody.
//!
//! One thread, bounded in everything: connections, bytes of a request, time of a request. Who is slow or talks nonsense
//! loses the connection, the others notice nothing.

use crate::Session;
use crate::args::Serve;
use crate::model::metrics;
use crate::model::sampler::Sampler;
use crate::model::units::Unit;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// At once; for one more, the oldest that has not finished its request has to go.
const MAX_CLIENTS: usize = 32;
/// So many are accepted before those who are there are served again.
const MAX_NEW: usize = 16;
/// A request is a line and a few headers.
const MAX_REQUEST: usize = 8 << 10;
/// From the first byte of the request to the last of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Two scrapes within this time get the same figures.
const FRESH: Duration = Duration::from_millis(900);

struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
    until: Instant,
}

/// `monitor serve`.
///
/// # Errors
/// Bad addresses; when it cannot listen there.
pub fn serve(session: &Session, options: &Serve) -> Result<()> {
    let address = options.prometheus;
    if !address.ip().is_loopback() && !options.listen_any {
        return Err(Error::bad_input(
            "--prometheus",
            format!(
                "{address} can be reached from other machines (allowed: 127.0.0.1 or [::1], or any with --listen-any)"
            ),
        ));
    }
    let listener =
        TcpListener::bind(address).call(|| format!("bind({address})")).map_err(|e| match e.errno() {
            Some(nix::libc::EADDRINUSE) => Error::failed(address.to_string(), "is in use by another process"),
            _ => e,
        })?;
    listener.set_nonblocking(true).call(|| "fcntl(O_NONBLOCK)")?;
    let at: SocketAddr = listener.local_addr().call(|| "getsockname()")?;
    drydock_cli::print_line(&format!("http://{at}/metrics"))?;
    let mut figures = Figures::new(session, options.all);
    let mut clients: Vec<Client> = Vec::new();
    loop {
        wait(&listener, &clients)?;
        accept(&listener, &mut clients);
        let now = Instant::now();
        clients.retain_mut(|client| now < client.until && step(client, session, &mut figures));
    }
}

/// Waits for somebody who can be served, or until somebody's time is over.
fn wait(listener: &TcpListener, clients: &[Client]) -> Result<()> {
    let mut fds = Vec::with_capacity(clients.len() + 1);
    fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
    for client in clients {
        let wanted = if client.answer.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLOUT };
        fds.push(PollFd::new(client.stream.as_fd(), wanted));
    }
    let next = clients.iter().map(|c| c.until).min();
    let timeout = next.map_or(PollTimeout::NONE, |until| {
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(Error::call("poll(clients)", e)),
    }
}

fn accept(listener: &TcpListener, clients: &mut Vec<Client>) {
    for _ in 0..MAX_NEW {
        // EMFILE and the like pass: whoever waits is accepted later.
        let Ok((stream, _)) = listener.accept() else { return };
        if stream.set_nonblocking(true).is_ok() {
            if clients.len() >= MAX_CLIENTS {
                // They stand in the order in which they came.
                let oldest = clients.iter().position(|c| c.answer.is_empty()).unwrap_or(0);
                clients.remove(oldest);
            }
            let until = Instant::now() + PATIENCE;
            clients.push(Client { stream, request: Vec::new(), answer: Vec::new(), sent: 0, until });
        }
    }
}

/// Goes on with a client; false when done with it.
fn step(client: &mut Client, session: &Session, figures: &mut Figures) -> bool {
    if client.answer.is_empty() && !hear(client, session, figures) {
        return false;
    }
    while client.sent < client.answer.len() {
        let rest = client.answer.get(client.sent..).unwrap_or_default();
        match client.stream.write(rest) {
            Ok(0) => return false,
            Ok(n) => client.sent += n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return true,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    // All is sent: the end of our side, and nothing more is read.
    if !client.answer.is_empty() {
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        return false;
    }
    true
}

/// Reads what has come; false when the client has gone.
fn hear(client: &mut Client, session: &Session, figures: &mut Figures) -> bool {
    let mut buffer = [0u8; 2048];
    loop {
        match client.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => client.request.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return true,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return false,
        }
        if let Some(answer) = answer(&client.request, session, figures) {
            client.answer = answer;
            return true;
        }
    }
}

/// The answer to a request, once it is whole; `None` until then.
fn answer(request: &[u8], session: &Session, figures: &mut Figures) -> Option<Vec<u8>> {
    let ends = |mark: &[u8]| request.windows(mark.len()).position(|w| w == mark);
    let end = match ends(b"\r\n\r\n").or_else(|| ends(b"\n\n")) {
        Some(end) => end,
        None if request.len() > MAX_REQUEST => {
            return Some(plain("431 Request Header Fields Too Large", "too long\n"));
        }
        None => return None,
    };
    if end > MAX_REQUEST {
        return Some(plain("431 Request Header Fields Too Large", "too long\n"));
    }
    let head = String::from_utf8_lossy(request.get(..end).unwrap_or_default()).into_owned();
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target, version) =
        (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next());
    if !version.is_some_and(|v| v.starts_with("HTTP/1.")) || words.next().is_some() {
        return Some(plain("400 Bad Request", "not HTTP/1\n"));
    }
    if !matches!(method, "GET" | "HEAD") {
        return Some(plain("405 Method Not Allowed", "GET only\n"));
    }
    let path = target.split('?').next().unwrap_or_default();
    let open = head.to_ascii_lowercase().contains("application/openmetrics-text");
    let mut answer = match path {
        "/metrics" => match figures.text(session) {
            Ok(text) => {
                let kind = if open {
                    "application/openmetrics-text; version=1.0.0; charset=utf-8"
                } else {
                    "text/plain; version=0.0.4; charset=utf-8"
                };
                with("200 OK", kind, &text)
            }
            Err(error) => plain("500 Internal Server Error", &format!("{error}\n")),
        },
        "/" => plain("200 OK", "figures are at /metrics\n"),
        _ => plain("404 Not Found", "figures are at /metrics\n"),
    };
    if method == "HEAD" {
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(answer.len(), |n| n + 4);
        answer.truncate(end);
    }
    Some(answer)
}

fn plain(status: &str, text: &str) -> Vec<u8> {
    with(status, "text/plain; charset=utf-8", text)
}

fn with(status: &str, kind: &str, text: &str) -> Vec<u8> {
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), text.as_bytes()].concat()
}

/// The last look, for all who ask within a second.
struct Figures {
    sampler: Sampler,
    all: bool,
    last: Option<(Instant, String)>,
}

impl Figures {
    fn new(session: &Session, all: bool) -> Self {
        Self { sampler: Sampler::new(session.root.as_deref()), all, last: None }
    }

    fn text(&mut self, session: &Session) -> Result<String> {
        if let Some((at, text)) = &self.last
            && at.elapsed() < FRESH
        {
            return Ok(text.clone());
        }
        let started = Instant::now();
        let all = self.all;
        let rows = self.sampler.sample(&session.proc, &|unit: &Unit| all || unit.is_container())?;
        let text = metrics::text(&rows, started.elapsed().as_secs_f64());
        self.last = Some((Instant::now(), text.clone()));
        Ok(text)
    }
}
