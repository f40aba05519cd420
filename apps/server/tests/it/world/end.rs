//! A client's end of a datagram transport, whichever that is.

use std::time::Instant;

use super::kernel::Kernel;

/// What an end hears.
pub(crate) enum Heard {
    /// The session may begin.
    Up,
    /// A frame of the session protocol.
    Frame(Vec<u8>),
    /// Nothing more comes.
    Over,
}

/// The end of one client on its own bad way. It connects again and again, one session at a time.
pub(crate) trait End {
    /// The number of its way.
    fn way(&self) -> usize;

    /// When it wants to be called again.
    fn deadline(&mut self) -> Option<Instant>;

    /// Begins to connect.
    fn connect(&mut self, kernel: &mut Kernel);

    /// Takes what has arrived and sends what is to be sent; what there is to hear.
    fn exchange(&mut self, kernel: &mut Kernel) -> Vec<Heard>;

    /// Sends what is to be sent.
    fn send(&mut self, kernel: &mut Kernel);

    /// Says a frame.
    fn say(&mut self, kernel: &Kernel, frame: &[u8]);

    /// Says a frame that may be lost.
    fn wave(&mut self, kernel: &Kernel, frame: &[u8]);

    /// Reads no more, or again.
    fn stall(&mut self, kernel: &Kernel, stalled: bool);

    /// The client's address changes.
    fn wander(&mut self, kernel: &mut Kernel);

    /// Says this frame as the last one; whether the server's answer to that is worth waiting for.
    fn finish(&mut self, kernel: &Kernel, last: &[u8]) -> bool;

    /// Says goodbye.
    fn close(&mut self, kernel: &Kernel);

    /// Forgets all without a word, as a client does that loses its power.
    fn vanish(&mut self);
}
