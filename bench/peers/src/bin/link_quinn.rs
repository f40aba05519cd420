//! QUIC (quinn) on a link: a unidirectional stream per message, which is its way to send independent ones; bulk on a
//! stream of lower priority. `--variant cubic` or `bbr`.

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use peers::{
    link::{
        self, Alarm, BULK, MESSAGE, ORDERED, Records,
        clock::now_ns,
        plan::{MESSAGE_BYTES, Plan, Side, Workload},
        talk::{Account, Source, bulk},
    },
    usage,
};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
    congestion::{BbrConfig, CubicConfig},
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    task::{LocalSet, spawn_local},
    time::sleep,
};

/// Bytes that may be on the way: twice what 100 Mbit/s and 600 ms hold.
const WINDOW_BYTES: u32 = 16 << 20;
/// Streams that may be open at once: eight seconds of messages.
const STREAMS: u32 = 4_096;
/// The certificate and the key of all servers, made once; both ends are ours.
const CERTIFICATE: &str = "/tmp/ringshard-link-quinn.der";
const NAME: &str = "link";
const PROTOCOL: &[u8] = b"link";

/// What all connections share.
struct Shared {
    plan: Plan,
    account: RefCell<Account>,
}

type Fault = Box<dyn std::error::Error>;

fn main() -> io::Result<()> {
    let plan = link::start();
    let account = RefCell::new(Account::new(&plan));
    let shared = Rc::new(Shared { plan, account });
    let runtime = link::runtime()?;
    LocalSet::new().block_on(&runtime, async {
        let shared = shared.clone();
        let side = shared.plan.side;
        let end = sleep(link::left(&shared.plan));
        spawn_local(async move {
            let outcome = match side {
                Side::Server => serve(shared.clone()).await,
                Side::Client => connect(shared.clone()).await,
            };
            if let Err(error) = outcome {
                shared.account.borrow_mut().lost(error);
            }
        });
        end.await;
    });
    link::report(&shared.plan, &shared.account.borrow());
    // Connections that linger are not waited for.
    std::process::exit(0)
}

fn transport(plan: &Plan) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    match plan.variant.as_str() {
        "cubic" => transport.congestion_controller_factory(Arc::new(CubicConfig::default())),
        "bbr" => transport.congestion_controller_factory(Arc::new(BbrConfig::default())),
        other => usage(&format!("--variant is cubic or bbr, not `{other}`")),
    };
    transport
        .max_concurrent_uni_streams(STREAMS.into())
        .stream_receive_window(WINDOW_BYTES.into())
        .receive_window(WINDOW_BYTES.into())
        .send_window(WINDOW_BYTES.into())
        .max_idle_timeout(Some(VarInt::from_u32(30_000).into()))
        .keep_alive_interval(Some(Duration::from_secs(2)));
    Arc::new(transport)
}

async fn serve(shared: Rc<Shared>) -> Result<(), Fault> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    std::fs::write(CERTIFICATE, made.cert.der())?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let mut crypto =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?;
    crypto.alpn_protocols = vec![PROTOCOL.to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(crypto)?));
    config.transport_config(transport(&shared.plan));
    let endpoint = endpoint(shared.plan.addr, Some(config))?;
    link::announce(endpoint.local_addr()?);
    let mut number = 0;
    while let Some(incoming) = endpoint.accept().await {
        let Ok(connection) = incoming.await else { continue };
        talk(connection, number, shared.clone());
        number += 1;
    }
    Ok(())
}

async fn connect(shared: Rc<Shared>) -> Result<(), Fault> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(std::fs::read(CERTIFICATE)?))?;
    let mut crypto = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    crypto.alpn_protocols = vec![PROTOCOL.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto)?));
    config.transport_config(transport(&shared.plan));
    for number in 0..shared.plan.connections {
        let endpoint = endpoint(shared.plan.local(number), None)?;
        let connection = endpoint.connect_with(config.clone(), shared.plan.addr, NAME)?.await?;
        talk(connection, number, shared.clone());
    }
    Ok(())
}

