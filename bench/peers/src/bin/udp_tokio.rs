//! UDP echo on tokio, a datagram at a time.

use std::io;

use peers::Start;
use tokio::{net::UdpSocket, runtime::Builder};

fn main() -> io::Result<()> {
    let start = Start::from_args();
    let socket = start.bind()?;
    socket.set_nonblocking(true)?;
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        let socket = UdpSocket::from_std(socket)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await?;
            socket.send_to(&buffer[..len], from).await?;
        }
    })
}
