//! Journals in memory: what recovery takes, what it refuses, and what a copy holds.

use std::{collections::BTreeMap, io};

use super::{
    Copyist, Damage, Found, Header, Record, RecoverError, Recovered, Segments,
    format::{BLOCK_BYTES, HEAD_BYTES, seal},
    walk,
};

const SHARD: u16 = 3;
const ORIGIN: u64 = 77;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Segments in memory.
#[derive(Clone, Default)]
struct Shelf {
    files: BTreeMap<u64, Vec<u8>>,
    cuts: Vec<(u64, u64)>,
}

impl Segments for Shelf {
    fn numbers(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.files.keys().copied().collect())
    }

    fn read(&mut self, number: u64, most: usize) -> io::Result<Vec<u8>> {
        let bytes = self.files.get(&number).ok_or(io::ErrorKind::NotFound)?;
        Ok(bytes[..bytes.len().min(most)].to_vec())
    }

    fn cut(&mut self, number: u64, length: u64) -> io::Result<()> {
        self.files.entry(number).or_default().truncate(length as usize);
        self.cuts.push((number, length));
        Ok(())
    }
}

impl Shelf {
    /// Segments 1 to `count` of three batches each, the second of them of two blocks, with zeros behind. A message's
    /// offset says where it is: 100 times the segment and the batch.
    fn new(count: u64) -> Self {
        let mut shelf = Self::default();
        for number in 1..=count {
            let previous = if number == 1 { 0 } else { 5 * BLOCK };
            let header = Header { shard: SHARD, origin: ORIGIN, number, previous, own: 0 };
            let mut bytes = header.write();
            for batch in 1..=3 {
                let body = vec![7; if batch == 2 { 5_000 } else { 50 }];
                bytes.extend(message(&header, (bytes.len() as u64, 0), number * 100 + batch, &body));
            }
            bytes.resize(8 * BLOCK_BYTES, 0);
            shelf.files.insert(number, bytes);
        }
        shelf
    }

    fn walk(&mut self, mend: bool) -> (Vec<u64>, Result<Recovered, RecoverError>) {
        let mut offsets = Vec::new();
        let recovered = walk((SHARD, ORIGIN), self, mend, &mut |found| {
            if let Record::Message { offset, .. } = found.record {
                offsets.push(offset);
            }
        });
        (offsets, recovered)
    }

    fn damage(&mut self) -> Damage {
        match self.walk(true).1 {
            Err(RecoverError::Damaged(damage)) => damage,
            other => panic!("{other:?}"),
        }
    }

    fn flip(&mut self, number: u64, place: u64) {
        self.files.entry(number).or_default()[place as usize] ^= 4;
    }
}

fn message(header: &Header, (place, unsettled): (u64, u32), offset: u64, body: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; HEAD_BYTES];
    Record::Name { epoch: 9, name: "chat/a" }.write(&mut batch);
    Record::Message { name: 0, offset, at_ms: 5, seq: None, from: "ada", body }.write(&mut batch);
    seal(&mut batch, 2, unsettled, header.seed(place));
    batch
}

#[test]
fn all_of_a_whole_journal_is_found_and_its_end_is_cut_off_and_synced() {
    let mut shelf = Shelf::new(2);
    let (offsets, recovered) = shelf.walk(true);
    assert_eq!(offsets, [101, 102, 103, 201, 202, 203]);
    let recovered = recovered.expect("whole");
    assert_eq!((recovered.segments, recovered.batches, recovered.messages, recovered.torn_bytes), (2, 6, 6, 0));
    assert_eq!(shelf.cuts, [(1, 5 * BLOCK), (2, 5 * BLOCK)]);
    // One that was killed may have left what is not on the disk: the last one is synced each time.
    shelf.cuts.clear();
    assert!(shelf.walk(true).1.is_ok());
    assert_eq!(shelf.cuts, [(2, 5 * BLOCK)]);
    shelf.cuts.clear();
    assert!(shelf.walk(false).1.is_ok());
    assert_eq!(shelf.cuts, []);
}

#[test]
fn an_empty_journal_is_one() {
    assert_eq!(Shelf::default().walk(true).1.expect("nothing is wrong"), Recovered::default());
}

#[test]
fn a_missing_segment_is_named() {
    let mut shelf = Shelf::new(4);
    shelf.files.remove(&1);
    assert_eq!(shelf.walk(false).0.len(), 9, "the oldest may have been removed");
    shelf.files.remove(&3);
    assert_eq!((shelf.damage().segment, shelf.walk(true).0.len()), (3, 0));
}

