//! The 64 bits that name an operation in its completion: what it was, and whose.

/// What an operation was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Operation {
    /// A cancellation or another operation whose own completion says nothing.
    Quiet,
    /// Another shard rang.
    Bell,
    /// The control thread rang: the eventfd was read.
    ControlBell,
    Accept,
    Receive,
    Send,
    Shutdown,
    Close,
    /// A connection was closed before it became a stream.
    Refuse,
    Install,
    Connect,
    ReceiveTrain,
    SendTrain,
    Blocks,
}

const OPERATIONS: [Operation; 14] = [
    Operation::Quiet,
    Operation::Bell,
    Operation::ControlBell,
    Operation::Accept,
    Operation::Receive,
    Operation::Send,
    Operation::Shutdown,
    Operation::Close,
    Operation::Refuse,
    Operation::Install,
    Operation::Connect,
    Operation::ReceiveTrain,
    Operation::SendTrain,
    Operation::Blocks,
];

/// The tag of an operation on slot `index` of its table.
pub(crate) fn tag(operation: Operation, index: u32) -> u64 {
    (operation as u64) << 32 | u64::from(index)
}

/// What a tag says.
pub(crate) fn parse(tag: u64) -> (Operation, u32) {
    let operation = OPERATIONS.get((tag >> 32) as usize).copied().unwrap_or(Operation::Quiet);
    (operation, tag as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_comes_back() {
        for operation in OPERATIONS {
            assert_eq!(parse(tag(operation, 0xFFFF_FFFF)), (operation, 0xFFFF_FFFF));
        }
    }
}
