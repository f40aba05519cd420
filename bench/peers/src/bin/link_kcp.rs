//! KCP (tokio_kcp) on a link: one ordered stream of messages, and another session for bulk. `--variant normal` or
//! `fastest`, the crate's own presets, with a window of 1,024 and flushed at once.

use std::{cell::RefCell, io, rc::Rc};

use peers::{
    link::{
        self, Alarm, BULK, ORDERED, Records,
        clock::now_ns,
        plan::{Plan, Side},
        talk::{Account, Source, bulk},
    },
    usage,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UdpSocket,
    task::{LocalSet, spawn_local},
    time::sleep,
};
use tokio_kcp::{KcpConfig, KcpListener, KcpNoDelayConfig, KcpStream};

/// Segments of the window, both ways.
const WINDOW: u16 = 1_024;
/// Bytes of the first words of a session: its role, its number.
const HEAD_BYTES: usize = 5;

/// What all sessions share.
struct Shared {
    plan: Plan,
    account: RefCell<Account>,
}

fn main() -> io::Result<()> {
    let plan = link::start();
    let nodelay = match plan.variant.as_str() {
        "normal" => KcpNoDelayConfig::normal(),
        "fastest" => KcpNoDelayConfig::fastest(),
        other => usage(&format!("--variant is normal or fastest, not `{other}`")),
    };
    let config = KcpConfig {
        nodelay,
        wnd_size: (WINDOW, WINDOW),
        flush_write: true,
        flush_acks_input: true,
        stream: true,
        ..KcpConfig::default()
    };
    let account = RefCell::new(Account::new(&plan));
    let shared = Rc::new(Shared { plan, account });
    let runtime = link::runtime()?;
    LocalSet::new().block_on(&runtime, async {
        match shared.plan.side {
            Side::Server => spawn_local(serve(config, shared.clone())),
            Side::Client => spawn_local(connect(config, shared.clone())),
        };
        sleep(link::left(&shared.plan)).await;
    });
    link::report(&shared.plan, &shared.account.borrow());
    // Sessions that linger are not waited for.
    std::process::exit(0)
}

async fn serve(config: KcpConfig, shared: Rc<Shared>) -> io::Result<()> {
    let socket = UdpSocket::from_std(link::udp(shared.plan.addr)?)?;
    link::announce(socket.local_addr()?);
    let mut listener = KcpListener::from_socket(config, socket).await.map_err(io::Error::other)?;
    loop {
        let (stream, _) = listener.accept().await.map_err(io::Error::other)?;
        shared.account.borrow_mut().connected();
        let shared = shared.clone();
        spawn_local(async move {
            let (mut reader, writer) = tokio::io::split(stream);
            let mut head = [0; HEAD_BYTES];
            reader.read_exact(&mut head).await?;
            let number = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
            if head[0] == BULK {
                spawn_local(write_bulk(writer, shared.clone()));
            } else {
                spawn_local(write_messages(writer, number, shared.clone()));
                read_messages(reader, shared).await;
            }
            io::Result::Ok(())
        });
    }
}

async fn connect(config: KcpConfig, shared: Rc<Shared>) -> io::Result<()> {
    let plan = &shared.plan;
    for number in 0..plan.connections {
        let roles = [(ORDERED, plan.workload.has_messages()), (BULK, plan.workload.has_bulk())];
        for (role, _) in roles.into_iter().filter(|(_, wanted)| *wanted) {
            let socket = UdpSocket::from_std(link::udp(plan.local(number))?)?;
            let stream = KcpStream::connect_with_socket(&config, socket, plan.addr).await.map_err(io::Error::other)?;
            let (reader, mut writer) = tokio::io::split(stream);
            let mut head = vec![role];
            head.extend(number.to_le_bytes());
            writer.write_all(&head).await?;
            shared.account.borrow_mut().connected();
            if role == BULK {
                spawn_local(read_bulk(reader, number, shared.clone()));
                // The session ends with its writer.
                std::mem::forget(writer);
            } else {
                spawn_local(write_messages(writer, number, shared.clone()));
                spawn_local(read_messages(reader, shared.clone()));
            }
        }
    }
    Ok(())
}

async fn write_messages(mut writer: impl AsyncWrite + Unpin, number: u32, shared: Rc<Shared>) {
    let source = Source::new(&shared.plan, number, now_ns());
    let outcome = async {
        let Some(mut source) = source else { return Ok(()) };
        let mut alarm = Alarm::new()?;
        while let Some(at_ns) = source.next_ns() {
            alarm.until(at_ns).await?;
            while let Some(message) = source.take(now_ns()) {
                writer.write_all(&message).await?;
            }
        }
        io::Result::Ok(())
    };
    if let Err(error) = outcome.await {
        shared.account.borrow_mut().lost(error);
    }
    std::mem::forget(writer);
}

async fn write_bulk(mut writer: impl AsyncWrite + Unpin, shared: Rc<Shared>) {
    let mut offset = 0;
    while now_ns() < shared.plan.to_ns {
        // Pieces of this size are far below the window of the receiver.
        match writer.write(&bulk(offset)[..16 * 1024]).await {
            Ok(written) => offset += written as u64,
            Err(error) => {
                shared.account.borrow_mut().lost(error);
                break;
            }
        }
    }
    std::mem::forget(writer);
}

async fn read_messages(mut reader: impl AsyncRead + Unpin, shared: Rc<Shared>) {
    let (mut records, mut buffer) = (Records::default(), vec![0; 64 * 1024]);
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return shared.ended("closed"),
            Ok(len) => records.take(&mut shared.account.borrow_mut(), &buffer[..len]),
            Err(error) => return shared.ended(error),
        }
    }
}

async fn read_bulk(mut reader: impl AsyncRead + Unpin, number: u32, shared: Rc<Shared>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return shared.ended("closed"),
            Ok(len) => shared.account.borrow_mut().bulk(now_ns(), number, &buffer[..len]),
            Err(error) => return shared.ended(error),
        }
    }
}

impl Shared {
    fn ended(&self, why: impl ToString) {
        if now_ns() < self.plan.to_ns {
            self.account.borrow_mut().lost(why);
        }
    }
}
