//! WebSocket echo on tokio-tungstenite.

use std::io;

use futures_util::{SinkExt, StreamExt};
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
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            // One flush per message, as people write it; `ws_tungstenite_batch` is the tuned one.
            socket.send(message).await?;
        }
    }
    Ok(())
}
