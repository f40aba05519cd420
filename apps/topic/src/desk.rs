//! What the local part and the home part of a shard's topics share: limits, names, counters, the calendar, and paper.

use ahash::RandomState;
use bytes::Bytes;
use handler::{Code, Cx, Peer, Push};

use crate::{
    due::Due,
    limit::{Limits, RETRY_MS},
    mail::{Mail, Parcel, Refusal},
    name::Names,
    stats::Stats,
};

#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) limits: Limits,
    pub(crate) hasher: RandomState,
    pub(crate) names: Names,
    pub(crate) stats: Stats,
    pub(crate) due: Due,
    pub(crate) scratch: Vec<u8>,
}

impl Desk {
    pub(crate) fn new(limits: Limits, hasher: RandomState) -> Self {
        let names = Names::new(hasher.clone());
        Self { limits, hasher, names, stats: Stats::default(), due: Due::default(), scratch: Vec::new() }
    }

    /// Packs texts and a body for the mail.
    pub(crate) fn pack(&mut self, cx: &mut Cx<'_, Mail>, texts: &[&str], body: &[u8]) -> Parcel {
        Parcel::pack(cx, &mut self.scratch, texts, body)
    }

    /// Packs names for the mail.
    pub(crate) fn pack_names<'n>(&mut self, cx: &mut Cx<'_, Mail>, names: impl Iterator<Item = &'n str>) -> Bytes {
        self.scratch.clear();
        for name in names {
            let len = u16::try_from(name.len()).expect("names are short");
            self.scratch.extend_from_slice(&len.to_le_bytes());
            self.scratch.extend_from_slice(name.as_bytes());
        }
        if self.scratch.is_empty() { Bytes::new() } else { cx.copy(&self.scratch) }
    }

    /// Reads packed names.
    pub(crate) fn unpack_names(&mut self, mut packed: &[u8]) -> std::sync::Arc<[std::sync::Arc<str>]> {
        let mut names = Vec::new();
        while let Some((len, rest)) = packed.split_first_chunk::<2>() {
            let (name, rest) = rest.split_at(usize::from(u16::from_le_bytes(*len)));
            names.push(self.names.intern(str::from_utf8(name).expect("packed from a text")).text);
            packed = rest;
        }
        names.into()
    }

    /// Tells a peer that something was not done.
    pub(crate) fn refuse(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, id: Option<u32>, refusal: Refusal) {
        self.stats.refused += 1;
        let Refusal { code, message, retry_ms } = refusal;
        cx.send(peer, Push::Err { id, code, message: message.to_owned(), retry_ms });
    }
}

impl Refusal {
    pub(crate) const fn new(code: Code, message: &'static str) -> Self {
        Self { code, message, retry_ms: None }
    }

    pub(crate) const fn full(message: &'static str) -> Self {
        Self { code: Code::ResourceExhausted, message, retry_ms: Some(RETRY_MS) }
    }
}
