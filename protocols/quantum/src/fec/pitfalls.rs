//! What forward error correction is known to get wrong, one test for each.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{COLUMNS, FecMode, Known, Policy, Protector, Ratio, Restorer, Window, engine, row_len};
use crate::{
    error::Code,
    frame::{Frame, Repair},
    varint,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ratio(k: u8, r: u8) -> Ratio {
    Ratio { k, r, spread: ms(0), flush: ms(7), dry: ms(4), life: ms(40), overhead_percent: 10_000 }
}

fn protector(now: Instant, k: u8, r: u8) -> Protector {
    let mut protector = Protector::new(Window::default());
    protector.configure(now, Some(ratio(k, r)));
    protector
}

fn repairs(protector: &mut Protector, now: Instant) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(len) = protector.repair_due(now) {
        let mut frame = Vec::new();
        protector.write_repair(now, &mut frame);
        assert_eq!(frame.len(), len);
        frames.push(frame);
    }
    frames
}

fn repair(frame: &[u8]) -> Repair<'_> {
    let Ok(Frame::Repair(repair)) = Frame::parse(&mut &frame[..]) else { panic!("a REPAIR frame") };
    repair
}

fn recovered(restorer: &mut Restorer) -> Vec<(u64, Vec<u8>)> {
    std::iter::from_fn(|| restorer.poll_recovered()).collect()
}

fn symbols(rng: &mut StdRng, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| (0..rng.random_range(1..1_200)).map(|_| rng.random()).collect()).collect()
}

#[test]
fn p13_it_is_really_called_lost_symbols_come_back_without_a_resend() {
    let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(13));
    let (mut protector, mut restorer) = (protector(now, 10, 3), Restorer::new(Window::default()));
    let symbols = symbols(&mut rng, 1_000);
    let mut back = 0;
    for (index, symbol) in symbols.iter().enumerate() {
        let sid = protector.on_symbol(now, symbol);
        assert_eq!(sid, index as u64);
        // Of every ten the same three are lost.
        if index % 10 >= 3 {
            assert_eq!(restorer.on_symbol(now, sid as u16, symbol), Ok(Known::New(sid)));
        }
        for frame in repairs(&mut protector, now) {
            restorer.on_repair(now, &repair(&frame)).unwrap();
        }
        for (sid, data) in recovered(&mut restorer) {
            assert_eq!(data, symbols[sid as usize]);
            restorer.recycle(data);
            back += 1;
        }
    }
    assert_eq!((back, restorer.counts().recovered, restorer.counts().decodes), (300, 300, 100));
    assert_eq!(restorer.counts().repairs, 300);
}

#[test]
fn p14_a_restored_symbol_has_its_own_length() {
    let now = Instant::now();
    for lens in [[1usize, 700, 3, 1_200], [0, 0, 0, 0], [5, 5, 5, 5], [1, 0, 1_199, 2]] {
        for lost in 0..4 {
            let (mut protector, mut restorer) = (protector(now, 4, 2), Restorer::new(Window::default()));
            for (index, len) in lens.into_iter().enumerate() {
                let sid = protector.on_symbol(now, &vec![index as u8; len]);
                if index != lost {
                    restorer.on_symbol(now, sid as u16, &vec![index as u8; len]).unwrap();
                }
            }
            let frames = repairs(&mut protector, now);
            assert_eq!(repair(&frames[1]).data.len(), row_len(*lens.iter().max().unwrap()));
            restorer.on_repair(now, &repair(&frames[1])).unwrap();
            assert_eq!(recovered(&mut restorer), [(lost as u64, vec![lost as u8; lens[lost]])]);
        }
    }
}

#[test]
fn p15_a_partial_group_is_flushed_by_time_and_by_a_dry_queue() {
    let now = Instant::now();
    let mut protector = protector(now, 8, 2);
    protector.on_symbol(now, &[1; 100]);
    assert_eq!(protector.deadline(), Some(now + ms(7)));
    protector.handle_timeout(now + ms(6));
    assert_eq!(protector.repair_due(now + ms(6)), None);
    protector.handle_timeout(now + ms(7));
    let frames = repairs(&mut protector, now + ms(7));
    let only = repair(&frames[0]);
    assert_eq!((frames.len(), only.base, only.k, only.class), (1, 0, 1, 0));

    // A dry queue closes it sooner, unless another symbol comes.
    let now = now + ms(100);
    protector.on_symbol(now, &[1; 100]);
    protector.flush(now);
    assert_eq!(protector.deadline(), Some(now + ms(4)));
    protector.on_symbol(now + ms(2), &[1; 100]);
    assert_eq!(protector.deadline(), Some(now + ms(7)));
    protector.flush(now + ms(2));
    protector.flush(now + ms(3));
    assert_eq!(protector.deadline(), Some(now + ms(6)));
    protector.handle_timeout(now + ms(6));
    let frames = repairs(&mut protector, now + ms(6));
    assert_eq!((repair(&frames[0]).base, repair(&frames[0]).k), (1, 2));
}

