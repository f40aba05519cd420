//! Which frame may stand where.

use crate::{frame::kind, packet::Space};

/// Whether a frame of this type asks for an acknowledgement (RFC 9000, section 13.2).
#[must_use]
pub fn is_ack_eliciting(kind: u64) -> bool {
    !matches!(kind, kind::PADDING | kind::ACK | kind::ACK_ECN | kind::CLOSE | kind::CLOSE_APPLICATION)
}

/// Whether a frame of this type may stand in a packet of `space`, or in a 0-RTT packet (RFC 9000, section 12.4).
#[must_use]
pub fn is_allowed(kind: u64, space: Space, zero_rtt: bool) -> bool {
    let handshake = matches!(kind, kind::PADDING | kind::PING | kind::ACK | kind::ACK_ECN | kind::CRYPTO | kind::CLOSE);
    // What answers the peer, and what only a server says, has no place before the handshake is done. Nor has error
    // correction: the peer's window is not known yet.
    let late = matches!(
        kind,
        kind::ACK
            | kind::ACK_ECN
            | kind::CRYPTO
            | kind::NEW_TOKEN
            | kind::RETIRE_ID
            | kind::PATH_RESPONSE
            | kind::HANDSHAKE_DONE
            | kind::SYMBOL
            | kind::REPAIR
            | kind::SYMBOL_ACK
            | kind::FEC_WINDOW
    );
    match space {
        Space::Initial | Space::Handshake => handshake,
        Space::Application => !zero_rtt || !late,
    }
}

/// Whether a packet of nothing but such frames may come from a new address without the connection moving there
/// (RFC 9000, section 9.1).
#[must_use]
pub fn is_probing(kind: u64) -> bool {
    matches!(kind, kind::PADDING | kind::PATH_CHALLENGE | kind::PATH_RESPONSE | kind::NEW_ID)
}

/// Whether a frame of this type may stand in a symbol: what carries or steers data, and may arrive late. Whatever is
/// about packets, paths, ids or keys must be seen when its packet is, or not at all.
#[must_use]
pub fn is_protectable(kind: u64) -> bool {
    matches!(
        kind,
        kind::RESET_STREAM
            | kind::STOP_SENDING
            | 0x08..=0x0F
            | kind::MAX_DATA
            | kind::MAX_STREAM_DATA
            | 0x12..=0x17
            | kind::MESSAGE_FLOOR
            | 0x28..=0x2F
            | 0x30
            | 0x31
    )
}
