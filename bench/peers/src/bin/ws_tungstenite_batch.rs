//! WebSocket echo on tokio-tungstenite, tuned: answers are flushed only when no further message is there.

use std::io;

use futures_util::{FutureExt, SinkExt, StreamExt};
use peers::Start;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};
use tokio_tungstenite::{accept_async, tungstenite::Error};

fn main() -> io::Result<()> {
    let start = Start::from_args();
    let listener = start.listen()?;
    listener.set_nonblocking(true)?;
    Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(echo(stream));
        }
    })
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let mut socket = accept_async(stream).await?;
    loop {
        let message = match socket.next().now_or_never() {
            Some(message) => message,
            None => {
                socket.flush().await?;
                socket.next().await
            }
        };
        match message {
            Some(Ok(message)) if message.is_text() || message.is_binary() => socket.feed(message).await?,
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
    }
}
