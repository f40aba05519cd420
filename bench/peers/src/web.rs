//! What the peers that speak HTTP/3 or WebTransport have in common: a certificate, an answer, QUIC's limits, and quinn's settings.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use h3::{quic, server::RequestResolver};
use http::{Method, Response, header::CONTENT_LENGTH};
use quinn::{ServerConfig, TransportConfig, VarInt, crypto::rustls::QuicServerConfig};
use rustls::pki_types::PrivateKeyDer;

/// Requests or streams that a client may have open at once.
pub const STREAMS: u32 = 1_024;
/// Bytes that may be on the way on a stream, and half of what may be on a connection.
pub const WINDOW_BYTES: u32 = 8 << 20;
/// The largest UDP payload that is tried: Ethernet's, as quinn does by itself.
pub const PAYLOAD_BYTES: usize = 1_452;
/// Silence that ends a connection. Long, so that idle ones can be counted.
pub const IDLE: Duration = Duration::from_secs(600);

/// Why a peer did not start, or a connection ended.
pub type Fault = Box<dyn Error + Send + Sync>;

/// A certificate of our own: nobody checks it.
pub fn certificate() -> Result<rcgen::CertifiedKey<rcgen::KeyPair>, Fault> {
    Ok(rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?)
}

/// A page of `bytes` bytes.
#[must_use]
pub fn page(bytes: usize) -> Bytes {
    vec![b'.'; bytes].into()
}

/// A page for a GET, its own body for a POST, on any QUIC below h3.
pub async fn answer<C: quic::Connection<Bytes>>(request: RequestResolver<C, Bytes>, page: Bytes) -> Result<(), Fault> {
    let (request, mut stream) = request.resolve_request().await?;
    if request.method() == Method::POST {
        stream.send_response(Response::new(())).await?;
        while let Some(mut chunk) = stream.recv_data().await? {
            stream.send_data(chunk.copy_to_bytes(chunk.remaining())).await?;
        }
    } else {
        stream.send_response(Response::builder().header(CONTENT_LENGTH, page.len()).body(())?).await?;
        stream.send_data(page).await?;
    }
    stream.finish().await?;
    Ok(())
}

/// quinn as a server of HTTP/3.
pub fn quinn_server() -> Result<ServerConfig, Fault> {
    let made = certificate()?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let mut crypto =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?;
    crypto.alpn_protocols = vec![b"h3".to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(crypto)?));
    config.transport_config(Arc::new(quinn_transport()?));
    Ok(config)
}

/// quinn's limits; its segmentation offload and its search for the MTU are on by default.
pub fn quinn_transport() -> Result<TransportConfig, Fault> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS.into())
        .max_concurrent_uni_streams(STREAMS.into())
        .stream_receive_window(WINDOW_BYTES.into())
        .receive_window(VarInt::from_u32(2 * WINDOW_BYTES))
        .send_window(2 * u64::from(WINDOW_BYTES))
        .max_idle_timeout(Some(IDLE.try_into()?));
    Ok(transport)
}
