//! The notify descriptor's way to the agent that a profile's `listenerPath` names.
//! Source: the OCI runtime specification (config-linux, "The Container Process State").

use drydock_core::error::CallExt;
use drydock_core::{Error, Kind, Result, text};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};
use serde_json::{Value, json};
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Who takes a profile's notify descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// A stream socket's path.
    pub path: PathBuf,
    /// Text that is passed on to it.
    pub metadata: String,
}

/// How long an agent may take to accept and read: one that does not must not keep a runtime for ever.
const PATIENCE: Duration = Duration::from_secs(10);

impl Listener {
    fn connect(&self) -> Result<UnixStream> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .call(|| "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC)")?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).call(|| "setsockopt(SO_SNDTIMEO)")?;
        let call = || format!("connect({:?})", text::escape(&self.path.to_string_lossy()));
        let address = SocketAddrUnix::new(&self.path).call(call)?;
        connect(&socket, &address).call(call)?;
        Ok(UnixStream::from(socket))
    }

    /// Sends the container process state and the descriptor, over a connection of its own.
    /// `state` is the container's state as `state` prints it, `pid` the filtered process.
    ///
    /// # Errors
    /// When nobody listens, or the agent hangs up.
    pub fn send(&self, state: &Value, pid: i32, notify: BorrowedFd<'_>) -> Result<()> {
        let shown = text::escape(&self.path.to_string_lossy());
        let object = || format!("seccomp.listenerPath {shown}");
        let unreachable = || format!("seccomp.listenerPath {shown}: failed to connect with seccomp agent");
        let message = json!({
            "ociVersion": state.get("ociVersion").cloned().unwrap_or_default(),
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": self.metadata,
            "state": state,
        });
        let bytes = message.to_string().into_bytes();
        let mut socket = self
            .connect()
            .map_err(|e| e.on(unreachable()).with_kind(Kind::Failed).hint("start the seccomp agent first"))?;
        let fds = [notify];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Error::failed(object(), "no space for the descriptor"));
        }
        let sent = sendmsg(socket.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
            .call(|| "sendmsg(SCM_RIGHTS)")
            .map_err(|e| e.on(object()))?;
        socket.write_all(bytes.get(sent..).unwrap_or_default()).call(|| "write()").map_err(|e| e.on(object()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_agent_gets_state_and_descriptor() {
        let dir = std::env::temp_dir().join(format!("drydock-agent-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("socket");
        let listener = Listener { path: path.clone(), metadata: "m".into() };
        let state = json!({"ociVersion": "1.3.0", "id": "c"});
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(listener.send(&state, 7, null.as_fd()).unwrap_err().to_string().contains("seccomp agent"));
        let server = UnixListener::bind(&path).unwrap();
        let agent = std::thread::spawn(move || {
            let mut text = String::new();
            server.accept().unwrap().0.read_to_string(&mut text).unwrap();
            text
        });
        listener.send(&state, 7, null.as_fd()).unwrap();
        let message: Value = serde_json::from_str(&agent.join().unwrap()).unwrap();
        assert_eq!(message["fds"], json!(["seccompFd"]));
        assert_eq!(message["pid"], 7);
        assert_eq!(message["metadata"], "m");
        assert_eq!((&message["ociVersion"], &message["state"]["id"]), (&json!("1.3.0"), &json!("c")));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
