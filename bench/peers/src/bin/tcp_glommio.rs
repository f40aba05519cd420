//! TCP echo on glommio's own sockets.

use std::{
    io,
    os::fd::{FromRawFd, IntoRawFd},
};

use futures_util::{AsyncReadExt, AsyncWriteExt};
use glommio::{
    LocalExecutorBuilder, Placement,
    net::{TcpListener, TcpStream},
};
use peers::Start;

fn main() -> io::Result<()> {
    let start = Start::from_args();
    let listener = start.listen()?;
    let placement = start.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement).make()?;
    executor.run(async move {
        // SAFETY: the descriptor was just released by its only owner.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        loop {
            let stream = listener.accept().await?;
            glommio::spawn_local(echo(stream)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            len => stream.write_all(&buffer[..len]).await?,
        }
    }
}
