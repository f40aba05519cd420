//! `ringshard-probe`: plain datagrams by a fixed schedule, with which an emulated link tests how exact it is.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    process::ExitCode,
    time::Duration,
};

use bench::link::{
    clock::now_ns,
    plan::{Plan, Side},
    talk::{Account, Source},
};

/// How often the client says that it is there, until the first datagram has come.
const HELLO: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let plan = match Plan::read(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("ringshard-probe: {why}");
            return ExitCode::from(2);
        }
    };
    let mut account = Account::new(&plan);
    let outcome = match plan.side {
        Side::Server => serve(&plan, &mut account),
        Side::Client => listen(&plan, &mut account),
    };
    if let Err(error) = outcome {
        account.lost(error);
    }
    println!("{}", account.report(&plan));
    ExitCode::SUCCESS
}

fn serve(plan: &Plan, account: &mut Account) -> io::Result<()> {
    let socket = UdpSocket::bind(plan.addr)?;
    println!("listening {}", socket.local_addr()?);
    socket.set_read_timeout(Some(Duration::from_nanos(plan.end_ns.saturating_sub(now_ns()).max(1))))?;
    let (_, client) = socket.recv_from(&mut [0; 8])?;
    account.connected();
    let Some(mut source) = Source::new(plan, 0, now_ns()) else { return Ok(()) };
    while let Some(at_ns) = source.next_ns() {
        std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
        while let Some(message) = source.take(now_ns()) {
            socket.send_to(&message, client)?;
        }
    }
    std::thread::sleep(Duration::from_nanos(plan.end_ns.saturating_sub(now_ns())));
    Ok(())
}

fn listen(plan: &Plan, account: &mut Account) -> io::Result<()> {
    let any: SocketAddr = ([0, 0, 0, 0], 0).into();
    let socket = UdpSocket::bind(any)?;
    socket.connect(plan.addr)?;
    socket.set_read_timeout(Some(HELLO))?;
    let (mut bytes, mut is_known) = ([0; 2_048], false);
    while now_ns() < plan.end_ns {
        if !is_known {
            socket.send(b"hello")?;
        }
        match socket.recv(&mut bytes) {
            Ok(len) => {
                if !is_known {
                    account.connected();
                }
                is_known = true;
                account.message(now_ns(), &bytes[..len]);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
