//! The members of one JSON object, each at most once, and their types.

use std::borrow::Cow;

use crate::{
    DecodeError,
    json::scan::{Scanner, unescape},
};

macro_rules! fields {
    ($($variant:ident $name:literal,)+) => {
        /// A member that some message has.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Field { $($variant,)+ }

        impl Field {
            const COUNT: usize = [$(Field::$variant,)+].len();

            pub(crate) fn name(self) -> &'static str {
                match self { $(Field::$variant => $name,)+ }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Field::$variant),)+ _ => None }
            }
        }
    };
}

fields! {
    Kind "kind", Id "id", Topic "topic", Body "body", From "from", Key "key", Offset "offset", AtMs "at_ms",
    Seq "seq", Epoch "epoch", After "after", Head "head", Level "level", Delivered "delivered", Read "read", Op "op",
    Token "token", Resume "resume", Session "session", Ticket "ticket", Device "device", Subs "subs",
    VersionMin "version_min", VersionMax "version_max", Features "features", User "user", Shard "shard",
    PingMs "ping_ms", Code "code", Message "message", RetryMs "retry_ms", Joined "joined", Left "left", Count "count",
    First "first", Reason "reason",
}

/// The known members of one object, as text.
pub(crate) struct Fields<'a> {
    values: [Option<&'a str>; Field::COUNT],
    id: Option<u32>,
}

impl<'a> Fields<'a> {
    /// Reads a whole text.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut scanner = Scanner::new(bytes)?;
        let mut fields = Self::collect(&mut scanner)?;
        scanner.end()?;
        fields.id = fields.optional(Field::Id).and_then(|text| text.parse().ok()).filter(|id| *id != 0);
        Ok(fields)
    }

    /// Reads an object inside of this one; what is wrong in it is wrong with this request.
    pub(crate) fn nested(&self, text: &'a str) -> Result<Self, DecodeError> {
        let fields = Self::collect(&mut Scanner::of(text))?;
        Ok(Self { id: self.id, ..fields })
    }

    fn collect(scanner: &mut Scanner<'a>) -> Result<Self, DecodeError> {
        let mut values = [None; Field::COUNT];
        scanner.object(|key, value| {
            let Some(field) = Field::from_name(&key) else { return Ok(()) };
            match values[field as usize].replace(value) {
                None => Ok(()),
                Some(_) => Err(DecodeError { field: field.name(), ..DecodeError::broken("given twice") }),
            }
        })?;
        Ok(Self { values, id: None })
    }

    /// The correlation id, if there is one that can be read.
    pub(crate) fn id(&self) -> Option<u32> {
        self.id
    }

    /// The correlation id of a request.
    pub(crate) fn request(&self) -> Result<u32, DecodeError> {
        self.id.ok_or(self.wrong(Field::Id, "a request has a whole number from 1 to 4294967295"))
    }

    pub(crate) fn wrong(&self, field: Field, reason: &'static str) -> DecodeError {
        DecodeError::invalid(self.id, field.name(), reason)
    }

    /// A member's text; `null` is as good as none.
    pub(crate) fn optional(&self, field: Field) -> Option<&'a str> {
        self.values[field as usize].filter(|text| *text != "null")
    }

    pub(crate) fn required(&self, field: Field) -> Result<&'a str, DecodeError> {
        self.optional(field).ok_or(self.wrong(field, "missing"))
    }

    pub(crate) fn text(&self, field: Field) -> Result<Cow<'a, str>, DecodeError> {
        self.as_text(field, self.required(field)?)
    }

    pub(crate) fn text_or_empty(&self, field: Field) -> Result<Cow<'a, str>, DecodeError> {
        self.optional(field).map_or(Ok(Cow::Borrowed("")), |text| self.as_text(field, text))
    }

    pub(crate) fn number(&self, field: Field) -> Result<u64, DecodeError> {
        self.as_number(field, self.required(field)?)
    }

    pub(crate) fn number_if_any(&self, field: Field) -> Result<Option<u64>, DecodeError> {
        self.optional(field).map(|text| self.as_number(field, text)).transpose()
    }

    pub(crate) fn short(&self, field: Field) -> Result<u32, DecodeError> {
        self.as_short(field, self.number(field)?)
    }

    pub(crate) fn short_if_any(&self, field: Field) -> Result<Option<u32>, DecodeError> {
        self.number_if_any(field)?.map(|number| self.as_short(field, number)).transpose()
    }

    /// An epoch: up to 16 hexadecimal digits in a string, because a number of JSON has only 53 bits.
    pub(crate) fn epoch(&self) -> Result<u64, DecodeError> {
        let text = self.text(Field::Epoch)?;
        let good = (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let epoch = u64::from_str_radix(&text, 16).ok().filter(|_| good);
        epoch.ok_or(self.wrong(Field::Epoch, "not a string of 1 to 16 hexadecimal digits"))
    }

    pub(crate) fn epoch_if_any(&self) -> Result<Option<u64>, DecodeError> {
        self.optional(Field::Epoch).map(|_| self.epoch()).transpose()
    }

    /// A body: an object, whose text is already known to be good.
    pub(crate) fn body(&self) -> Result<&'a [u8], DecodeError> {
        let text = self.required(Field::Body)?;
        if text.starts_with('{') { Ok(text.as_bytes()) } else { Err(self.wrong(Field::Body, "not an object")) }
    }

    /// The elements of an array; no array is an empty one.
    pub(crate) fn each(
        &self,
        field: Field,
        element: impl FnMut(&'a str) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        match self.optional(field) {
            None => Ok(()),
            Some(text) if text.starts_with('[') => Scanner::of(text).array(element),
            Some(_) => Err(self.wrong(field, "not an array")),
        }
    }

    pub(crate) fn as_text(&self, field: Field, text: &'a str) -> Result<Cow<'a, str>, DecodeError> {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let inner = inner.ok_or(self.wrong(field, "not a string"))?;
        unescape(inner).ok_or(self.wrong(field, "a string with half of a surrogate pair"))
    }

    fn as_number(&self, field: Field, text: &str) -> Result<u64, DecodeError> {
        text.parse().map_err(|_| self.wrong(field, "not a whole number from 0 to 18446744073709551615"))
    }

    fn as_short(&self, field: Field, number: u64) -> Result<u32, DecodeError> {
        u32::try_from(number).map_err(|_| self.wrong(field, "greater than 4294967295"))
    }
}
