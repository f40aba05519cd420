//! Bugs planted into a world, to see that it catches them.

use ringshard::mail::Mail;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plant {
    /// One delivery of a message to a shard is left out: its readers skip an offset.
    SkippedOffset { countdown: u32 },
    /// One delivery of a message to a shard is made twice.
    DoubledFanOut { countdown: u32 },
    /// A shard is not woken by mail, nor at its deadlines: it turns only when bytes arrive.
    LostWake,
}

impl Plant {
    /// How often this mail is to arrive.
    pub(crate) fn tamper(&mut self, mail: &Mail) -> usize {
        match self {
            Plant::SkippedOffset { countdown } if is_delivery(mail) => due(countdown, 0),
            Plant::DoubledFanOut { countdown } if is_delivery(mail) => due(countdown, 2),
            Plant::SkippedOffset { .. } | Plant::DoubledFanOut { .. } | Plant::LostWake => 1,
        }
    }
}

/// Counts deliveries down; the last one arrives `times` times.
fn due(countdown: &mut u32, times: usize) -> usize {
    *countdown = countdown.saturating_sub(1);
    if *countdown == 1 { times } else { 1 }
}

/// Whether a mail brings a message to a shard that listens. The mail itself is the topics' secret; its debug form is not.
fn is_delivery(mail: &Mail) -> bool {
    matches!(mail, Mail::Chat(_)) && format!("{mail:?}").contains("Deliver")
}

/// The same mail once more.
pub(crate) fn twin(mail: &Mail) -> Option<Mail> {
    match mail {
        Mail::Chat(mail) => Some(Mail::Chat(mail.clone())),
        Mail::Barrier(_)
        | Mail::Datagrams(_)
        | Mail::Ready
        | Mail::Asked(_)
        | Mail::Answered { .. }
        | Mail::Ended(_)
        | Mail::Drain { .. }
        | Mail::Snapshot(_)
        | Mail::Drained => None,
    }
}
