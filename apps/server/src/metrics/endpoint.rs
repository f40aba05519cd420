//! What an endpoint of one shard has counted, Quantum's or QUIC's, as the shard shows it to the rest of the process.

use std::marker::PhantomData;

use super::{catalogue::Kind, label::Family};

/// A figure: its name behind the endpoint's own, the help, whether it only rises, and where the endpoint has it.
pub type Figure<E> = (&'static str, &'static str, Kind, fn(&E) -> u64);

/// An endpoint whose figures are shown.
pub trait Counted: Sized + 'static {
    /// What its figures are called behind `ringshard_`.
    const NAME: &'static str;

    /// Every figure. Those of packets count connections that have ended: a connection keeps its own until then.
    const FIGURES: &'static [Figure<Self>];

    /// Datagrams that were dropped, by reason.
    fn dropped(&self) -> &[u64];
}

/// The figures of one shard's endpoint: `F` figures, `D` reasons to drop a datagram.
#[derive(Debug)]
pub struct EndpointStats<E, const F: usize, const D: usize> {
    pub(super) figures: Family<F>,
    pub(super) drops: Family<D>,
    of: PhantomData<fn(&E)>,
}

impl<E, const F: usize, const D: usize> Default for EndpointStats<E, F, D> {
    fn default() -> Self {
        Self { figures: Family::default(), drops: Family::default(), of: PhantomData }
    }
}

impl<E: Counted, const F: usize, const D: usize> EndpointStats<E, F, D> {
    /// Shows what the endpoint has counted. Only its shard may call it.
    pub(crate) fn show(&self, endpoint: &E) {
        for (at, (_, _, _, pick)) in E::FIGURES.iter().enumerate() {
            self.figures.at(at).set(pick(endpoint));
        }
        for (at, count) in endpoint.dropped().iter().enumerate() {
            self.drops.at(at).set(*count);
        }
    }

    /// A figure by its name behind the endpoint's.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<u64> {
        let at = E::FIGURES.iter().position(|(known, ..)| *known == name)?;
        Some(self.figures.at(at).get())
    }

    /// Bytes of datagrams received and sent.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        ["bytes_received_total", "bytes_sent_total"].map(|name| self.figure(name).unwrap_or(0)).into()
    }
}
