//! A connection to systemd's manager: through the message bus, or to systemd's own socket where there is no bus.
//! Source: the D-Bus specification; org.freedesktop.systemd1(5).

use super::wire::{Call, FIXED, Kind, Message, Value, message_length};
use drydock_core::error::CallExt;
use drydock_core::text::{escape, escape_bytes, shorten};
use drydock_core::{Error, Result};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

/// How long systemd may take for one thing.
const TIMEOUT: Duration = Duration::from_secs(30);
const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS: &str = "org.freedesktop.DBus";
const JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// Where systemd may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    /// A message bus between us and systemd.
    Bus(Socket),
    /// systemd itself.
    Direct(Socket),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    Path(String),
    Abstract(Vec<u8>),
}

/// An open connection to the system's or the user's manager.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    through_bus: bool,
    serial: u32,
    /// Ends of jobs that came while something else was waited for.
    jobs: Vec<Vec<String>>,
    listening: bool,
}

/// A refusal by systemd: the error's name, and what it says.
#[derive(Debug)]
pub(super) struct Refused {
    pub name: String,
    pub text: String,
}

/// How a call came out.
pub(super) type Answer = std::result::Result<Message, Refused>;

impl Refused {
    /// The name without what all of systemd's have in common.
    pub fn is(&self, short: &str) -> bool {
        self.name.rsplit('.').next() == Some(short)
    }

    /// As an error of ours.
    pub fn into_error(self, object: &str, doing: &str) -> Error {
        let text = shorten(&escape(&self.text), 300);
        Error::failed(object, format!("systemd refuses {doing}: {text} ({})", escape(&self.name)))
            .in_stage("cgroup")
    }
}

impl Bus {
    /// Connects to the system's manager, or the calling user's.
    ///
    /// # Errors
    /// When there is none, saying where it was looked for.
    pub fn connect(user: bool) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let mut first = None;
        for address in addresses(user, env) {
            match Self::open(&address) {
                Ok(bus) => return Ok(bus),
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        let error = first.unwrap_or_else(|| Error::failed("systemd", "has no address"));
        let whose = if user { "the user's" } else { "the system's" };
        Err(error.on(format!("{whose} systemd")).in_stage("cgroup").hint(
            "leave out --scope (cgroupctl run) or --systemd-cgroup (container) where systemd does not run: cgroups are then made by writing to cgroupfs",
        ))
    }

    /// The bus at this socket, for tests.
    #[cfg(test)]
    pub fn at(path: &std::path::Path) -> Result<Self> {
        Self::open(&Address::Bus(Socket::Path(path.display().to_string())))
    }

    fn open(address: &Address) -> Result<Self> {
        let through_bus = matches!(address, Address::Bus(_));
        let mut bus =
            Self { stream: connect(address)?, through_bus, serial: 0, jobs: Vec::new(), listening: false };
        if !bus.authenticate(true)? {
            bus.stream = connect(address)?;
            if !bus.authenticate(false)? {
                let uid = nix::unistd::geteuid();
                return Err(Error::failed("D-Bus", format!("does not let user {uid} in")));
            }
        }
        if through_bus {
            bus.bus_call("Hello", &[])?.map_err(|e| e.into_error("D-Bus", "the connection"))?;
        }
        Ok(bus)
    }

    /// SASL EXTERNAL: the kernel tells the peer who we are; the user id in hexadecimal digits says as whom we come.
    /// In a user namespace our number is another one outside: then the peer is to take what the kernel says. False when
    /// it does not let us in.
    ///
    /// All in one write: systemd reads what has come up to here as a whole, and would leave a message that came with the
    /// last line lying until the next one.
    fn authenticate(&mut self, by_number: bool) -> Result<bool> {
        if by_number {
            let uid = nix::unistd::geteuid().to_string();
            let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
            self.write(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
            return Ok(self.line()?.starts_with("OK"));
        }
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        Ok(self.line()?.starts_with("DATA") && self.line()?.starts_with("OK"))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).call(|| "write(D-Bus socket)")
    }

    /// One line of the authentication, without its end; byte by byte, as messages follow.
    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while line.len() < 1024 {
            let mut byte = [0u8];
            self.stream.read_exact(&mut byte).call(|| "read(D-Bus socket)")?;
            match byte {
                [b'\n'] => return Ok(String::from_utf8_lossy(&line).trim_end().to_string()),
                [other] => line.push(other),
            }
        }
        Err(Error::failed("D-Bus", "the authentication makes no sense"))
    }

