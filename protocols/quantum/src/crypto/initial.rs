//! Initial packets, for whom no state is kept: whether one is genuine, and how one is refused.

use rustls::quic::{Keys, Version};

use super::config::initial_suite;
use crate::{
    frame::{Close, Frame, Side},
    guuid::Guuid,
    packet::{self, LongKind, OpenError},
};

/// Whether the first packet of a datagram is an Initial sealed for the id `to`: whoever sent it at least tried.
pub(crate) fn initial_opens(to: Guuid, datagram: &[u8]) -> bool {
    let (mut copy, keys) = (datagram.to_vec(), initial_keys(Side::Server, to));
    let Ok((packet, _)) = packet::parse(&mut copy) else { return false };
    let Some((_, number_at)) = packet.header.number() else { return false };
    let head = packet::unprotect(packet.bytes, number_at, &*keys.remote.header, 0);
    head.is_some_and(|head| !matches!(packet::open(packet.bytes, &head, &*keys.remote.packet), Err(OpenError::Forged)))
}

/// Appends an Initial packet of a server that keeps no state: CLOSE with a code.
pub(crate) fn seal_refusal(original_to: Guuid, to: Guuid, from: Guuid, code: u64, out: &mut Vec<u8>) {
    let keys = initial_keys(Side::Server, original_to);
    let draft = packet::encode_long(LongKind::Initial, to, from, &[], 0, None, out);
    Frame::Close(Close { application: false, code, reason: &[] }).encode(out);
    let _len = draft.seal(&*keys.local.header, &*keys.local.packet, out);
}

/// Keys that anybody can derive: they only keep others from answering by chance (RFC 9001, section 5.2).
pub(super) fn initial_keys(side: Side, to: Guuid) -> Keys {
    let side = match side {
        Side::Client => rustls::Side::Client,
        Side::Server => rustls::Side::Server,
    };
    initial_suite().keys(to.as_bytes(), side, Version::V1)
}
