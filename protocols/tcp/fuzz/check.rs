//! What must hold for any bytes that a peer sends: shared by the fuzz target and the replay of its corpus.

use tcp::frame::{Deframer, FrameError, HEADER_LEN, OFFSET_LEN};

/// Small, so that the limit is met by small inputs.
const BODY_MAX: usize = 100;

/// The first byte says in which pieces the rest is received.
pub(crate) fn frames(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = receive(bytes, bytes.len().max(1));
    assert_eq!(whole, receive(bytes, usize::from(size).max(1)), "it matters where the bytes are cut");
    let (frames, error) = whole;
    assert!(bytes.starts_with(&frames.concat()), "frames are what was received, in order");
    for frame in &frames {
        assert!((HEADER_LEN..=HEADER_LEN + OFFSET_LEN + BODY_MAX).contains(&frame.len()));
    }
    let rest = bytes.len() - frames.concat().len();
    assert!(error.is_some() || rest < HEADER_LEN + OFFSET_LEN + BODY_MAX, "a whole frame was not handed out");
}

fn receive(bytes: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut deframer, mut frames) = (Deframer::new(BODY_MAX), Vec::new());
    for mut piece in bytes.chunks(size) {
        loop {
            match deframer.next(&mut piece) {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(piece.is_empty() && deframer.pending() < HEADER_LEN + OFFSET_LEN + BODY_MAX);
    }
    (frames, None)
}
