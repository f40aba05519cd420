//! HTTP/3 on h3 and s2n-quic, on tokio's current-thread runtime: a page for every GET, its own body for every POST.

use bytes::Bytes;
use h3::server::Connection;
use peers::{
    Start, s2n,
    web::{self, Fault},
};
use s2n_quic::{
    Server,
    provider::{io::tokio as io, limits::Limits, tls},
};
use tokio::runtime::Builder;

fn main() -> Result<(), Fault> {
    let start = Start::from_args();
    let page = web::page(start.page_bytes);
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut server = server(start)?;
        while let Some(connection) = server.accept().await {
            tokio::spawn(serve(connection, page.clone()));
        }
        Ok(())
    })
}

/// Offloads, the search for the MTU and congestion control are on by default.
fn server(start: Start) -> Result<Server, Fault> {
    let made = web::certificate()?;
    let tls =
        tls::default::Server::builder().with_certificate(made.cert.pem(), made.signing_key.serialize_pem())?.build()?;
    let io = io::Builder::default().with_rx_socket(start.bind()?)?.build()?;
    Ok(Server::builder().with_tls(tls)?.with_io(io)?.with_limits(limits()?)?.start()?)
}

/// What a stream may buffer to send has no counterpart for a whole connection.
fn limits() -> Result<Limits, Fault> {
    let window = u64::from(web::WINDOW_BYTES);
    Ok(Limits::new()
        .with_max_open_remote_bidirectional_streams(web::STREAMS.into())?
        .with_max_open_remote_unidirectional_streams(web::STREAMS.into())?
        .with_bidirectional_remote_data_window(window)?
        .with_unidirectional_data_window(window)?
        .with_data_window(2 * window)?
        .with_max_send_buffer_size(web::WINDOW_BYTES)?
        .with_max_idle_timeout(web::IDLE)?)
}

async fn serve(connection: s2n_quic::Connection, page: Bytes) -> Result<(), Fault> {
    let connection = s2n::Connection::from(connection);
    let mut connection: Connection<_, Bytes> = h3::server::builder().send_grease(false).build(connection).await?;
    while let Some(request) = connection.accept().await? {
        tokio::spawn(web::answer(request, page.clone()));
    }
    Ok(())
}
