//! Faults that a test must find (`cargo verify mutants`): an environment variable of a process that simulates puts one in.
//! Without the feature `simulation` there are none, and nothing of this is left in the program.

/// A fault.
#[cfg_attr(not(feature = "simulation"), allow(dead_code, reason = "without simulations there are no faults to choose"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// A batch counts as committed as soon as its write is issued.
    AckBeforeSync,
    /// The checksum of a batch is not compared.
    NoCrc,
    /// Recovery takes the last batch for a torn one.
    TruncateTooMuch,
    /// What counts of a segment is what looks whole in it, whatever the next one says.
    NoPrevious,
    /// Recovery does not bring back the counters of publications.
    NoCounters,
    /// The next segment is removed although the one before could not be.
    HastyRemoval,
    /// What a killed process left is not synced before it is shown.
    NoSyncAtStart,
    /// A batch that failed is left for the next run to find.
    NoBlank,
    /// A batch counts although the one before it is not on disk.
    OutOfOrder,
    /// A batch is believed to be on disk when another one that was under way with it has failed.
    BelieveTheRest,
    /// A batch that follows what is none is taken for one that was under way, whatever it says.
    AnyTail,
    /// A topic is forgotten although a segment may have messages of it.
    HastyForgetting,
    /// What facts spoke of that are gone is shown again.
    NoFloor,
}

#[cfg(feature = "simulation")]
impl Mutant {
    const ALL: [(&'static str, Mutant); 13] = [
        ("ack_before_sync", Mutant::AckBeforeSync),
        ("no_crc", Mutant::NoCrc),
        ("truncate_too_much", Mutant::TruncateTooMuch),
        ("no_previous", Mutant::NoPrevious),
        ("no_counters", Mutant::NoCounters),
        ("hasty_removal", Mutant::HastyRemoval),
        ("no_sync_at_start", Mutant::NoSyncAtStart),
        ("no_blank", Mutant::NoBlank),
        ("out_of_order", Mutant::OutOfOrder),
        ("believe_the_rest", Mutant::BelieveTheRest),
        ("any_tail", Mutant::AnyTail),
        ("hasty_forgetting", Mutant::HastyForgetting),
        ("no_floor", Mutant::NoFloor),
    ];

    /// Whether this fault is in this process.
    pub(crate) fn is_in(self) -> bool {
        static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
        let choose = || {
            let name = std::env::var("TOPIC_MUTANT").ok()?;
            let mutant = Self::ALL.into_iter().find(|(known, _)| *known == name);
            assert!(mutant.is_some(), "TOPIC_MUTANT: there is no `{name}`");
            mutant.map(|(_, mutant)| mutant)
        };
        *CHOSEN.get_or_init(choose) == Some(self)
    }
}

#[cfg(not(feature = "simulation"))]
impl Mutant {
    pub(crate) const fn is_in(self) -> bool {
        false
    }
}