#[test]
fn p16_a_repair_fits_into_a_packet() {
    let (now, payload) = (Instant::now(), 1_165);
    let mut protector = protector(now, 4, 2);
    for sid in 0..300 {
        let most = protector.symbol_bytes_max(payload);
        assert!(3 + most <= payload);
        assert_eq!(protector.on_symbol(now, &vec![7; most - sid % 2]), sid as u64);
        for frame in repairs(&mut protector, now) {
            assert!(frame.len() <= payload && frame.len() >= payload - 8, "{}", frame.len());
        }
    }
    assert_eq!(protector.symbol_bytes_max(5), 0);

    // The path takes less by the time: the row is not sent.
    for _ in 0..4 {
        protector.on_symbol(now, &[7; 1_000]);
    }
    protector.set_payload_max(900);
    assert_eq!(protector.repair_due(now), None);
    for _ in 0..4 {
        protector.on_symbol(now, &[7; 800]);
    }
    assert!(protector.repair_due(now).is_some_and(|len| len <= 900));
}

#[test]
fn p17_parity_that_lies_delivers_nothing() {
    let now = Instant::now();
    for class in 0..3 {
        let mut restorer = Restorer::new(Window::default());
        for sid in [0, 1, 3] {
            restorer.on_symbol(now, sid, &[7; 50]).unwrap();
        }
        let row = Repair { base: 0, k: 4, row: 0, class, data: &[9; 56] };
        restorer.on_repair(now, &row).unwrap();
        assert_eq!(recovered(&mut restorer), []);
        assert_eq!((restorer.counts().mismatched, restorer.counts().recovered), (1, 0));
        assert_eq!(restorer.symbol_ack(), None);
    }
}

#[test]
fn p17_contradictions_end_the_connection() {
    let now = Instant::now();
    let row = |base, k, row, data| Repair { base, k, row, class: 2, data };
    let fails = |prepare: &dyn Fn(&mut Restorer), repair: Repair| {
        let mut restorer = Restorer::new(Window::default());
        restorer.on_symbol(now, 0, &[7; 50]).unwrap();
        prepare(&mut restorer);
        restorer.on_repair(now, &repair).unwrap_err().code == Code::Fec as u64
    };
    // Another length of the same group; a symbol that is longer than its group; symbols that SYMBOL cannot number; a
    // group that would not fit into the window; a row without columns.
    assert!(fails(&|r| r.on_repair(now, &row(0, 4, 0, &[0; 56])).unwrap(), row(0, 4, 1, &[0; 58])));
    assert!(fails(&|_| (), row(0, 2, 0, &[0; 54])));
    assert!(fails(&|_| (), row(1 << 15, 4, 0, &[0; 56])));
    assert!(fails(&|_| (), row(varint::MAX - 1, 4, 0, &[0; 56])));
    assert!(fails(&|_| (), row(0, 60, 0, &[0; 8_194])));
    assert!(fails(&|_| (), row(0, 2, 0, &[0; 4])));
    let mut restorer = Restorer::new(Window::default());
    restorer.on_symbol(now, 5, &[7; 50]).unwrap();
    assert_eq!(restorer.on_symbol(now, 5, &[7; 50]).unwrap_err().code, Code::Fec as u64);
}

#[test]
fn p18_recovery_does_not_hide_loss() {
    let now = Instant::now();
    let mut policy = Policy::new(FecMode::Adaptive);
    for number in 0..200u64 {
        policy.on_data_sent(now + ms(2 * number), 200);
        if number % 20 == 0 {
            policy.on_lost(now, number, true);
            policy.on_recovered(1);
        } else {
            policy.on_acked(now, 1);
        }
    }
    assert!(policy.loss_percent() >= 5);
    assert!(policy.decide(now + ms(400), ms(40), false).is_some());
}

