//! What kind of wrong, and how safe: the two small vocabularies of answers.

/// What kind of wrong: gRPC's names and numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// A code that this version does not know.
    Unknown,
    /// The request makes no sense, whatever the state.
    InvalidArgument,
    /// It took too long.
    DeadlineExceeded,
    /// No such thing.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// The caller may not.
    PermissionDenied,
    /// A limit; try later.
    ResourceExhausted,
    /// Not in this state.
    FailedPrecondition,
    /// An offset beyond the end.
    OutOfRange,
    /// There is no such operation.
    Unimplemented,
    /// The server's fault.
    Internal,
    /// Try again.
    Unavailable,
    /// Nobody knows who the caller is.
    Unauthenticated,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 13] = [
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::Unauthenticated,
    ];

    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid_argument",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::PermissionDenied => "permission_denied",
            Self::ResourceExhausted => "resource_exhausted",
            Self::FailedPrecondition => "failed_precondition",
            Self::OutOfRange => "out_of_range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// The number in frames.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Unknown => 2,
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::OutOfRange => 11,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// The code with this name. One of a later version is still an error: `Unknown`.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|code| code.name() == name).unwrap_or(Self::Unknown)
    }

    /// The code with this number. One of a later version is still an error: `Unknown`.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self::ALL.into_iter().find(|code| u64::from(code.number()) == number).unwrap_or(Self::Unknown)
    }
}

/// How safe an acknowledged message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// In the memory of its home shard.
    Memory,
    /// On disk.
    Durable,
}

impl Level {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Durable => "durable",
        }
    }

    /// The number in frames. 0 is left free, so that a missing level is noticed.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Memory => 1,
            Self::Durable => 2,
        }
    }

    /// The level with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Memory, Self::Durable].into_iter().find(|level| level.name() == name)
    }

    /// The level with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        [Self::Memory, Self::Durable].into_iter().find(|level| u64::from(level.number()) == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back() {
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), code);
            assert_eq!(Code::from_number(code.number().into()), code);
        }
        assert_eq!((Code::from_name("data_loss"), Code::from_number(15)), (Code::Unknown, Code::Unknown));
        for level in [Level::Memory, Level::Durable] {
            assert_eq!(Level::from_name(level.name()), Some(level));
            assert_eq!(Level::from_number(level.number().into()), Some(level));
        }
        assert_eq!((Level::from_name("replicated"), Level::from_number(0)), (None, None));
    }
}
