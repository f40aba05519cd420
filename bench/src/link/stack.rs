//! The transports that are measured: each a name, the program that speaks it, and the variant the program is told.

use std::path::{Path, PathBuf};

/// A transport in one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its name in flags and tables.
    pub name: &'static str,
    /// The program: ours beside this one, or a peer's.
    pub program: &'static str,
    /// What it is told.
    pub variant: &'static str,
    /// Its colour in the report.
    pub colour: &'static str,
}

/// Our program.
const OURS: &str = "ringshard-link";

const fn stack(name: &'static str, program: &'static str, variant: &'static str, colour: &'static str) -> Stack {
    Stack { name, program, variant, colour }
}

/// Plain datagrams, with which a link tests itself.
pub const PROBE: Stack = stack("probe", "ringshard-probe", "", "#000");

/// All of them, ours first.
pub const STACKS: &[Stack] = &[
    stack("quantum", OURS, "bbr", "#c8102e"),
    stack("quantum-nofec", OURS, "bbr-nofec", "#f06a7e"),
    stack("quantum-cubic", OURS, "cubic", "#8c4a00"),
    stack("quinn-cubic", "link_quinn", "cubic", "#1f5fbf"),
    stack("quinn-bbr", "link_quinn", "bbr", "#6fa8ff"),
    stack("quiche-cubic", "link_quiche", "cubic", "#00756a"),
    stack("quiche-bbr2", "link_quiche", "bbr2", "#4cc3b5"),
    stack("kcp-normal", "link_kcp", "normal", "#7a5aa6"),
    stack("kcp-fastest", "link_kcp", "fastest", "#b89ae0"),
    stack("enet", "link_enet", "", "#c99700"),
    stack("tcp-cubic", "link_tcp", "cubic", "#3a3a3a"),
    stack("tcp-bbr", "link_tcp", "bbr", "#8f8f8f"),
];

/// The stack of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Stack> {
    STACKS.iter().find(|stack| stack.name == name)
}

impl Stack {
    /// Whether it is Quantum.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.program.starts_with("ringshard-")
    }

    /// Where its program is, if it has been built.
    #[must_use]
    pub fn path(&self, ours: &Path, peers: &Path) -> Option<PathBuf> {
        let path = if self.is_ours() { ours } else { peers }.join(self.program);
        path.is_file().then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::scenario::SCENARIOS, *};

    #[test]
    fn names_are_unique_and_rivals_exist() {
        for (at, stack) in STACKS.iter().enumerate() {
            assert!(STACKS[..at].iter().all(|other| other.name != stack.name), "{} twice", stack.name);
        }
        assert!(SCENARIOS.iter().filter_map(|scenario| scenario.rival).all(|rival| find(rival).is_some()));
    }
}