    fn receive(&mut self) -> Result<Message> {
        let malformed = || Error::failed("D-Bus", "a message makes no sense").in_stage("cgroup");
        let mut bytes = vec![0u8; FIXED];
        self.stream.read_exact(&mut bytes).call(|| "read(D-Bus socket)").map_err(|e| match e.errno() {
            Some(nix::libc::EAGAIN) => e.because(format!("no answer within {} s", TIMEOUT.as_secs())),
            _ => e,
        })?;
        let length = message_length(&bytes).ok_or_else(malformed)?;
        bytes.resize(length, 0);
        let rest = bytes.get_mut(FIXED..).unwrap_or_default();
        self.stream.read_exact(rest).call(|| "read(D-Bus socket)")?;
        Message::parse(&bytes).ok_or_else(malformed)
    }

    fn call(&mut self, call: &Call<'_>) -> Result<Answer> {
        self.serial = self.serial.wrapping_add(1).max(1);
        let serial = self.serial;
        self.write(&call.to_bytes(serial))?;
        let end = Instant::now() + TIMEOUT;
        while Instant::now() < end {
            let message = self.receive()?;
            match message.kind {
                Kind::Signal => self.keep(&message),
                Kind::Return if message.reply_to == serial => return Ok(Ok(message)),
                Kind::Error if message.reply_to == serial => {
                    let text = message.texts().into_iter().next().unwrap_or_default();
                    return Ok(Err(Refused { name: message.error, text }));
                }
                _ => {}
            }
        }
        Err(Error::failed("systemd", "no answer within 30 s").in_stage("cgroup"))
    }

    fn keep(&mut self, signal: &Message) {
        if signal.member == "JobRemoved" {
            self.jobs.push(signal.texts());
        }
    }

    /// A method of the bus itself.
    fn bus_call(&mut self, member: &str, args: &[Value]) -> Result<Answer> {
        let path = "/org/freedesktop/DBus";
        self.call(&Call { destination: Some(BUS), path, interface: BUS, member, args })
    }

    /// A method of systemd's manager.
    ///
    /// # Errors
    /// When the connection breaks; what systemd says no to is the answer.
    pub fn manager(&mut self, member: &str, args: &[Value]) -> Result<Answer> {
        let destination = self.through_bus.then_some(SYSTEMD);
        self.call(&Call { destination, path: PATH, interface: MANAGER, member, args })
    }

    /// A property, as text, of the manager (`path` none) or of a unit.
    ///
    /// # Errors
    /// When the connection breaks; `None` for a property that is not there or no text.
    pub fn property(&mut self, path: Option<&str>, interface: &str, name: &str) -> Result<Option<String>> {
        let args = [Value::Text(interface.into()), Value::Text(name.into())];
        let answer = self.call(&Call {
            destination: self.through_bus.then_some(SYSTEMD),
            path: path.unwrap_or(PATH),
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            args: &args,
        })?;
        Ok(answer.ok().and_then(|message| message.texts().into_iter().next()))
    }

    /// systemd's version number; 0 when it does not say.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn version(&mut self) -> Result<u32> {
        let text = self.property(None, MANAGER, "Version")?.unwrap_or_default();
        Ok(version_number(&text))
    }

    /// Asks to be told of the ends of jobs. To be called before what begins one.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn listen(&mut self) -> Result<()> {
        if !self.listening {
            if self.through_bus {
                self.bus_call("AddMatch", &[Value::Text(JOBS.into())])?
                    .map_err(|e| e.into_error("D-Bus", "to tell of jobs"))?;
            }
            // Systemd tells nobody anything until somebody has asked for it; asking twice is refused, and no matter.
            let _ = self.manager("Subscribe", &[])?;
            self.listening = true;
        }
        Ok(())
    }

    /// Waits for a job's end: its result, `done` when all is well.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait_for(&mut self, job: &str) -> Result<String> {
        let end = Instant::now() + TIMEOUT;
        loop {
            // Its number comes first and is no text; path, unit, result remain.
            let done = self.jobs.iter().find(|texts| texts.first().is_some_and(|path| path == job));
            if let Some(texts) = done {
                return Ok(texts.get(2).cloned().unwrap_or_default());
            }
            if Instant::now() >= end {
                return Err(Error::failed("systemd", "the job does not end within 30 s").in_stage("cgroup"));
            }
            let message = self.receive()?;
            if message.kind == Kind::Signal {
                self.keep(&message);
            }
        }
    }
}

