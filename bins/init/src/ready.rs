//! Saying that the command runs: to a descriptor, and to a service manager (sd_notify(3)).

use crate::reaping::Reaping;
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

/// Who is told.
#[derive(Debug, Default)]
pub struct Ready {
    file: RefCell<Option<File>>,
    socket: Option<OsString>,
}

impl Ready {
    /// Takes the descriptor of `--ready-fd` away from the command, and looks for the socket of `--sd-notify`.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`] if the descriptor is not open.
    pub fn open(options: &Reaping) -> Result<Ready> {
        let mut ready = Ready::default();
        if let Some(number) = options.ready_fd {
            let not_open = |_| Error::bad_input("--ready-fd", format!("descriptor {number} is not open"));
            let own: OwnedFd = drydock_core::sys::fd::duplicate_inherited(number).map_err(not_open)?;
            let _ = nix::unistd::close(number);
            ready.file = RefCell::new(Some(own.into()));
        }
        if options.sd_notify {
            ready.socket = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
            if ready.socket.is_none() {
                drydock_cli::output::warn("init", "--sd-notify: $NOTIFY_SOCKET is not set: nobody is told");
            }
        }
        Ok(ready)
    }

    /// Whether anybody is to be told.
    pub fn any(&self) -> bool {
        self.file.borrow().is_some() || self.socket.is_some()
    }

    /// The command runs. A listener that has gone does the command no harm.
    pub fn say(&self) {
        if let Some(mut file) = self.file.take() {
            let _ = file.write_all(b"READY=1\n");
        }
        self.notify(&format!("READY=1\nMAINPID={}\n", std::process::id()));
    }

    /// It has ended.
    pub fn over(&self, code: u8) {
        self.notify(&format!("STOPPING=1\nEXIT_STATUS={code}\n"));
    }

    fn notify(&self, message: &str) {
        if let Some(name) = &self.socket
            && let Err(error) = send(name, message)
        {
            drydock_cli::output::warn("init", &format!("--sd-notify: {error}"));
        }
    }
}

fn send(name: &OsString, message: &str) -> Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(rest) => SocketAddr::from_abstract_name(rest),
        None => SocketAddr::from_pathname(name),
    };
    let address = address.call(|| "$NOTIFY_SOCKET")?;
    let socket = UnixDatagram::unbound().call(|| "socket(AF_UNIX, SOCK_DGRAM)")?;
    socket.set_nonblocking(true).call(|| "fcntl(O_NONBLOCK)")?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop).call(|| format!("sendto({name:?})"))
}
