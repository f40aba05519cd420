//! UDP echo on glommio, a datagram at a time.

use std::{
    io,
    os::fd::{FromRawFd, IntoRawFd},
};

use glommio::{LocalExecutorBuilder, Placement, net::UdpSocket};
use peers::Start;

fn main() -> io::Result<()> {
    let start = Start::from_args();
    let socket = start.bind()?;
    let placement = start.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement).make()?;
    executor.run(async move {
        // SAFETY: the descriptor was just released by its only owner.
        let socket = unsafe { UdpSocket::from_raw_fd(socket.into_raw_fd()) };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await?;
            socket.send_to(&buffer[..len], from).await?;
        }
    })
}
