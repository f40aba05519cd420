//! A place in the ring's table is used again by the next connection, and nothing of the last one reaches it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use engine::{Config, Datagrams, Io, Listener, Outcome, Reactor, ShardId, Socket, Stream, StreamEvent, Ticket};

use crate::world::{DEADLINE, eventually, tcp_config};

/// What a client asks the server to do with its stream; everything else is echoed.
const FINISH: u8 = b'f';
const FINISH_AND_CLOSE: u8 = b'c';

/// Connections of each kind.
const ROUNDS: usize = 1_500;

struct Server;

impl Reactor for Server {
    type Mail = ();

    fn on_datagrams(&mut self, _: &mut Io<()>, _: Socket, _: Datagrams<'_>) {}

    fn on_stream(&mut self, io: &mut Io<()>, stream: Stream, event: StreamEvent<'_>) {
        let StreamEvent::Data(bytes) = event else { return };
        match bytes {
            [FINISH] => io.shutdown(stream),
            [FINISH_AND_CLOSE] => {
                io.shutdown(stream);
                io.close(stream);
            }
            bytes => io.send_slice(stream, bytes),
        }
    }

    fn on_disk(&mut self, _: &mut Io<()>, _: Ticket, _: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<()>, _: ShardId, (): ()) {
        io.exit();
    }

    fn on_turn_end(&mut self, _: &mut Io<()>) {}
}

/// Connections that end in a FIN of the server, which the kernel sends from another thread, and at once in a close or
/// a reset.
fn come_and_go(addr: SocketAddr, stop: &AtomicBool) {
    for wish in [FINISH, FINISH_AND_CLOSE].into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let mut client = TcpStream::connect(addr).expect("the server listens");
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("linger");
        client.write_all(&[wish]).expect("sent");
    }
}

#[test]
fn a_late_fin_never_reaches_the_next_connection() {
    for peer_addresses in [true, false] {
        let config = Config { pin: false, peer_addresses, ..tcp_config(1) };
        let bound = engine::bind(config).expect("a free port");
        let addr = bound.listener_addr(Listener(0));
        let running = bound.start(|_, _| Server).expect("the shard starts");
        let stop = AtomicBool::new(false);
        let ended = thread::scope(|scope| {
            (0..2).for_each(|_| drop(scope.spawn(|| come_and_go(addr, &stop))));
            let ended = (0..ROUNDS).filter(|_| !is_served(addr)).count();
            stop.store(true, Ordering::Relaxed);
            ended
        });
        assert_eq!(ended, 0, "of {ROUNDS} connections that asked for no FIN");
        eventually("all closed", || running.stats()[0].streams_open.get() == 0);
        assert!(running.mail(ShardId(0), ()).is_ok());
        running.join().expect("no shard died");
    }
}

// Whether a connection is answered.
fn is_served(addr: SocketAddr) -> bool {
    let mut client = TcpStream::connect(addr).expect("the server listens");
    client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    // Without TIME_WAIT: ports do not run out.
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("linger");
    let mut back = [0; 5];
    client.write_all(b"hello").is_ok() && client.read_exact(&mut back).is_ok() && &back == b"hello"
}