fn endpoint(addr: SocketAddr, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    Endpoint::new(EndpointConfig::default(), server, link::udp(addr)?, Arc::new(TokioRuntime))
}

/// Starts everything that happens on a connection.
fn talk(connection: Connection, number: u32, shared: Rc<Shared>) {
    shared.account.borrow_mut().connected();
    if shared.plan.workload == Workload::Ordered {
        spawn_local(shared.clone().watch(write_ordered(connection.clone(), number, shared.clone())));
    } else {
        spawn_local(shared.clone().watch(write_messages(connection.clone(), number, shared.clone())));
    }
    if shared.plan.workload.has_bulk() && shared.plan.side == Side::Server {
        spawn_local(shared.clone().watch(write_bulk(connection.clone(), shared.clone())));
    }
    spawn_local(async move {
        loop {
            match connection.accept_uni().await {
                Ok(stream) => drop(spawn_local(read(stream, number, shared.clone()))),
                Err(error) => {
                    if now_ns() < shared.plan.to_ns {
                        shared.account.borrow_mut().lost(error);
                    }
                    return;
                }
            }
        }
    });
}

impl Shared {
    /// Notes why something ended. Why a connection did is noted by who accepts its streams.
    async fn watch(self: Rc<Self>, work: impl Future<Output = Result<(), Fault>>) {
        if let Err(error) = work.await
            && now_ns() < self.plan.to_ns
        {
            eprintln!("{error}");
        }
    }
}

async fn write_messages(connection: Connection, number: u32, shared: Rc<Shared>) -> Result<(), Fault> {
    let Some(mut source) = Source::new(&shared.plan, number, now_ns()) else { return Ok(()) };
    let mut alarm = Alarm::new()?;
    while let Some(at_ns) = source.next_ns() {
        alarm.until(at_ns).await?;
        while let Some(message) = source.take(now_ns()) {
            let mut bytes = [MESSAGE; MESSAGE_BYTES + 1];
            bytes[1..].copy_from_slice(&message);
            let mut stream = connection.open_uni().await?;
            stream.write_all(&bytes).await?;
            stream.finish()?;
        }
    }
    Ok(())
}

async fn write_ordered(connection: Connection, number: u32, shared: Rc<Shared>) -> Result<(), Fault> {
    let Some(mut source) = Source::new(&shared.plan, number, now_ns()) else { return Ok(()) };
    let mut alarm = Alarm::new()?;
    let mut stream = connection.open_uni().await?;
    stream.write_all(&[ORDERED]).await?;
    while let Some(at_ns) = source.next_ns() {
        alarm.until(at_ns).await?;
        while let Some(message) = source.take(now_ns()) {
            stream.write_all(&message).await?;
        }
    }
    linger(stream).await;
    Ok(())
}

async fn write_bulk(connection: Connection, shared: Rc<Shared>) -> Result<(), Fault> {
    let mut stream = connection.open_uni().await?;
    stream.set_priority(-1)?;
    stream.write_all(&[BULK]).await?;
    let mut offset = 0;
    while now_ns() < shared.plan.to_ns {
        let bytes = bulk(offset);
        stream.write_chunk(Bytes::from_static(bytes)).await?;
        offset += bytes.len() as u64;
    }
    linger(stream).await;
    Ok(())
}

/// A stream that is dropped is reset.
async fn linger(mut stream: SendStream) {
    // It has been finished only if it was reset; then there is nothing to wait for.
    let _ = stream.finish();
    let _ = stream.stopped().await;
}

async fn read(mut stream: RecvStream, number: u32, shared: Rc<Shared>) {
    let mut kind = [0];
    if stream.read_exact(&mut kind).await.is_err() {
        return;
    }
    if kind[0] == MESSAGE {
        if let Ok(message) = stream.read_to_end(2 * MESSAGE_BYTES).await {
            shared.account.borrow_mut().message(now_ns(), &message);
        }
        return;
    }
    let mut records = Records::default();
    while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
        let mut account = shared.account.borrow_mut();
        if kind[0] == BULK {
            account.bulk(now_ns(), number, &chunk.bytes);
        } else {
            records.take(&mut account, &chunk.bytes);
        }
    }
}
