//! The code: XOR for one row, Reed-Solomon over GF(2^16) for more, with a decoder that is quick on small blocks.

use reed_solomon_simd::{
    engine::{DefaultEngine, Engine, GF_MODULUS, GfElement, ShardsRefMut, tables, utils},
    rate::{HighRateEncoder, RateEncoder},
};

use super::{COLUMNS, columns};

/// A symbol with its virtual columns.
pub(super) type Symbol<'a> = ([u8; COLUMNS], &'a [u8]);

/// Rows that a code of this class has.
pub(super) fn class_rows(class: u8) -> usize {
    1 << class
}

/// The smallest class that has `rows` rows. Rows of one class do not fit another (HighRate is prefix-stable inside one
/// power of two only), so that REPAIR names it.
pub(super) fn class_of(rows: usize) -> u8 {
    rows.next_power_of_two().trailing_zeros() as u8
}

/// Makes rows; its memory is kept from group to group.
#[derive(Default)]
pub(super) struct Encoder {
    code: Option<HighRateEncoder<DefaultEngine>>,
    scratch: Vec<u8>,
}

impl Encoder {
    /// Gives `rows` rows of `len` bytes to `take`, made of `k` symbols that are padded with zeros to `len`.
    pub(super) fn encode<'a>(
        &mut self,
        (k, rows, len): (usize, usize, usize),
        symbols: impl Iterator<Item = Symbol<'a>>,
        mut take: impl FnMut(usize, &[u8]),
    ) {
        if rows == 1 {
            zero(&mut self.scratch, len);
            symbols.for_each(|symbol| xor(&mut self.scratch, symbol));
            return take(0, &self.scratch);
        }
        let encoded = self.encode_rows((k, rows, len), symbols, &mut take);
        debug_assert!(encoded.is_some(), "the caller keeps to the code's limits");
    }

    fn encode_rows<'a>(
        &mut self,
        (k, rows, len): (usize, usize, usize),
        symbols: impl Iterator<Item = Symbol<'a>>,
        take: &mut impl FnMut(usize, &[u8]),
    ) -> Option<()> {
        let code = match &mut self.code {
            Some(code) => {
                code.reset(k, rows, len).ok()?;
                code
            }
            none => none.insert(HighRateEncoder::new(k, rows, len, DefaultEngine::new(), None).ok()?),
        };
        for symbol in symbols {
            pad(&mut self.scratch, symbol, len);
            code.add_original_shard(&self.scratch).ok()?;
        }
        let result = code.encode().ok()?;
        result.recovery_iter().enumerate().for_each(|(row, bytes)| take(row, bytes));
        Some(())
    }
}

/// Restores symbols; its memory is kept from group to group.
///
/// This is the crate's `HighRateDecoder` (Lin, Al-Naffouri, Han, Chung: novel polynomial basis and its application to
/// Reed-Solomon erasure codes) but for the error locator. There it comes out of two Walsh-Hadamard transforms over all
/// 65,536 elements whatever the size of the block: 3.1 M instructions to restore one packet of ten. Here it is summed
/// up at the positions of a small block, and all together are 74 k (`examples/fec_cost.rs`).
#[derive(Default)]
pub(super) struct Decoder {
    engine: Option<DefaultEngine>,
    work: Vec<[u8; 64]>,
    scratch: Vec<u8>,
}