fn connect(address: &Address) -> Result<UnixStream> {
    let (Address::Bus(socket) | Address::Direct(socket)) = address;
    let stream = match socket {
        Socket::Path(path) => UnixStream::connect(path).call(|| format!("connect({path:?})")),
        Socket::Abstract(name) => SocketAddr::from_abstract_name(name)
            .and_then(|address| UnixStream::connect_addr(&address))
            .call(|| format!("connect(\"@{}\")", escape_bytes(name))),
    }?;
    stream.set_read_timeout(Some(TIMEOUT)).call(|| "setsockopt(SO_RCVTIMEO)")?;
    stream.set_write_timeout(Some(TIMEOUT)).call(|| "setsockopt(SO_SNDTIMEO)")?;
    Ok(stream)
}

/// `252.38-1~deb12u1`, `v245`, `systemd 243`.
fn version_number(text: &str) -> u32 {
    let digits: String =
        text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// The places in the order in which they are tried.
fn addresses(user: bool, env: impl Fn(&str) -> Option<String>) -> Vec<Address> {
    let runtime = || env("XDG_RUNTIME_DIR").unwrap_or(format!("/run/user/{}", nix::unistd::geteuid()));
    let (variable, usual, direct) = if user {
        let runtime = runtime();
        ("DBUS_SESSION_BUS_ADDRESS", format!("{runtime}/bus"), format!("{runtime}/systemd/private"))
    } else {
        ("DBUS_SYSTEM_BUS_ADDRESS", "/run/dbus/system_bus_socket".into(), "/run/systemd/private".into())
    };
    match env(variable) {
        // Said explicitly: only there.
        Some(text) => text.split(';').filter_map(parse_address).map(Address::Bus).collect(),
        None => vec![Address::Bus(Socket::Path(usual)), Address::Direct(Socket::Path(direct))],
    }
}

/// `unix:path=/x,guid=…` or `unix:abstract=x`; other transports are not systemd's.
fn parse_address(text: &str) -> Option<Socket> {
    let pairs = text.strip_prefix("unix:")?.split(',').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find_map(|(key, value)| match key {
        "path" => Some(Socket::Path(String::from_utf8(unescape(value)).ok()?)),
        "abstract" => Some(Socket::Abstract(unescape(value))),
        _ => None,
    })
}

/// `%2f` is a byte.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_systemd_is_looked_for() {
        let none = |_: &str| None;
        assert_eq!(
            addresses(false, none),
            [
                Address::Bus(Socket::Path("/run/dbus/system_bus_socket".into())),
                Address::Direct(Socket::Path("/run/systemd/private".into()))
            ]
        );
        let env = |name: &str| match name {
            "DBUS_SYSTEM_BUS_ADDRESS" => {
                Some("tcp:host=x;unix:abstract=a%2fb,guid=1;unix:path=/p%20q".into())
            }
            "XDG_RUNTIME_DIR" => Some("/r".to_string()),
            _ => None,
        };
        assert_eq!(
            addresses(false, env),
            [Address::Bus(Socket::Abstract(b"a/b".to_vec())), Address::Bus(Socket::Path("/p q".into()))]
        );
        assert_eq!(addresses(true, env)[1], Address::Direct(Socket::Path("/r/systemd/private".into())));
    }

    #[test]
    fn versions() {
        for (text, number) in
            [("252.38-1~deb12u1", 252), ("v245", 245), ("systemd 243", 243), ("", 0), ("x", 0)]
        {
            assert_eq!(version_number(text), number, "{text}");
        }
    }
}
