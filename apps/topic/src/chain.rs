//! A queue in pieces: it grows without moving what is in it, and gives memory back piece by piece.

use std::collections::VecDeque;

/// Elements of one piece. A few KiB for those that are kept here: little to set aside at once, much beside its overhead.
const PIECE_LEN: usize = 64;

/// Elements in order; new ones at the back, the oldest go in front.
///
/// A `VecDeque` doubles: thousands of them that fill at the same pace copy all they hold in the same moment.
#[derive(Debug)]
pub(crate) struct Chain<T> {
    /// All but the first and the last are full; none is empty.
    pieces: VecDeque<VecDeque<T>>,
    /// An empty one that keeps its memory, so that a chain which slides along allocates nothing.
    spare: Option<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Chain<T> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), spare: None, len: 0 }
    }
}

impl<T> Chain<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.pieces.front()?.front()
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.pieces.front_mut()?.front_mut()
    }

    pub(crate) fn back(&self) -> Option<&T> {
        self.pieces.back()?.back()
    }

    pub(crate) fn back_mut(&mut self) -> Option<&mut T> {
        self.pieces.back_mut()?.back_mut()
    }

    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        let (piece, place) = self.locate(place);
        self.pieces.get(piece)?.get(place)
    }

    pub(crate) fn push_back(&mut self, element: T) {
        match self.pieces.back_mut() {
            // The first one may have lost its front; it has room for as many as any.
            Some(last) if last.len() < PIECE_LEN => last.push_back(element),
            last => {
                // A short chain is small; one that has filled a piece fills the next.
                let room = if last.is_some() { PIECE_LEN } else { 0 };
                let mut piece = self.spare.take().unwrap_or_else(|| VecDeque::with_capacity(room));
                piece.push_back(element);
                self.pieces.push_back(piece);
            }
        }
        self.len += 1;
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.pieces.front_mut()?;
        let element = first.pop_front();
        if first.is_empty() {
            self.spare = self.pieces.pop_front();
        }
        self.len -= 1;
        element
    }

    /// How many elements at the beginning `is_before` holds for; it holds for none behind them.
    pub(crate) fn partition_point(&self, mut is_before: impl FnMut(&T) -> bool) -> usize {
        let whole = self.pieces.partition_point(|piece| piece.back().is_some_and(&mut is_before));
        let inside = self.pieces.get(whole).map_or(0, |piece| piece.partition_point(&mut is_before));
        self.start_of(whole) + inside
    }

    /// The elements from a place on, in order.
    pub(crate) fn from(&self, place: usize) -> impl Iterator<Item = &T> {
        let (piece, place) = self.locate(place.min(self.len));
        let rest = self.pieces.range(piece.min(self.pieces.len())..);
        rest.flat_map(VecDeque::iter).skip(place)
    }

    /// Takes all out.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.len = 0;
        std::mem::take(&mut self.pieces).into_iter().flatten()
    }

    fn locate(&self, place: usize) -> (usize, usize) {
        let first = self.pieces.front().map_or(0, VecDeque::len);
        match place.checked_sub(first) {
            None => (0, place),
            Some(behind) => (1 + behind / PIECE_LEN, behind % PIECE_LEN),
        }
    }

    fn start_of(&self, piece: usize) -> usize {
        let first = self.pieces.front().map_or(0, VecDeque::len);
        if piece == self.pieces.len() {
            self.len
        } else {
            piece.checked_sub(1).map_or(0, |more| first + more * PIECE_LEN)
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn it_holds_what_a_plain_queue_holds() {
        for seed in 0..50 {
            println!("seed {seed}");
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut chain, mut model) = (Chain::default(), VecDeque::new());
            let most = rng.random_range(1..1_000);
            for n in 0..3_000_u32 {
                chain.push_back(n);
                model.push_back(n);
                while model.len() > most || rng.random_ratio(1, 4) {
                    assert_eq!(chain.pop_front(), model.pop_front());
                }
                assert_eq!((chain.len(), chain.is_empty()), (model.len(), model.is_empty()));
                assert_eq!((chain.front(), chain.back()), (model.front(), model.back()));
                let place = rng.random_range(0..model.len() + 2);
                assert_eq!(chain.get(place), model.get(place), "at {place} of {}", model.len());
                let value = n.saturating_sub(rng.random_range(0..1_200));
                assert_eq!(chain.partition_point(|it| *it < value), model.partition_point(|it| *it < value));
                if n % 16 == 0 {
                    assert!(chain.from(place).eq(model.iter().skip(place)), "from {place} of {}", model.len());
                }
            }
            assert!(chain.take().eq(model));
            assert_eq!((chain.len(), chain.pop_front()), (0, None));
        }
    }

    #[test]
    fn what_is_in_it_stays_where_it_is() {
        let mut chain = Chain::default();
        (0..PIECE_LEN).for_each(|n| chain.push_back(n));
        let at = std::ptr::from_ref(chain.get(3).expect("held"));
        (0..100_000).for_each(|n| chain.push_back(n));
        assert!(std::ptr::eq(at, chain.get(3).expect("held")));
    }
}
