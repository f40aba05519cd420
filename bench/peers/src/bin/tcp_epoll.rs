//! TCP echo on a plain level-triggered epoll loop: the least that a server without io_uring can do.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
};

use peers::{Start, poll::Poll};

fn main() -> io::Result<()> {
    let start = Start::from_args();
    let listener = start.listen()?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(listener.as_raw_fd())?;
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let ready = poll.wait(-1)?;
        for at in 0..ready {
            let fd = poll.ready(at);
            if fd == listener.as_raw_fd() as usize {
                accept(&listener, &poll, &mut streams)?;
            } else if !streams[fd].as_mut().is_some_and(|stream| echo(stream, &mut buffer)) {
                streams[fd] = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, streams: &mut Vec<Option<TcpStream>>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                let fd = stream.as_raw_fd();
                poll.add(fd)?;
                let slot = fd as usize;
                if streams.len() <= slot {
                    streams.resize_with(slot + 1, || None);
                }
                streams[slot] = Some(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// One read and its answer; false when the connection is over. A peer that does not read its answers is dropped.
fn echo(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    match stream.read(buffer) {
        Ok(0) => false,
        Ok(len) => stream.write_all(&buffer[..len]).is_ok(),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}
