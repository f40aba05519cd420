//! Faults that a test must find (`cargo verify mutants`): an environment variable of a process that simulates puts one in.
//! Without the feature `simulation` there are none, and nothing of this is left in the program.

/// A fault.
#[cfg_attr(not(feature = "simulation"), allow(dead_code, reason = "without simulations there are no faults to choose"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// Groups are built, and no parity is sent.
    NoParity,
    /// The congestion window holds nothing back.
    EndlessWindow,
    /// The round trip is measured from packets, too, whose content was sent again before they were acknowledged.
    RttOfRetransmits,
    /// A packet that arrives twice is read twice.
    NoReplayCheck,
    /// What the peer restored is sent again all the same.
    SymbolAckIgnored,
    /// Received numbers are told for ever, however often the peer acknowledged that it knows.
    NoAckOfAcks,
}

#[cfg(feature = "simulation")]
impl Mutant {
    const ALL: [(&'static str, Mutant); 6] = [
        ("no_parity", Mutant::NoParity),
        ("endless_window", Mutant::EndlessWindow),
        ("rtt_of_retransmits", Mutant::RttOfRetransmits),
        ("no_replay_check", Mutant::NoReplayCheck),
        ("symbol_ack_ignored", Mutant::SymbolAckIgnored),
        ("no_ack_of_acks", Mutant::NoAckOfAcks),
    ];

    /// Whether this fault is in this process.
    pub(crate) fn is_in(self) -> bool {
        static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
        let choose = || {
            let name = std::env::var("QUANTUM_MUTANT").ok()?;
            let mutant = Self::ALL.into_iter().find(|(known, _)| *known == name);
            assert!(mutant.is_some(), "QUANTUM_MUTANT: there is no `{name}`");
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