#[test]
fn p19_a_late_original_is_not_delivered_again() {
    let now = Instant::now();
    let (mut protector, mut restorer) = (protector(now, 3, 1), Restorer::new(Window::default()));
    for sid in 0..3 {
        protector.on_symbol(now, &[sid; 20]);
        if sid != 1 {
            assert_eq!(restorer.on_symbol(now, sid.into(), &[sid; 20]), Ok(Known::New(sid.into())));
        }
    }
    restorer.on_repair(now, &repair(&repairs(&mut protector, now)[0])).unwrap();
    assert_eq!(recovered(&mut restorer), [(1, vec![1; 20])]);
    assert_eq!(restorer.on_symbol(now, 1, &[1; 20]), Ok(Known::AlreadyRecovered(1)));
    // Nor long after: many symbols have left the window meanwhile.
    for sid in 3..2_000u16 {
        restorer.on_symbol(now, sid, &[1; 20]).unwrap();
    }
    assert_eq!(restorer.on_symbol(now, 1, &[1; 20]), Ok(Known::AlreadyRecovered(1)));
    assert_eq!(restorer.counts().late, 2);
    // The other way round, a row that comes behind all originals restores nothing.
    restorer.on_repair(now, &Repair { base: 1_990, k: 4, row: 0, class: 0, data: &[0; 26] }).unwrap();
    assert_eq!(recovered(&mut restorer), []);
}

#[test]
fn p19_nor_when_nobody_remembers_what_was_restored() {
    let now = Instant::now();
    let (mut protector, mut restorer) = (protector(now, 3, 1), Restorer::new(Window::default()));
    (0..3).for_each(|sid| assert_eq!(protector.on_symbol(now, &[sid; 20]), u64::from(sid)));
    restorer.on_symbol(now, 0, &[0; 20]).unwrap();
    restorer.on_symbol(now, 2, &[2; 20]).unwrap();
    restorer.on_repair(now, &repair(&repairs(&mut protector, now)[0])).unwrap();
    assert_eq!(recovered(&mut restorer), [(1, vec![1; 20])]);
    restorer.expire(now + ms(2_000));
    assert_eq!(restorer.heap(), 0);
    assert_eq!(restorer.on_symbol(now + ms(2_000), 1, &[1; 20]), Ok(Known::Forgotten));
    assert_eq!(restorer.on_symbol(now + ms(2_000), 3, &[3; 20]), Ok(Known::New(3)));

    // Every other symbol is restored: the oldest of so many are forgotten.
    let mut restorer = Restorer::new(Window::default());
    for base in (0..1_000).step_by(2) {
        let (mut row, symbol) = (vec![0; row_len(20)], [7; 20]);
        row[..COLUMNS].copy_from_slice(&super::columns(&symbol));
        row[COLUMNS..COLUMNS + 20].copy_from_slice(&symbol);
        restorer.on_repair(now, &Repair { base, k: 1, row: 0, class: 0, data: &row }).unwrap();
        assert_eq!(recovered(&mut restorer).len(), 1);
    }
    assert_eq!(restorer.on_symbol(now, 0, &[7; 20]), Ok(Known::Forgotten));
    assert_eq!(restorer.on_symbol(now, 998, &[7; 20]), Ok(Known::AlreadyRecovered(998)));
}

#[test]
fn p19_a_symbol_that_arrived_but_was_overwritten_is_not_delivered_again() {
    let now = Instant::now();
    let window = Window { symbols: 64, bytes: 8_192 };
    let (mut protector, mut restorer) = (protector(now, 8, 2), Restorer::new(window));
    let symbol = |sid: u16| vec![sid as u8; if sid == 0 || sid >= 8 { 1_000 } else { 100 }];
    for sid in 0..8 {
        protector.on_symbol(now, &symbol(sid));
    }
    let frames = repairs(&mut protector, now);
    let arrive = |restorer: &mut Restorer, sids: &[u16]| {
        for sid in sids {
            restorer.on_symbol(now, *sid, &symbol(*sid)).unwrap();
        }
    };
    // 6 comes late and 7 not at all. 13 goes where 0 was, so that both rows are needed to restore 7.
    arrive(&mut restorer, &[0, 8, 9, 1, 2, 3, 4, 5]);
    restorer.on_repair(now, &repair(&frames[0])).unwrap();
    arrive(&mut restorer, &[10, 11, 12, 13, 6]);
    assert_eq!(recovered(&mut restorer), []);
    restorer.on_repair(now, &repair(&frames[1])).unwrap();
    assert_eq!(recovered(&mut restorer), [(7, symbol(7))]);
}

