//! The supervisor's loop, and the conversation with `container attach`, over a socket in the state directory.
//!
//! A frame is one byte of kind, four of length (big endian), then the bytes. To the client: 1 output, 2 error output.
//! To the supervisor: 0 input, 3 end of input, 4 window size (rows, columns: two bytes each).

mod client;
mod serve;

use std::os::fd::AsRawFd;
use std::path::Path;

pub use client::client;
pub use serve::serve;

/// The log's name in the state directory.
pub const LOG: &str = "log";
/// The socket's name in the state directory.
pub const SOCKET: &str = "attach";
/// Longer frames are not ours.
const MAX_FRAME: usize = 1 << 16;

/// Binds or connects without the length limit of socket addresses: through a descriptor of the directory.
pub fn at_socket<T>(dir: &Path, act: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    let dir = std::fs::File::open(dir)?;
    act(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(SOCKET))
}

/// Appends a frame.
pub fn frame(to: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    for piece in bytes.chunks(MAX_FRAME) {
        to.push(kind);
        to.extend_from_slice(&u32::try_from(piece.len()).unwrap_or(0).to_be_bytes());
        to.extend_from_slice(piece);
    }
    if bytes.is_empty() {
        to.extend_from_slice(&[kind, 0, 0, 0, 0]);
    }
}

/// Takes a whole frame from the front. A length beyond the limit empties the buffer: the stream is not ours.
pub fn next_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (kind, length) = match buffer.as_slice() {
        [kind, a, b, c, d, ..] => (*kind, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        _ => return None,
    };
    if length > MAX_FRAME {
        buffer.clear();
        return None;
    }
    let bytes = buffer.get(5..5 + length)?.to_vec();
    buffer.drain(..5 + length);
    Some((kind, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_whole() {
        let mut buffer = Vec::new();
        frame(&mut buffer, 1, b"hello");
        frame(&mut buffer, 3, b"");
        let rest = buffer.split_off(7);
        assert!(next_frame(&mut buffer).is_none(), "half a frame waits");
        buffer.extend(rest);
        assert_eq!(next_frame(&mut buffer), Some((1, b"hello".to_vec())));
        assert_eq!(next_frame(&mut buffer), Some((3, Vec::new())));
        let mut hostile = vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2];
        assert!(next_frame(&mut hostile).is_none() && hostile.is_empty());
    }
}