impl Decoder {
    /// Restores what is missing of `k` symbols, 63 at most, and gives it to `take`, padded to `len`. `None` when pieces
    /// are missing or do not fit.
    pub(super) fn decode<'a>(
        &mut self,
        (k, class, len): (usize, u8, usize),
        symbols: impl Iterator<Item = (usize, Symbol<'a>)>,
        mut rows: impl Iterator<Item = (usize, &'a [u8])>,
        mut take: impl FnMut(usize, &[u8]),
    ) -> Option<()> {
        if class == 0 {
            return self.decode_xor(k, symbols, rows.next()?.1, &mut take);
        }
        // As the crate lays it out: rows, then symbols, then zeros up to a power of two.
        let (chunk, end) = (class_rows(class), class_rows(class) + k);
        let count = end.next_power_of_two();
        let blocks = len.div_ceil(64);
        self.work.resize(count * blocks, [0; 64]);
        let mut work = ShardsRefMut::new(count, blocks, &mut self.work);
        let mut held = 0u128;
        for (row, bytes) in rows.filter(|(row, bytes)| *row < chunk && bytes.len() == len) {
            insert(&mut work[row], bytes);
            held |= 1 << row;
        }
        for (index, symbol) in symbols {
            pad(&mut self.scratch, symbol, len);
            insert(&mut work[chunk + index], &self.scratch);
            held |= 1 << (chunk + index);
        }
        if (held.count_ones() as usize) < k {
            return None;
        }
        let lost = !held & (u128::MAX >> (128 - end));
        let engine = self.engine.get_or_insert_with(DefaultEngine::new);
        restore(engine, &mut work, (chunk, end), lost);
        for position in (chunk..end).filter(|position| lost >> position & 1 == 1) {
            extract(&work[position], len, &mut self.scratch);
            take(position - chunk, &self.scratch);
        }
        Some(())
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.work.capacity() * 64 + self.scratch.capacity()
    }

    fn decode_xor<'a>(
        &mut self,
        k: usize,
        symbols: impl Iterator<Item = (usize, Symbol<'a>)>,
        row: &[u8],
        take: &mut impl FnMut(usize, &[u8]),
    ) -> Option<()> {
        self.scratch.clear();
        self.scratch.extend_from_slice(row);
        let mut missing = u64::MAX >> (64 - k);
        for (index, symbol) in symbols {
            xor(&mut self.scratch, symbol);
            missing &= !(1 << index);
        }
        (missing.count_ones() == 1).then(|| take(missing.trailing_zeros() as usize, &self.scratch))
    }
}

// Puts what was lost in its place; `lost` names positions below `end`, symbols begin at `chunk`.
fn restore(engine: &DefaultEngine, work: &mut ShardsRefMut, (chunk, end): (usize, usize), lost: u128) {
    let is_lost = |position: usize| lost >> position & 1 == 1;
    for position in 0..end {
        if is_lost(position) {
            work[position].fill([0; 64]);
        } else {
            engine.mul(&mut work[position], locator(position, lost));
        }
    }
    work.zero(end..);
    let count = work.len();
    engine.ifft(work, 0, count, end, 0);
    // The formal derivative.
    for position in 1..count {
        let width = 1 << position.trailing_zeros();
        utils::xor_within(work, position - width, position, width);
    }
    engine.fft(work, 0, count, end, 0);
    for position in (chunk..end).filter(|position| is_lost(*position)) {
        engine.mul(&mut work[position], GF_MODULUS - locator(position, lost));
    }
}

/// The logarithm of the error locator polynomial (of its derivative, where it is zero) at `position`.
fn locator(position: usize, mut lost: u128) -> GfElement {
    let log = &tables::get_exp_log().log;
    let mut sum = 0u32;
    lost &= !(1 << position);
    while lost != 0 {
        sum += u32::from(log[position ^ lost.trailing_zeros() as usize]);
        lost &= lost - 1;
    }
    (sum % u32::from(GF_MODULUS)) as GfElement
}

// The crate's layout of a shard: 32 low bytes of elements, then their 32 high ones; the last block is short in both.
fn insert(shard: &mut [[u8; 64]], bytes: &[u8]) {
    let (whole, tail) = bytes.as_chunks::<64>();
    shard[..whole.len()].copy_from_slice(whole);
    if let Some(last) = shard.get_mut(whole.len()) {
        let (low, high) = tail.split_at(tail.len() / 2);
        *last = [0; 64];
        last[..low.len()].copy_from_slice(low);
        last[32..32 + high.len()].copy_from_slice(high);
    }
}

fn extract(shard: &[[u8; 64]], len: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&shard.as_flattened()[..len / 64 * 64]);
    if let Some(last) = shard.get(len / 64) {
        let half = len % 64 / 2;
        out.extend_from_slice(&last[..half]);
        out.extend_from_slice(&last[32..32 + half]);
    }
}