#[test]
fn p20_hostile_groups_take_bounded_memory_and_go_away() {
    let (mut now, mut rng) = (Instant::now(), StdRng::seed_from_u64(20));
    let mut restorer = Restorer::new(Window::default());
    assert_eq!(restorer.heap(), 0, "nothing before it is used");
    for round in 0..4_000u64 {
        now += Duration::from_micros(50);
        let k = rng.random_range(1..=60);
        let base = round + rng.random_range(0..200);
        let data = vec![1; row_len(rng.random_range(0..1_400))];
        let row = Repair { base, k, row: rng.random_range(0..4), class: rng.random_range(2..=6), data: &data };
        let _ = restorer.on_repair(now, &row);
        let _ = restorer.on_symbol(now, base as u16, &data[..data.len() / 2]);
        assert!(recovered(&mut restorer).is_empty());
        assert!(restorer.heap() <= 1024 * 1024, "{}", restorer.heap());
        assert!(restorer.counts().decodes <= 2 * round + 2, "one run of the decoder for a packet");
    }
    assert!(restorer.deadline().is_some_and(|deadline| deadline <= now + ms(250)));
    restorer.expire(now + ms(250));
    restorer.expire(now + ms(2_000));
    assert_eq!((restorer.heap(), restorer.deadline()), (0, None), "all is given back after a pause");
}

#[test]
fn p20_a_group_lives_two_round_trips() {
    let now = Instant::now();
    let mut restorer = Restorer::new(Window::default());
    restorer.set_rtt(ms(40));
    restorer.on_symbol(now, 0, &[7; 50]).unwrap();
    restorer.on_repair(now, &Repair { base: 0, k: 4, row: 0, class: 1, data: &[0; 56] }).unwrap();
    assert_eq!(restorer.deadline(), Some(now + ms(80)));
    restorer.expire(now + ms(80));
    assert_eq!(restorer.deadline(), Some(now + ms(2_000)));
}

#[test]
fn p20_the_sender_gives_its_memory_back() {
    let now = Instant::now();
    let mut protector = protector(now, 4, 2);
    assert_eq!(protector.heap(), 0);
    for _ in 0..5 {
        protector.on_symbol(now, &[7; 1_000]);
    }
    assert!(protector.heap() > 0);
    let mut at = now;
    while let Some(deadline) = protector.deadline() {
        assert!(deadline > at, "time goes on");
        at = deadline;
        protector.handle_timeout(at);
        repairs(&mut protector, at);
    }
    assert_eq!((protector.heap(), at), (0, now + ms(2_000)));
}

#[test]
fn p21_the_ratio_may_change_with_every_group() {
    let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(21));
    let (mut protector, mut restorer) = (protector(now, 3, 1), Restorer::new(Window::default()));
    let (mut lost, mut back) = (0, 0);
    for _ in 0..500 {
        let (k, r) = (rng.random_range(1..=20), rng.random_range(1..=8u8));
        protector.configure(now, Some(ratio(k, r)));
        let held = symbols(&mut rng, usize::from(k));
        for (index, symbol) in held.iter().enumerate() {
            // Now and then a change comes in the middle of a group.
            if rng.random_ratio(1, 50) {
                protector.configure(now, Some(ratio(k, r.max(4))));
            }
            let sid = protector.on_symbol(now, symbol);
            if index < usize::from(r) {
                lost += 1;
            } else {
                restorer.on_symbol(now, sid as u16, symbol).unwrap();
            }
        }
        for frame in repairs(&mut protector, now) {
            restorer.on_repair(now, &repair(&frame)).unwrap();
        }
        back += recovered(&mut restorer).len();
    }
    assert_eq!(back, lost);
}

#[test]
fn p22_the_tables_are_built_at_boot() {
    super::warm();
    super::warm();
    // And the decoder's memory is that of the block, not of the field.
    let now = Instant::now();
    let (mut protector, mut restorer) = (protector(now, 10, 3), Restorer::new(Window::default()));
    for _ in 0..10 {
        protector.on_symbol(now, &[7; 1_200]);
    }
    for sid in 3..10 {
        restorer.on_symbol(now, sid, &[7; 1_200]).unwrap();
    }
    repairs(&mut protector, now).iter().for_each(|frame| restorer.on_repair(now, &repair(frame)).unwrap());
    assert_eq!(recovered(&mut restorer).len(), 3);
    assert!(restorer.heap() <= 64 * 1024, "{}", restorer.heap());
}

