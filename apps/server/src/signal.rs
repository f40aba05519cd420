//! Signals of the process as plain events: stop, and read the configuration again.

use std::{io, thread};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::{Handle, Signals},
};

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and end; when it comes again: end now.
    Stop,
    /// SIGHUP: read certificates and the log level again.
    Reload,
}

/// Calls `on` for every signal, on a thread of its own, until the handle is closed.
///
/// # Errors
/// The signals cannot be taken, or there is no thread for them.
pub fn listen(mut on: impl FnMut(Signal) + Send + 'static) -> io::Result<Handle> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = signals.handle();
    thread::Builder::new().name("signal".into()).spawn(move || {
        for signal in signals.forever() {
            on(if signal == SIGHUP { Signal::Reload } else { Signal::Stop });
        }
    })?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn signals_become_events() {
        let (sender, receiver) = mpsc::channel();
        let handle = listen(move |signal| sender.send(signal).expect("the test waits")).expect("listening");
        for (number, signal) in [(SIGHUP, Signal::Reload), (SIGTERM, Signal::Stop), (SIGINT, Signal::Stop)] {
            signal_hook::low_level::raise(number).expect("raised");
            assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(signal));
        }
        handle.close();
    }
}