/// Encodes a group again and again: for counting instructions.
pub fn cost_encode(k: usize, rows: usize, len: usize, rounds: usize) -> usize {
    let (symbol, mut encoder, mut bytes) = (vec![7; len - COLUMNS], Encoder::default(), 0);
    for _ in 0..rounds {
        let symbols = (0..k).map(|_| (columns(&symbol), &symbol[..]));
        encoder.encode((k, rows, len), symbols, |_, row| bytes += row.len());
    }
    bytes
}

/// Restores the first `lost` symbols of a group again and again: for counting instructions.
pub fn cost_decode(k: usize, rows: usize, len: usize, lost: usize, rounds: usize) -> usize {
    let (symbol, mut parity) = (vec![7; len - COLUMNS], Vec::new());
    let symbols = || (0..k).map(|index| (index, (columns(&symbol), &symbol[..])));
    Encoder::default().encode((k, rows, len), symbols().map(|(_, symbol)| symbol), |_, row| parity.push(row.to_vec()));
    let (mut decoder, mut bytes) = (Decoder::default(), 0);
    for _ in 0..rounds {
        let rows = parity.iter().map(|row| &row[..]).enumerate().take(lost);
        let code = (k, class_of(parity.len()), len);
        let _ = decoder.decode(code, symbols().skip(lost), rows, |_, restored| bytes += restored.len());
    }
    bytes
}

/// Builds all tables, in every code path.
pub(super) fn warm() {
    let symbols = [[1u8; 64], [2; 64]];
    let mut rows = Vec::new();
    let symbols = symbols.iter().map(|symbol| (columns(symbol), &symbol[..]));
    Encoder::default().encode((2, 2, 70), symbols, |_, row| rows.push(row.to_vec()));
    let (mut restored, rows) = (0, rows.iter().map(|row| &row[..]).enumerate());
    let decoded = Decoder::default().decode((2, 1, 70), std::iter::empty(), rows, |_, _| restored += 1);
    assert!(decoded.is_some() && restored == 2, "the code restores what it protected");
}

fn zero(scratch: &mut Vec<u8>, len: usize) {
    scratch.clear();
    scratch.resize(len, 0);
}

fn pad(scratch: &mut Vec<u8>, (columns, data): Symbol, len: usize) {
    scratch.clear();
    scratch.extend_from_slice(&columns);
    scratch.extend_from_slice(data);
    scratch.resize(len, 0);
}