#[test]
fn p23_bulk_has_no_parity_but_for_its_tail() {
    let now = Instant::now();
    let mut policy = Policy::new(FecMode::Adaptive);
    for number in 0..1_000u64 {
        policy.on_data_sent(now + Duration::from_micros(100 * number), 1_200);
        if number % 20 == 0 { policy.on_lost(now, number, false) } else { policy.on_acked(now, 1) }
    }
    assert_eq!(policy.decide(now + ms(100), ms(40), true), None);
    let tail = policy.decide(now + ms(100), ms(40), false).unwrap();
    assert!(tail.k >= 16 && tail.r >= 4 && tail.dry <= ms(1), "{tail:?}");
}

#[test]
fn p24_parity_keeps_to_its_share_of_the_bytes() {
    let (mut now, mut rng) = (Instant::now(), StdRng::seed_from_u64(24));
    let mut protector = Protector::new(Window::default());
    protector.configure(now, Some(Ratio { overhead_percent: 20, ..ratio(6, 4) }));
    let (mut source, mut parity) = (0, 0);
    for _ in 0..20_000 {
        now += Duration::from_micros(rng.random_range(0..8_000));
        let len = rng.random_range(20..300);
        protector.handle_timeout(now);
        protector.on_symbol(now, &vec![7; len]);
        source += len + 66;
        parity += repairs(&mut protector, now).iter().map(|frame| frame.len() + 63).sum::<usize>();
    }
    assert!(parity * 100 <= source * 21 && parity * 100 >= source * 19, "{parity} of {source}");
}

#[test]
fn counters_go_over_their_edges() {
    let now = Instant::now();
    for edge in [1u64 << 16, 1 << 32, (1 << 33) + (1 << 16), 1 << 61] {
        let (mut protector, mut restorer) = (protector(now, 5, 2), Restorer::new(Window::default()));
        protector.start_at(edge - 12);
        restorer.start_at(edge - 12);
        let mut back = 0;
        for index in 0..25u64 {
            let sid = protector.on_symbol(now, &index.to_be_bytes());
            assert_eq!(sid, edge - 12 + index);
            if index % 5 > 1 {
                assert_eq!(restorer.on_symbol(now, sid as u16, &index.to_be_bytes()), Ok(Known::New(sid)));
            }
            for frame in repairs(&mut protector, now) {
                restorer.on_repair(now, &repair(&frame)).unwrap();
            }
            for (sid, data) in recovered(&mut restorer) {
                assert_eq!(data, (sid + 12 - edge).to_be_bytes());
                assert_eq!(restorer.on_symbol(now, sid as u16, &data), Ok(Known::AlreadyRecovered(sid)));
                back += 1;
            }
        }
        assert_eq!(back, 10, "at {edge}");
    }
}

#[test]
fn groups_may_overlap() {
    let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(25));
    let symbols = symbols(&mut rng, 6);
    let len = row_len(symbols.iter().map(Vec::len).max().unwrap());
    let row = |range: std::ops::Range<usize>| {
        let mut parity = Vec::new();
        let group = symbols[range.clone()].iter().map(|symbol| (super::columns(symbol), &symbol[..]));
        engine::Encoder::default().encode((range.len(), 1, len), group, |_, row| parity.extend_from_slice(row));
        parity
    };
    let mut restorer = Restorer::new(Window::default());
    for sid in [0, 4, 5] {
        restorer.on_symbol(now, sid, &symbols[usize::from(sid)]).unwrap();
    }
    // 1, 2 and 3 are lost: neither group can restore them alone, one after the other they can.
    for (base, k) in [(0, 4), (2, 4), (1, 2), (3, 3)] {
        let data = row(base..base + k);
        restorer.on_repair(now, &Repair { base: base as u64, k: k as u8, row: 0, class: 0, data: &data }).unwrap();
    }
    assert_eq!(recovered(&mut restorer), [(3, symbols[3].clone())], "at most one run of the decoder for a packet");
    restorer.on_symbol(now, 6, &[0; 4]).unwrap();
    restorer.on_symbol(now, 7, &[0; 4]).unwrap();
    let mut rest = recovered(&mut restorer);
    rest.sort_unstable();
    assert_eq!(rest, [(1, symbols[1].clone()), (2, symbols[2].clone())]);
}

