//! The figures behind the design: an echo of trains of 16 messages by this crate and by tungstenite's own context, over
//! memory. `cargo run --release -p websocket --example figures`

use std::{
    alloc::System,
    error::Error,
    io::{self, Read, Write},
    time::Instant,
};

use bytes::BytesMut;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tungstenite::{
    Error as SocketError, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};
use websocket::{Connection, Event, Limits, frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LIMITS: Limits = Limits { message_max: 16 << 20, frame_max: 16 << 20 };
const TRAIN: usize = 16;
const ROUNDS: usize = 200_000;

/// What a context reads from and writes to.
#[derive(Default)]
struct Memory {
    received: Vec<u8>,
    read: usize,
    sent: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&self.received[self.read..]).read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            len => {
                self.read += len;
                Ok(len)
            }
        }
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An echo server that is given a train of frames and gives one back.
trait Echo {
    fn train(&mut self, received: &[u8]) -> usize;
}

struct Ours {
    connection: Connection,
    input: Vec<u8>,
    out: BytesMut,
}

impl Echo for Ours {
    fn train(&mut self, received: &[u8]) -> usize {
        self.out.clear();
        // A kernel writes into a buffer that is there: this copy stands for it in both candidates.
        self.input.clear();
        self.input.extend_from_slice(received);
        let mut rest = &mut self.input[..];
        while let Some(event) = self.connection.next(&mut rest) {
            match event {
                Event::Text(text) => frame::encode(frame::Opcode::Text, text.as_bytes(), &mut self.out),
                Event::Binary(bytes) => frame::encode(frame::Opcode::Binary, &bytes, &mut self.out),
                Event::Pong | Event::Closed { .. } => {}
            }
        }
        self.connection.take_output(&mut self.out);
        self.out.len()
    }
}

struct Theirs {
    context: WebSocketContext,
    memory: Memory,
}

impl Echo for Theirs {
    fn train(&mut self, received: &[u8]) -> usize {
        let memory = &mut self.memory;
        memory.sent.clear();
        memory.received.clear();
        memory.received.extend_from_slice(received);
        memory.read = 0;
        loop {
            match self.context.read(memory) {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    let _ = self.context.write(memory, message);
                }
                Ok(_) => {}
                Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let _ = self.context.flush(memory);
        memory.sent.len()
    }
}

fn ours() -> Ours {
    Ours { connection: Connection::server(LIMITS), input: Vec::new(), out: BytesMut::new() }
}

fn theirs() -> Theirs {
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096);
    Theirs { context: WebSocketContext::new(Role::Server, Some(config)), memory: Memory::default() }
}

fn wire(count: usize, len: usize) -> Vec<u8> {
    let (mut client, mut out) = (Connection::client(LIMITS, [7; 32]), BytesMut::new());
    (0..count).for_each(|_| client.send_text(&"x".repeat(len)));
    client.take_output(&mut out);
    out.to_vec()
}

/// Nanoseconds and allocations per message.
fn measure(echo: &mut impl Echo, len: usize) -> (f64, f64) {
    let train = wire(TRAIN, len);
    (0..ROUNDS / 10).for_each(|_| assert!(echo.train(&train) > TRAIN * len));
    let region = Region::new(ALLOCATOR);
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| assert!(echo.train(&train) > TRAIN * len));
    let (spent, change) = (start.elapsed(), region.change());
    let messages = (ROUNDS * TRAIN) as f64;
    (spent.as_nanos() as f64 / messages, (change.allocations + change.reallocations) as f64 / messages)
}

/// Bytes that one connection holds after it has echoed messages of these lengths.
fn held<E: Echo, C>(make: impl Fn() -> E, keep: impl Fn(E) -> C, lens: &[usize]) -> usize {
    let wires: Vec<_> = lens.iter().map(|len| wire(1, *len)).collect();
    let region = Region::new(ALLOCATOR);
    let mut echo = make();
    wires.iter().for_each(|wire| assert!(wire.chunks(4096).map(|piece| echo.train(piece)).sum::<usize>() > 0));
    let kept = keep(echo);
    let change = region.change();
    drop(kept);
    change.bytes_allocated - change.bytes_deallocated
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    for len in [16, 64, 125, 1_024] {
        for _ in 0..3 {
            let ((ours_ns, ours_allocations), (theirs_ns, theirs_allocations)) =
                (measure(&mut ours(), len), measure(&mut theirs(), len));
            writeln!(
                out,
                "{len:5} B: ours {ours_ns:6.1} ns {ours_allocations:.2} allocations, \
                 tungstenite's context {theirs_ns:6.1} ns {theirs_allocations:.2} allocations, {:.2}x",
                theirs_ns / ours_ns
            )?;
        }
    }
    for lens in [&[64][..], &[64, 1 << 20]] {
        let ours = held(ours, |ours| Box::new(ours.connection), lens);
        let theirs = held(theirs, |theirs| Box::new(theirs.context), lens);
        writeln!(out, "idle after messages of {lens:?}: ours {ours} bytes, tungstenite's context {theirs} bytes")?;
    }
    Ok(())
}