#[test]
fn a_foreign_segment_is_named() {
    let foreign = [
        Header { shard: SHARD, origin: ORIGIN + 1, number: 2, previous: 5 * BLOCK, own: 0 },
        Header { shard: SHARD + 1, origin: ORIGIN, number: 2, previous: 5 * BLOCK, own: 0 },
        Header { shard: SHARD, origin: ORIGIN, number: 7, previous: 5 * BLOCK, own: 0 },
    ];
    for header in foreign {
        let mut shelf = Shelf::new(2);
        shelf.files.entry(2).or_default()[..BLOCK_BYTES].copy_from_slice(&header.write());
        assert!(matches!(shelf.walk(true), (none, Err(RecoverError::Foreign(2))) if none.is_empty()));
    }
}

#[test]
fn a_bad_header_is_damage() {
    for number in [1, 2] {
        let mut shelf = Shelf::new(2);
        shelf.flip(number, 20);
        assert_eq!((shelf.damage().segment, shelf.damage().place), (number, 0));
    }
}

#[test]
fn damage_before_the_last_segment_is_never_a_torn_tail() {
    for (batch, place) in [(0, BLOCK), (1, 2 * BLOCK), (2, 4 * BLOCK)] {
        let mut shelf = Shelf::new(2);
        shelf.flip(1, place + 30);
        assert_eq!((shelf.damage().segment, shelf.damage().place), (1, place));
        assert_eq!(shelf.walk(true).0.len(), batch, "what was given before is right");
        assert_eq!(shelf.cuts, [], "nothing is mended");
    }
}

