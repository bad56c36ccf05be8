//! The terminal: raw, on its second screen, and put back however the program ends.

use super::keys::{self, Key};
use drydock_core::error::CallExt;
use drydock_core::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Mutex, Once};
use std::time::Duration;

/// Second screen, no cursor, no wrapping.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The time is over.
    Tick,
    /// Keys were pressed.
    Keys(Vec<Key>),
    /// The terminal has another size, or the program goes on after a stop.
    Resize,
    /// The terminal is gone.
    Ended,
    /// A signal that ends the program.
    Signal(Signal),
}

/// The terminal that stdin and stdout are.
pub struct Terminal {
    signals: SignalFd,
}

/// The state to put back; also for the hook of a panic.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

impl Terminal {
    /// Takes it over.
    ///
    /// # Errors
    /// tcgetattr(3)'s, signalfd(2)'s.
    pub fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let saved = tcgetattr(&stdin).call(|| "tcgetattr(0)")?;
        if let Ok(mut slot) = SAVED.lock() {
            *slot = Some(saved);
        }
        put_back_on_panic();
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGWINCH,
            Signal::SIGCONT,
        ] {
            mask.add(signal);
        }
        mask.thread_block().call(|| "sigprocmask(SIG_BLOCK)")?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .call(|| "signalfd4(-1, SFD_CLOEXEC|SFD_NONBLOCK)")?;
        let terminal = Self { signals };
        raw()?;
        Ok(terminal)
    }

    /// Columns and lines; 0 when the terminal does not know.
    pub fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(std::io::stdout()).ok();
        size.map_or((0, 0), |s| (usize::from(s.ws_col), usize::from(s.ws_row)))
    }

    /// Waits for what happens first; without a time, for a key.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn wait(&mut self, time: Option<Duration>) -> Result<Event> {
        let stdin = std::io::stdin();
        let timeout = match time {
            // Rounded up: not a busy loop through the last millisecond.
            Some(time) => {
                PollTimeout::try_from(time + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        let (keys, signals) = {
            let mut fds = [
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(Event::Tick),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::call("poll(terminal)", e)),
            }
            (fds[0].any().unwrap_or(false), fds[1].any().unwrap_or(false))
        };
        if signals {
            return Ok(self.signal());
        }
        if !keys {
            return Ok(Event::Keys(Vec::new()));
        }
        let mut buffer = [0u8; 256];
        match rustix::io::read(&stdin, &mut buffer) {
            Ok(0) => Ok(Event::Ended),
            Ok(n) => Ok(Event::Keys(keys::parse(buffer.get(..n).unwrap_or_default()))),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(Event::Keys(Vec::new())),
            Err(_) => Ok(Event::Ended),
        }
    }

    fn signal(&mut self) -> Event {
        let mut resized = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok()) {
                Some(Signal::SIGWINCH) => resized = true,
                Some(Signal::SIGCONT) => {
                    // Somebody stopped and continued us: the terminal may have changed hands.
                    let _ = raw();
                    resized = true;
                }
                Some(signal) => return Event::Signal(signal),
                None => {}
            }
        }
        if resized { Event::Resize } else { Event::Keys(Vec::new()) }
    }

    /// Ctrl-Z: stops the program with the terminal put back, and takes it over again when it goes on.
    ///
    /// # Errors
    /// tcsetattr(3)'s.
    pub fn suspend(&mut self) -> Result<()> {
        put_back();
        // The whole group, as the terminal would.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(0), Signal::SIGSTOP);
        raw()
    }
}

impl Terminal {
    /// Puts it back for another program.
    ///
    /// # Errors
    /// None so far.
    pub fn give(&mut self) -> Result<()> {
        put_back();
        Ok(())
    }

    /// Waits for a key, or for what ends us.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn until_key(&mut self) -> Result<Option<Event>> {
        loop {
            match self.wait(None)? {
                Event::Keys(keys) if keys.is_empty() => {}
                end @ (Event::Ended | Event::Signal(_)) => return Ok(Some(end)),
                Event::Keys(_) => return Ok(None),
                Event::Tick | Event::Resize => {}
            }
        }
    }

    /// Takes it over again; what ends us, if that came meanwhile. An interrupt was for the other program.
    ///
    /// # Errors
    /// tcsetattr(3)'s.
    pub fn take_back(&mut self) -> Result<Option<Event>> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
            if let Some(end @ (Signal::SIGTERM | Signal::SIGHUP)) = signal {
                return Ok(Some(Event::Signal(end)));
            }
        }
        raw()?;
        Ok(None)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        put_back();
    }
}

/// Ends this program by a signal, as whoever sent it expects.
///
/// # Errors
/// Never returns but for a signal that does not end.
pub fn die_of(signal: Signal) -> Result<()> {
    drydock_core::sys::signal::set_default(signal as i32);
    let _ = SigSet::empty().thread_set_mask();
    let _ = nix::sys::signal::raise(signal);
    Err(Error::failed("top", format!("ended by {signal}")))
}

fn raw() -> Result<()> {
    let stdin = std::io::stdin();
    let mut raw = tcgetattr(&stdin).call(|| "tcgetattr(0)")?;
    raw.make_raw();
    tcsetattr(&stdin, OptionalActions::Now, &raw).call(|| "tcsetattr(0, TCSANOW)")?;
    write(ENTER);
    Ok(())
}

fn put_back() {
    write(LEAVE);
    if let Some(saved) = SAVED.lock().ok().and_then(|slot| slot.clone()) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &saved);
    }
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Release builds abort on a panic: nothing is dropped then.
fn put_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            put_back();
            usual(info);
        }));
    });
}
