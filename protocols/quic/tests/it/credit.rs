//! Streams that are over make room for others of the same side, however they ended.

use std::time::Duration;

use quic::{Direction, Event, Handle, StreamId, Transport};

use crate::world::{World, drain, plain};

/// Both ends of a connection on which four streams of a kind may be open.
struct Narrow {
    world: World,
    client: Handle,
    server: (usize, Handle),
}

/// The client opens many more streams than may be open at a time, and each ends in the same way.
fn many(direction: Direction, end: impl Fn(&mut Narrow, StreamId)) {
    let transport = Transport { streams_unidirectional_max: 4, streams_bidirectional_max: 4, ..Transport::default() };
    let mut world = World::with(1, 1, plain(), &transport, |_| {});
    let (client, server) = world.connected();
    let mut narrow = Narrow { world, client, server };
    for number in 0..20 {
        let id = narrow.world.client_at(client).open(direction);
        let id = id.unwrap_or_else(|error| panic!("{direction:?}, {number} opened: {error}"));
        end(&mut narrow, id);
        narrow.pause();
        narrow.pause();
    }
}

impl Narrow {
    fn pause(&mut self) {
        self.world.run_for(Duration::from_millis(100));
    }

    fn write(&mut self, id: StreamId, bytes: &[u8], end: bool) {
        self.world.client_at(self.client).write(id, bytes, end).unwrap();
        self.world.flush();
    }

    /// The server's answer arrives, which the client acknowledges.
    fn answer(&mut self, id: StreamId) {
        self.world.server_at(self.server).write(id, b"answer", true).unwrap();
        self.pause();
        assert!(drain(self.world.client_at(self.client), id, &mut Vec::new()));
        self.pause();
    }
}

#[test]
fn a_stop_of_what_has_ended() {
    for direction in [Direction::Unidirectional, Direction::Bidirectional] {
        many(direction, |narrow, id| {
            narrow.write(id, b"all", true);
            narrow.pause();
            narrow.world.server_at(narrow.server).stop(id, 5);
            if direction == Direction::Bidirectional {
                narrow.answer(id);
            }
        });
    }
}

/// quiche keeps streams in one direction that it stops, so some of them are only not read.
#[test]
fn a_stop_of_what_goes_on() {
    many(Direction::Unidirectional, |narrow, id| {
        narrow.write(id, b"some", false);
        narrow.pause();
        narrow.world.server_at(narrow.server).stop(id, 5);
        narrow.pause();
        if !narrow.world.client_told(narrow.client, &Event::Stopped { id, code: 5 }) {
            assert!(id.index() >= 2, "half of four are stopped");
            narrow.world.server_events.clear();
            narrow.write(id, b"more", true);
            narrow.pause();
            assert!(narrow.world.server_events.is_empty(), "nothing more is told: {:?}", narrow.world.server_events);
        }
    });
}

#[test]
fn a_stop_behind_the_answer() {
    many(Direction::Bidirectional, |narrow, id| {
        narrow.write(id, b"some", false);
        narrow.pause();
        narrow.answer(id);
        narrow.world.server_at(narrow.server).stop(id, 5);
    });
}

#[test]
fn a_reset_behind_the_end() {
    many(Direction::Bidirectional, |narrow, id| {
        narrow.write(id, b"some", false);
        narrow.pause();
        drain(narrow.world.server_at(narrow.server), id, &mut Vec::new());
        narrow.answer(id);
        narrow.write(id, b"rest", true);
        narrow.world.client_at(narrow.client).reset(id, 3);
        narrow.pause();
        let is_told = |(_, _, event): &_| matches!(event, Event::Reset { id: told, .. } if *told == id);
        assert!(narrow.world.server_events.iter().any(is_told), "{:?}", narrow.world.server_events);
    });
}

#[test]
fn an_end_with_bytes_of_before() {
    many(Direction::Bidirectional, |narrow, id| {
        narrow.write(id, b"some", false);
        narrow.pause();
        narrow.answer(id);
        narrow.write(id, b"rest", false);
        narrow.world.run_for(Duration::from_millis(20));
        let mut bytes = Vec::new();
        assert!(!drain(narrow.world.server_at(narrow.server), id, &mut bytes) && bytes == b"somerest");
        // The acknowledgement is lost, and the end.
        let later = narrow.world.now + Duration::from_secs(1);
        narrow.world.flush();
        while narrow.world.down.poll(later).is_some() {}
        narrow.write(id, b"", true);
        while narrow.world.up.poll(later).is_some() {}
        narrow.world.run_for(Duration::from_secs(1));
        assert!(drain(narrow.world.server_at(narrow.server), id, &mut bytes));
    });
}