#[test]
fn damage_in_the_last_segment_with_a_batch_behind_is_no_torn_tail() {
    for place in [BLOCK, 2 * BLOCK, 3 * BLOCK + 5] {
        let mut shelf = Shelf::new(2);
        shelf.flip(2, place);
        let damage = shelf.damage();
        assert_eq!((damage.segment, damage.place), (2, place.min(2 * BLOCK)));
        assert!(damage.to_string().contains("000000000002.seg"), "{damage}");
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_counted() {
    let mut shelf = Shelf::new(2);
    shelf.flip(2, 4 * BLOCK + 30);
    shelf.files.entry(2).or_default()[6 * BLOCK_BYTES] = 1;
    let (offsets, recovered) = shelf.walk(true);
    assert_eq!(offsets, [101, 102, 103, 201, 202]);
    assert_eq!(recovered.expect("torn").torn_bytes, 2 * BLOCK + 1);
    assert_eq!(shelf.cuts.last(), Some(&(2, 4 * BLOCK)));
    assert_eq!(shelf.walk(true).1.expect("mended").torn_bytes, 0);
}

#[test]
fn a_batch_that_was_under_way_with_a_torn_one_is_part_of_the_torn_tail() {
    let mut shelf = Shelf::new(2);
    let header = Header { shard: SHARD, origin: ORIGIN, number: 2, previous: 5 * BLOCK, own: 0 };
    // It was written when the third batch, one block before it, was not on disk for sure.
    let follower = message(&header, (5 * BLOCK, 1), 204, b"fourth");
    shelf.files.entry(2).or_default()[5 * BLOCK_BYTES..6 * BLOCK_BYTES].copy_from_slice(&follower);
    assert_eq!(shelf.walk(false).0, [101, 102, 103, 201, 202, 203, 204]);
    let mut torn = shelf.clone();
    torn.flip(2, 4 * BLOCK + 30);
    assert_eq!(torn.walk(true).0, [101, 102, 103, 201, 202]);
    assert_eq!(torn.cuts.last(), Some(&(2, 4 * BLOCK)), "and both are gone");
    // The batches before were on disk.
    for place in [BLOCK, 2 * BLOCK, 3 * BLOCK] {
        let mut bad = shelf.clone();
        bad.flip(2, place + 5);
        assert_eq!(bad.damage().place, place.min(2 * BLOCK));
    }
}

#[test]
fn what_does_not_count_of_a_segment_is_not_looked_at() {
    let mut shelf = Shelf::new(2);
    let header = Header { shard: SHARD, origin: ORIGIN, number: 2, previous: 4 * BLOCK, own: 0 };
    shelf.files.entry(2).or_default()[..BLOCK_BYTES].copy_from_slice(&header.write());
    assert_eq!(shelf.walk(true).0, [101, 102, 201, 202, 203]);
    assert_eq!(shelf.cuts[0], (1, 4 * BLOCK));
}

#[test]
fn a_segment_that_is_shorter_than_what_counts_is_damage() {
    let mut shelf = Shelf::new(2);
    shelf.files.entry(1).or_default().truncate(4 * BLOCK_BYTES);
    assert_eq!((shelf.damage().segment, shelf.damage().place), (1, 4 * BLOCK));
    // One that was written in one piece says itself what counts, also when it is the last one.
    let mut shelf = Shelf::new(1);
    let header = Header { shard: SHARD, origin: ORIGIN, number: 1, previous: 0, own: 5 * BLOCK };
    shelf.files.entry(1).or_default()[..BLOCK_BYTES].copy_from_slice(&header.write());
    assert_eq!(shelf.walk(false).0.len(), 3);
    shelf.flip(1, 4 * BLOCK + 30);
    assert_eq!((shelf.damage().segment, shelf.damage().place), (1, 4 * BLOCK));
}

/// Everything in a journal by name, without where it lies.
fn things(shard: u16, shelf: &mut Shelf) -> BTreeMap<String, Vec<String>> {
    let mut things = BTreeMap::<String, Vec<String>>::new();
    let recovered = walk((shard, ORIGIN), shelf, false, &mut |found| {
        let text = match found.record {
            Record::Name { .. } => return,
            Record::Message { offset, at_ms, seq, from, body, .. } => {
                format!("{} {offset} {at_ms} {seq:?} {from} {body:?}", found.epoch)
            }
            Record::Fact { key, value, .. } => format!("{key} {value:?}"),
        };
        things.entry(found.name.to_owned()).or_default().push(text);
    });
    recovered.expect("nothing is damaged");
    things
}

/// Adds some thousand records of some names, among them facts of topics, to copies by home.
fn copies(homes: u16, home: impl Fn(&str) -> u16) -> Vec<Shelf> {
    let mut shelves = vec![Shelf::default(); usize::from(homes)];
    let mut copyists: Vec<Copyist> = (0..homes).map(|shard| Copyist::new(shard, ORIGIN, 256 * 1024)).collect();
    for n in 0..6_000_u64 {
        let name = format!("chat/{}", n * 7 % 40);
        let body = vec![n as u8; (n * 31 % 900) as usize];
        let seq = (n % 3 > 0).then_some(("phone", n));
        let record = match n % 5 {
            4 => Record::Fact { name: 9, key: "c/1", value: (n % 4 > 0).then_some(&body) },
            _ => Record::Message { name: 9, offset: n, at_ms: n * 2, seq, from: "ada", body: &body },
        };
        let at = super::At { segment: 1, block: 1, blocks: 1 };
        // Facts of a topic come with its epoch or with none, as their batch had it.
        let epoch = if matches!(record, Record::Fact { .. }) && n % 2 == 0 { 0 } else { 5 };
        let home = usize::from(home(&name));
        let full = copyists[home].add(&Found { at, name: &name, epoch, record, bytes: 0 });
        shelves[home].files.extend(full);
    }
    for (shelf, copyist) in shelves.iter_mut().zip(copyists) {
        shelf.files.extend(copyist.finish());
    }
    shelves
}

#[test]
fn a_copy_holds_the_same_by_home() {
    let one = things(0, &mut copies(1, |_| 0)[0]);
    assert_eq!((one.len(), one.values().map(Vec::len).sum::<usize>()), (40, 6_000));
    let home = |name: &str| u16::from(name.as_bytes()[name.len() - 1]) % 3;
    let mut all = BTreeMap::new();
    for (shard, shelf) in (0_u16..).zip(&mut copies(3, home)) {
        assert!(shelf.files.len() > 1, "segments are filled one after the other");
        let part = things(shard, shelf);
        assert!(part.keys().all(|name| home(name) == shard));
        all.extend(part);
    }
    assert_eq!(all, one);
}

#[test]
fn a_copy_says_itself_where_it_ends() {
    let shelf = &mut copies(1, |_| 0)[0];
    let last = *shelf.files.keys().next_back().expect("there are some");
    let bytes = shelf.files.entry(last).or_default();
    let len = bytes.len();
    bytes.truncate(len - BLOCK_BYTES);
    assert!(
        matches!(walk((0, ORIGIN), shelf, true, &mut |_| {}), Err(RecoverError::Damaged(damage)) if damage.segment == last)
    );
    assert!(Copyist::new(0, ORIGIN, 4_096).finish().is_none(), "nothing is in it");
}