fn xor(into: &mut [u8], (columns, data): Symbol) {
    let (head, rest) = into.split_at_mut(COLUMNS);
    head.iter_mut().zip(columns).for_each(|(into, byte)| *into ^= byte);
    rest.iter_mut().zip(data).for_each(|(into, byte)| *into ^= byte);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
    use reed_solomon_simd::{
        engine::GF_ORDER,
        rate::{HighRateDecoder, RateDecoder},
    };

    use super::*;

    fn symbols(rng: &mut StdRng, k: usize, longest: usize) -> Vec<Vec<u8>> {
        (0..k).map(|_| (0..rng.random_range(0..=longest)).map(|_| rng.random()).collect()).collect()
    }

    fn with_columns(symbols: &[Vec<u8>]) -> impl Iterator<Item = Symbol<'_>> {
        symbols.iter().map(|symbol| (columns(symbol), &symbol[..]))
    }

    fn padded(symbol: &[u8], len: usize) -> Vec<u8> {
        let mut scratch = Vec::new();
        pad(&mut scratch, (columns(symbol), symbol), len);
        scratch
    }

    fn encode(symbols: &[Vec<u8>], rows: usize, len: usize) -> Vec<Vec<u8>> {
        let mut parity = Vec::new();
        Encoder::default()
            .encode((symbols.len(), rows, len), with_columns(symbols), |_, row| parity.push(row.to_vec()));
        parity
    }

    // Decodes with the pieces that `kept` names (symbols first, rows behind) and checks what comes out.
    fn check(decoder: &mut Decoder, symbols: &[Vec<u8>], parity: &[Vec<u8>], len: usize, kept: impl Fn(usize) -> bool) {
        let k = symbols.len();
        let held = with_columns(symbols).enumerate().filter(|(index, _)| kept(*index));
        let rows = parity.iter().map(|row| &row[..]).enumerate().filter(|(row, _)| kept(k + row));
        let mut restored = 0;
        let done = decoder.decode((k, class_of(parity.len()), len), held, rows, |index, bytes| {
            assert!(!kept(index));
            assert_eq!(bytes, padded(&symbols[index], len));
            restored += 1;
        });
        assert!(done.is_some());
        assert_eq!(restored, (0..k).filter(|index| !kept(*index)).count());
    }

    #[test]
    fn every_pattern_of_erasures_up_to_twelve_pieces_is_restored() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut decoder = Decoder::default();
        for (k, r) in (1..12).flat_map(|k| (1..=12 - k).map(move |r| (k, r))) {
            let symbols = symbols(&mut rng, k, 12);
            let len = crate::fec::row_len(12);
            let parity = encode(&symbols, r, len);
            for pattern in (0u32..1 << (k + r)).filter(|pattern| pattern.count_ones() as usize >= k) {
                let kept = |piece: usize| pattern >> piece & 1 == 1;
                if (0..k).any(|index| !kept(index)) {
                    check(&mut decoder, &symbols, &parity, len, kept);
                }
            }
        }
    }

    #[test]
    fn any_three_of_thirteen_may_be_lost() {
        let mut rng = StdRng::seed_from_u64(2);
        let symbols = symbols(&mut rng, 10, 1_200);
        let len = crate::fec::row_len(1_200);
        let parity = encode(&symbols, 3, len);
        let mut decoder = Decoder::default();
        for (a, b, c) in (0..11).flat_map(|a| (a + 1..12).flat_map(move |b| (b + 1..13).map(move |c| (a, b, c)))) {
            if a < 10 {
                check(&mut decoder, &symbols, &parity, len, |piece| piece != a && piece != b && piece != c);
            }
        }
    }

    #[test]
    fn the_locator_equals_that_of_the_crate() {
        let mut rng = StdRng::seed_from_u64(3);
        for case in 0..3_000 {
            let end = rng.random_range(1..=128);
            let mut erasures = Box::new([0; GF_ORDER]);
            for value in &mut erasures[..end] {
                *value = u16::from(rng.random_ratio(1 + case % 8, 16));
            }
            let lost =
                (0..end).filter(|position| erasures[*position] != 0).fold(0, |lost, position| lost | 1 << position);
            DefaultEngine::eval_poly(&mut erasures, end);
            // Logarithms: 0 and 65,535 are the same.
            let same = |position: usize| locator(position, lost) == erasures[position] % GF_MODULUS;
            assert!((0..end).all(same), "case {case}");
        }
    }

    // What the crate's own decoder restores.
    fn restored(
        k: usize,
        r: usize,
        symbols: &[Vec<u8>],
        parity: &[Vec<u8>],
        kept: impl Fn(usize) -> bool,
    ) -> Vec<Vec<u8>> {
        let len = parity[0].len();
        let mut decoder = HighRateDecoder::new(k, r, len, DefaultEngine::new(), None).unwrap();
        for index in (0..k).filter(|index| kept(*index)) {
            decoder.add_original_shard(index, padded(&symbols[index], len)).unwrap();
        }
        for row in (0..r).filter(|row| kept(k + row)) {
            decoder.add_recovery_shard(row, &parity[row]).unwrap();
        }
        decoder.decode().unwrap().restored_original_iter().map(|(_, bytes)| bytes.to_vec()).collect()
    }

    #[test]
    fn blocks_equal_those_of_the_crate() {
        let mut rng = StdRng::seed_from_u64(4);
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for case in 0..1_500 {
            let (k, r) = (rng.random_range(1..=40), rng.random_range(2..=16));
            let len = crate::fec::row_len(rng.random_range(0..200));
            let symbols = symbols(&mut rng, k, len - COLUMNS);
            let mut parity = Vec::new();
            encoder.encode((k, r, len), with_columns(&symbols), |_, row| parity.push(row.to_vec()));
            let mut theirs = HighRateEncoder::new(k, r, len, DefaultEngine::new(), None).unwrap();
            symbols.iter().for_each(|symbol| theirs.add_original_shard(padded(symbol, len)).unwrap());
            assert!(theirs.encode().unwrap().recovery_iter().eq(parity.iter().map(|row| &row[..])), "case {case}");

            let mut pieces: Vec<usize> = (0..k + r).collect();
            pieces.shuffle(&mut rng);
            let lost: Vec<usize> = pieces[..rng.random_range(1..=r)].to_vec();
            if lost.iter().any(|piece| *piece < k) {
                let kept = |piece: usize| !lost.contains(&piece);
                check(&mut decoder, &symbols, &parity, len, kept);
                let lost = (0..k).filter(|index| !kept(*index)).map(|index| padded(&symbols[index], len));
                assert!(case % 8 != 0 || lost.eq(restored(k, r, &symbols, &parity, kept)), "case {case}");
            }
        }
    }

    #[test]
    fn one_row_is_xor_and_rows_of_a_class_do_not_depend_on_their_count() {
        let mut rng = StdRng::seed_from_u64(5);
        let symbols = symbols(&mut rng, 7, 100);
        let len = crate::fec::row_len(100);
        let mut theirs = HighRateEncoder::new(7, 1, len, DefaultEngine::new(), None).unwrap();
        symbols.iter().for_each(|symbol| theirs.add_original_shard(padded(symbol, len)).unwrap());
        assert_eq!(theirs.encode().unwrap().recovery(0).unwrap(), encode(&symbols, 1, len)[0]);
        for (fewer, all) in [(3, 4), (5, 8), (6, 8), (7, 8), (9, 16), (13, 16)] {
            assert_eq!(encode(&symbols, fewer, len), encode(&symbols, all, len)[..fewer]);
        }
    }

    #[test]
    fn pieces_that_do_not_fit_restore_nothing() {
        let parity = encode(&[vec![1; 10], vec![2; 10], vec![3; 10]], 2, 16);
        let row = |_, _: &[u8]| panic!("nothing to restore");
        let one = || std::iter::once((0, &parity[0][..]));
        assert!(Decoder::default().decode((3, 1, 16), std::iter::empty(), one(), row).is_none());
        assert!(Decoder::default().decode((3, 1, 18), std::iter::empty(), one(), row).is_none());
        assert!(Decoder::default().decode((3, 0, 16), std::iter::empty(), one(), row).is_none());
        assert!(Decoder::default().decode((3, 0, 16), std::iter::empty(), std::iter::empty(), row).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_was_lost_comes_back(
            symbols in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..24),
            r in 1usize..16,
            seed: u64,
        ) {
            let len = crate::fec::row_len(symbols.iter().map(Vec::len).max().unwrap_or(0));
            let parity = encode(&symbols, r, len);
            let mut pieces: Vec<usize> = (0..symbols.len() + r).collect();
            pieces.shuffle(&mut StdRng::seed_from_u64(seed));
            let lost = &pieces[..r];
            if lost.iter().any(|piece| *piece < symbols.len()) {
                check(&mut Decoder::default(), &symbols, &parity, len, |piece| !lost.contains(&piece));
            }
        }
    }
}