#[test]
fn symbol_ack_is_told_until_it_arrives() {
    let now = Instant::now();
    let (mut protector, mut restorer) = (protector(now, 2, 1), Restorer::new(Window::default()));
    for _ in 0..2 {
        protector.on_symbol(now, &[7; 10]);
    }
    restorer.on_symbol(now, 0, &[7; 10]).unwrap();
    assert_eq!(restorer.symbol_ack(), None);
    restorer.on_repair(now, &repair(&repairs(&mut protector, now)[0])).unwrap();
    assert!(restorer.symbol_ack().is_some_and(|told| (told.min(), told.max()) == (Some(1), Some(1))));
    restorer.on_symbol_ack_sent();
    assert_eq!(restorer.symbol_ack(), None);
    restorer.on_symbol_ack_lost();
    assert!(restorer.symbol_ack().is_some());
    restorer.on_symbol_ack_sent();
    restorer.on_symbol_ack_acked(1);
    restorer.on_symbol_ack_lost();
    assert_eq!(restorer.symbol_ack(), None);
}

#[test]
fn rows_are_spread_and_forgotten_when_they_cannot_be_sent() {
    let now = Instant::now();
    let mut protector = protector(now, 2, 2);
    protector.configure(now, Some(Ratio { spread: ms(3), ..ratio(2, 2) }));
    for _ in 0..2 {
        protector.on_symbol(now, &[7; 10]);
    }
    assert_eq!((protector.repair_due(now), protector.deadline()), (None, Some(now + ms(3))));
    protector.handle_timeout(now + ms(3));
    assert_eq!(repairs(&mut protector, now + ms(3)).len(), 1);
    assert_eq!(protector.deadline(), Some(now + ms(6)));
    protector.handle_timeout(now + ms(6));
    assert!(protector.repair_due(now + ms(6)).is_some());
    assert_eq!(protector.deadline(), Some(now + ms(2_000)), "what is due is no deadline, or a blocked sender spins");
    protector.handle_timeout(now + ms(46));
    assert_eq!(protector.repair_due(now + ms(46)), None);
}

#[test]
fn a_small_window_of_the_peer_makes_small_groups() {
    let now = Instant::now();
    let mut protector = Protector::new(Window { symbols: 0, bytes: 0 });
    protector.configure(now, Some(ratio(8, 2)));
    assert!(!protector.is_on());
    protector.set_window(Window { symbols: 8, bytes: 4_000 });
    assert!(protector.is_on());
    for _ in 0..16 {
        protector.on_symbol(now, &[7; 10]);
    }
    assert!(repairs(&mut protector, now).iter().all(|frame| repair(frame).k == 4));
    for _ in 0..16 {
        protector.on_symbol(now, &[7; 1_000]);
    }
    assert!(repairs(&mut protector, now).iter().all(|frame| repair(frame).k <= 2));
}

#[test]
fn an_honest_sender_never_breaks_the_window_of_the_peer() {
    let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(27));
    for _ in 0..300 {
        let window = Window { symbols: rng.random_range(2..300), bytes: rng.random_range(500..40_000) };
        let (mut protector, mut restorer) = (Protector::new(window), Restorer::new(window));
        protector.configure(now, Some(ratio(rng.random_range(1..=32), rng.random_range(1..=16))));
        for _ in 0..100 {
            let len = if rng.random() { rng.random_range(0..20) } else { rng.random_range(0..1_400) };
            let sid = protector.on_symbol(now, &vec![1; len]);
            if rng.random_ratio(9, 10) {
                restorer.on_symbol(now, sid as u16, &vec![1; len]).unwrap();
            }
            for frame in repairs(&mut protector, now) {
                restorer.on_repair(now, &repair(&frame)).unwrap();
            }
        }
    }
}

#[test]
fn noise_neither_panics_nor_grows() {
    let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(26));
    for _ in 0..2_000 {
        let mut bytes = Vec::new();
        for _ in 0..rng.random_range(0..40) {
            let mut frame = Vec::new();
            let data: Vec<u8> = (0..rng.random_range(1..40usize) * 2).map(|_| rng.random_range(0..2)).collect();
            if rng.random() {
                Frame::Symbol { sid: rng.random_range(0..8), data: &data }.encode(&mut frame);
            } else {
                let (k, row, class) = (rng.random_range(1..8), rng.random_range(0..2), rng.random_range(0..3));
                Frame::Repair(Repair { base: rng.random_range(0..8), k, row, class, data: &data }).encode(&mut frame);
            }
            bytes.extend([frame.len() as u8, rng.random_range(0..100)]);
            bytes.extend(frame);
        }
        super::fuzz_repair(now, &bytes);
    }
    assert_eq!(row_len(0), COLUMNS);
}
