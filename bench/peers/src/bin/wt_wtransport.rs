//! WebTransport on wtransport and quinn, on tokio's current-thread runtime: datagrams and streams come back as they are,
//! a unidirectional stream on one of its own.

use peers::{
    Start,
    web::{self, Fault},
};
use tokio::{io, runtime::Builder};
use wtransport::{Connection, Endpoint, RecvStream, SendStream, ServerConfig, endpoint::IncomingSession};

fn main() -> Result<(), Fault> {
    let start = Start::from_args();
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let config =
            ServerConfig::builder().with_bind_socket(start.bind()?).build_with_quic_config(web::quinn_server()?);
        let endpoint = Endpoint::server(config)?;
        loop {
            tokio::spawn(serve(endpoint.accept().await));
        }
    })
}

async fn serve(incoming: IncomingSession) -> Result<(), Fault> {
    let session = incoming.await?.accept().await?;
    tokio::spawn(echo_datagrams(session.clone()));
    tokio::spawn(echo_uni(session.clone()));
    loop {
        let (send, receive) = session.accept_bi().await?;
        tokio::spawn(echo(receive, send));
    }
}

async fn echo_datagrams(session: Connection) -> Result<(), Fault> {
    loop {
        // One that the path does not carry back is lost, as any other may be.
        let _ = session.send_datagram(session.receive_datagram().await?.payload());
    }
}

async fn echo_uni(session: Connection) -> Result<(), Fault> {
    loop {
        let receive = session.accept_uni().await?;
        let session = session.clone();
        tokio::spawn(async move { echo(receive, session.open_uni().await?.await?).await });
    }
}

async fn echo(mut receive: RecvStream, mut send: SendStream) -> Result<(), Fault> {
    io::copy(&mut receive, &mut send).await?;
    send.finish().await?;
    Ok(())
}
