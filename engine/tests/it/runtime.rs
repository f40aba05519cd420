//! Starting, stopping, dying.

use std::time::Duration;

use engine::{Config, EngineError, ShardId};

use crate::world::{Habit, Mail, World, eventually, tcp_config};

#[test]
fn a_shard_that_panics_is_named_and_the_others_stop() {
    let mut world = World::start(Habit::Echo, tcp_config(3));
    world.order(1, |_| panic!("a planted bug"));
    let running = world.running.take().expect("running");
    eventually("the end", || running.is_finished());
    match running.join() {
        Err(EngineError::ShardDied { shard, message }) => {
            assert_eq!((shard, message.as_str()), (ShardId(1), "a planted bug"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reactor_that_cannot_be_built_is_reported_too() {
    let config = Config { shards: 2, pin: false, ..Config::default() };
    let running = engine::bind(config)
        .and_then(|bound| {
            bound.start(|shard, _| {
                assert!(shard.0 == 0, "no room for a second one");
                Nothing
            })
        })
        .expect("the rings are up");
    eventually("the end", || running.is_finished());
    let error = running.join().expect_err("shard 1 died").to_string();
    assert!(error.contains("shard 1") && error.contains("no room"), "{error}");
}

struct Nothing;

impl engine::Reactor for Nothing {
    type Mail = ();
    fn on_datagrams(&mut self, _: &mut engine::Io<()>, _: engine::Socket, _: engine::Datagrams<'_>) {}
    fn on_stream(&mut self, _: &mut engine::Io<()>, _: engine::Stream, _: engine::StreamEvent<'_>) {}
    fn on_disk(&mut self, _: &mut engine::Io<()>, _: engine::Ticket, _: engine::Outcome) {}
    fn on_mail(&mut self, _: &mut engine::Io<()>, _: ShardId, (): ()) {}
    fn on_turn_end(&mut self, _: &mut engine::Io<()>) {}
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_key() {
    let wrong = [
        (Config { mailbox_slots: 3, ..Config::default() }, "mailbox_slots"),
        (Config { receive_buffers: 100, ..Config::default() }, "receive_buffers"),
        (Config { receive_buffer_bytes: 1, ..Config::default() }, "receive_buffer_bytes"),
        (Config { shards: 1000, ..Config::default() }, "shards"),
        (Config { streams_max: 0, ..Config::default() }, "streams_max"),
        (Config { cpus: Some(vec![]), ..Config::default() }, "cpus"),
        (Config { cpus: Some(vec![0]), shards: 2, ..Config::default() }, "cpus"),
    ];
    for (config, key) in wrong {
        let error = engine::bind(config).err().expect("refused").to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn the_control_threads_mail_is_bounded() {
    let world = World::tcp(Habit::Quiet, 1);
    // The shard is kept busy, so that its box fills.
    let (release, gate) = std::sync::mpsc::channel::<()>();
    world.order(0, move |_| {
        let _ = gate.recv_timeout(Duration::from_secs(20));
    });
    let mut taken = 0u64;
    while world.running().mail(ShardId(0), Mail::Number(taken)).is_ok() {
        taken += 1;
        assert!(taken < 1_000_000, "the box has no end");
    }
    drop(release);
    eventually("all of it", || world.stats(0).mail_in.get() >= taken);
    world.stop();
}

#[test]
fn a_pinned_shard_runs_where_it_was_told_to() {
    let config = Config { shards: 1, cpus: Some(vec![0]), ..Config::default() };
    let running = engine::bind(config).and_then(|bound| bound.start(|_, _| Place)).expect("it starts");
    let (_, cpus) = running.control().recv_timeout(Duration::from_secs(20)).expect("an answer");
    assert_eq!(cpus, "0");
    running.join().expect("it ends");
}

struct Place;

impl engine::Reactor for Place {
    type Mail = String;
    fn on_start(&mut self, io: &mut engine::Io<String>) {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list");
        io.mail(ShardId::CONTROL, line.trim().to_owned());
        io.exit();
    }
    fn on_datagrams(&mut self, _: &mut engine::Io<String>, _: engine::Socket, _: engine::Datagrams<'_>) {}
    fn on_stream(&mut self, _: &mut engine::Io<String>, _: engine::Stream, _: engine::StreamEvent<'_>) {}
    fn on_disk(&mut self, _: &mut engine::Io<String>, _: engine::Ticket, _: engine::Outcome) {}
    fn on_mail(&mut self, _: &mut engine::Io<String>, _: ShardId, _: String) {}
    fn on_turn_end(&mut self, _: &mut engine::Io<String>) {}
}

#[test]
fn a_busy_shard_counts_as_busy_and_a_parked_one_does_not() {
    let world = World::tcp(Habit::Echo, 1);
    let until = std::time::Instant::now() + Duration::from_millis(200);
    // The order keeps the shard busy; the next turn's reading shows it.
    world.order(0, move |_| while std::time::Instant::now() < until {});
    eventually("the work is done", || std::time::Instant::now() > until);
    world.order(0, |_| {});
    eventually("it is seen", || world.stats(0).busy_ns.get() > 10_000_000);
    world.stop();
}
