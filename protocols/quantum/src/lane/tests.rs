//! Two sides of a connection without packets between them: frames go through a pipe that loses, shuffles and repeats.

mod hostile;
mod messages;
mod model;
mod pair;
mod streams;

use super::*;

/// Limits that tests reach quickly.
fn limits() -> Limits {
    Limits {
        data_max: 64 * 1024,
        data_window_max: 1024 * 1024,
        stream_data_max: 16 * 1024,
        stream_window_max: 256 * 1024,
        streams_bidirectional_max: 16,
        streams_unidirectional_max: 16,
        datagram_max: 1200,
        message_max: 64 * 1024,
        message_bytes_max: 256 * 1024,
        send_bytes_max: 64 * 1024,
        datagram_send_bytes_max: 16 * 1024,
        datagram_receive_bytes_max: 16 * 1024,
    }
}

fn told(limits: &Limits) -> PeerLimits {
    PeerLimits {
        data_max: limits.data_max,
        stream_data_max: limits.stream_data_max,
        streams_bidirectional_max: limits.streams_bidirectional_max,
        streams_unidirectional_max: limits.streams_unidirectional_max,
        datagram_max: limits.datagram_max,
        message_max: limits.message_max,
        message_bytes_max: limits.message_bytes_max,
    }
}

#[test]
fn an_idle_connection_costs_next_to_nothing() {
    eprintln!("{} {} {}", size_of::<Lanes>(), size_of::<send::SendHalf>(), size_of::<recv::RecvHalf>());
    assert!(size_of::<Lanes>() <= 600, "{}", size_of::<Lanes>());
}
