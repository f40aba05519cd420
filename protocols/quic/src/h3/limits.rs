//! Every limit of the HTTP/3 layer, with its reason. A test fills each.

use std::time::Duration;

/// What the owner may set; the defaults are those of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a field section: as encoded, and as RFC 9114 section 4.2.2 counts it (32 more per field). Told to the
    /// peer; a request beyond it is answered with 431. Until it is whole a stream holds it, for `head_secs` at most.
    pub section_bytes_max: u32,
    /// Fields of one section; more is 431. Browsers send about 20.
    pub fields_max: u16,
    /// Bytes of a request target; longer is 414.
    pub target_bytes_max: u16,
    /// Bytes of a frame on the control stream that must be held whole; a larger one ends the connection.
    pub control_frame_bytes_max: u16,
    /// Bidirectional streams that the peer may have open: to be what the transport grants at once. Ids further ahead
    /// cannot exist, and naming one ends the connection.
    pub streams_max: u16,
    /// Requests that are open; a further one is rejected (the client may repeat it).
    pub requests_max: u16,
    /// Resets by the peer, above the number of finished requests, that end the connection: rapid reset.
    pub resets_max: u16,
    /// PRIORITY_UPDATE frames kept for requests that have not arrived; later ones are forgotten.
    pub priorities_max: u16,
    /// Bytes of one stream that wait to be read by the app; then the stream stalls.
    pub stream_in_bytes_max: u32,
    /// Bytes of all streams that wait to be read; then all stall.
    pub connection_in_bytes_max: u32,
    /// Bytes of one stream that wait to be written, from which the app can add no more.
    pub stream_out_bytes_max: u32,
    /// Bytes of all streams that wait to be written, from which the app can add no more to any: whoever opens many
    /// streams and reads none of them holds so much. Whole answers to requests count, and are taken all the same.
    pub connection_out_bytes_max: u32,
    /// Datagrams that wait for the app; later ones are dropped and counted.
    pub datagrams_in_max: u16,
    /// Datagrams that wait for the transport; later ones are refused.
    pub datagrams_out_max: u16,
    /// Seconds from a stream's first byte to the end of its head.
    pub head_secs: u16,
    /// WebTransport sessions of a connection; a further one is answered with 429.
    pub sessions_max: u16,
    /// Streams of one session, of both sides; a further one of the peer is reset.
    pub session_streams_max: u16,
    /// Streams of a connection that wait for their session; a further one is rejected.
    pub early_streams_max: u16,
    /// Bytes of each that are held meanwhile; then it stalls.
    pub early_stream_bytes_max: u32,
    /// Seconds that they may wait.
    pub early_secs: u16,
    /// Datagrams of a connection that wait for their session; later ones are dropped and counted.
    pub early_datagrams_max: u16,
    /// Bytes of a capsule that is held whole; a larger DATAGRAM capsule is skipped.
    pub capsule_bytes_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            section_bytes_max: 16 * 1024,
            fields_max: 100,
            target_bytes_max: 8 * 1024,
            control_frame_bytes_max: 4 * 1024,
            streams_max: 128,
            requests_max: 128,
            resets_max: 100,
            priorities_max: 32,
            stream_in_bytes_max: 64 * 1024,
            connection_in_bytes_max: 1024 * 1024,
            stream_out_bytes_max: 256 * 1024,
            connection_out_bytes_max: 1024 * 1024,
            datagrams_in_max: 256,
            datagrams_out_max: 256,
            head_secs: 10,
            sessions_max: 16,
            session_streams_max: 64,
            early_streams_max: 16,
            early_stream_bytes_max: 8 * 1024,
            early_secs: 10,
            early_datagrams_max: 16,
            capsule_bytes_max: 2 * 1024,
        }
    }
}

impl Limits {
    pub(crate) fn head(&self) -> Duration {
        Duration::from_secs(self.head_secs.into())
    }

    pub(crate) fn early(&self) -> Duration {
        Duration::from_secs(self.early_secs.into())
    }
}
