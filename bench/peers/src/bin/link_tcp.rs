//! Kernel TCP on a link: one ordered stream of messages, and another connection for bulk.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    time::Duration,
};

use peers::link::{
    self, BULK, ORDERED, Records,
    clock::now_ns,
    plan::{Plan, Side},
    talk::{Account, Source, bulk},
};
use rustix::event::{PollFd, PollFlags};
use socket2::{Domain, Protocol, Socket, Type};

/// Bulk bytes written per turn: messages of another connection must not wait for them.
const TURN_BYTES: usize = 256 * 1024;
/// Bytes of the first words of a connection: its role, its number.
const HEAD_BYTES: usize = 5;

fn main() -> io::Result<()> {
    let plan = link::start();
    let mut account = Account::new(&plan);
    let mut program = Program { connections: Vec::new(), listener: None, buffer: vec![0; 256 * 1024] };
    match plan.side {
        Side::Server => program.listener = Some(listen(&plan)?),
        Side::Client => program.connect(&plan, &mut account)?,
    }
    while now_ns() < plan.end_ns {
        program.wait(&plan)?;
        program.accept(&mut account)?;
        for connection in &mut program.connections {
            if let Err(error) = connection.turn(&plan, &mut account, &mut program.buffer) {
                connection.is_open = false;
                if now_ns() < plan.to_ns {
                    account.lost(error);
                }
            }
        }
        program.connections.retain(|connection| connection.is_open);
    }
    link::report(&plan, &account);
    Ok(())
}

struct Program {
    connections: Vec<Connection>,
    listener: Option<TcpListener>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    head: Vec<u8>,
    number: u32,
    is_bulk: bool,
    is_open: bool,
    source: Option<Source>,
    out: Vec<u8>,
    offset: u64,
    records: Records,
}

fn socket(plan: &Plan, domain: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(domain), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_congestion(plan.variant.as_bytes())?;
    Ok(socket)
}

fn listen(plan: &Plan) -> io::Result<TcpListener> {
    let socket = socket(plan, plan.addr)?;
    socket.set_reuse_address(true)?;
    socket.bind(&plan.addr.into())?;
    socket.listen(64)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    link::announce(listener.local_addr()?);
    Ok(listener)
}

impl Program {
    fn connect(&mut self, plan: &Plan, account: &mut Account) -> io::Result<()> {
        for number in 0..plan.connections {
            let roles = [(ORDERED, plan.workload.has_messages()), (BULK, plan.workload.has_bulk())];
            for (role, _) in roles.into_iter().filter(|(_, wanted)| *wanted) {
                let socket = socket(plan, plan.addr)?;
                socket.bind(&plan.local(number).into())?;
                socket.connect_timeout(&plan.addr.into(), Duration::from_secs(20))?;
                socket.set_nonblocking(true)?;
                let mut connection = Connection::new(socket.into());
                connection.out.push(role);
                connection.out.extend(number.to_le_bytes());
                connection.number = number;
                connection.is_bulk = role == BULK;
                if role == ORDERED {
                    connection.source = Source::new(plan, number, now_ns());
                }
                connection.head = vec![0; HEAD_BYTES];
                account.connected();
                self.connections.push(connection);
            }
        }
        Ok(())
    }

    fn accept(&mut self, account: &mut Account) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    account.connected();
                    self.connections.push(Connection::new(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn wait(&self, plan: &Plan) -> io::Result<()> {
        let next = self.connections.iter().filter_map(|connection| connection.source.as_ref()?.next_ns()).min();
        let mut fds = Vec::with_capacity(self.connections.len() + 1);
        if let Some(listener) = &self.listener {
            fds.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        for connection in &self.connections {
            let writes = if connection.wants_to_write(plan) { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::from_borrowed_fd(connection.stream.as_fd(), PollFlags::IN | writes));
        }
        link::wait(&mut fds, next.unwrap_or(plan.end_ns).min(plan.end_ns))
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            head: Vec::new(),
            number: 0,
            is_bulk: false,
            is_open: true,
            source: None,
            out: Vec::new(),
            offset: 0,
            records: Records::default(),
        }
    }

    fn sends_bulk(&self, plan: &Plan) -> bool {
        self.is_bulk && plan.side == Side::Server && self.head.len() == HEAD_BYTES && now_ns() < plan.to_ns
    }

    fn wants_to_write(&self, plan: &Plan) -> bool {
        !self.out.is_empty() || self.sends_bulk(plan)
    }

    fn turn(&mut self, plan: &Plan, account: &mut Account, buffer: &mut [u8]) -> io::Result<()> {
        self.read(plan, account, buffer)?;
        while let Some(message) = self.source.as_mut().and_then(|source| source.take(now_ns())) {
            self.out.extend_from_slice(&message);
        }
        let written = write(&mut self.stream, &self.out)?;
        self.out.drain(..written);
        let end = self.offset + TURN_BYTES as u64;
        while self.sends_bulk(plan) && self.offset < end {
            match write(&mut self.stream, bulk(self.offset))? {
                0 => break,
                written => self.offset += written as u64,
            }
        }
        Ok(())
    }

    fn read(&mut self, plan: &Plan, account: &mut Account, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut bytes = &buffer[..len];
            while self.head.len() < HEAD_BYTES && !bytes.is_empty() {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                if self.head.len() == HEAD_BYTES {
                    self.introduced(plan);
                }
            }
            if self.is_bulk {
                account.bulk(now_ns(), self.number, bytes);
            } else {
                self.records.take(account, bytes);
            }
            if len < buffer.len() {
                return Ok(());
            }
        }
    }

    /// The client has said what this connection is for.
    fn introduced(&mut self, plan: &Plan) {
        self.is_bulk = self.head[0] == BULK;
        self.number = u32::from_le_bytes([self.head[1], self.head[2], self.head[3], self.head[4]]);
        if !self.is_bulk {
            self.source = Source::new(plan, self.number, now_ns());
        }
    }
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match stream.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        outcome => outcome,
    }
}
