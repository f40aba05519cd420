//! Symbols that the peer restored: never sent again, and nevertheless lost (RFC 9265).

use super::{acked::UNSENT_SYMBOL, *};

const CONTROL: Item = Item::MaxData;

impl Bench {
    fn send_symbol(&mut self, sid: u64) -> u64 {
        self.send_with(Space::Application, |packet| {
            packet.items.insert(0, CONTROL);
            (packet.symbol, packet.protected) = (Some(sid), 1);
        })
    }

    pub(super) fn recovered(&mut self, sids: &[RangeInclusive<u64>]) -> Checked<()> {
        let mut set = RangeSet::new();
        set.extend(sids.iter().cloned());
        let mut bytes = vec![crate::frame::kind::SYMBOL_ACK as u8];
        crate::frame::encode_ranges(&set, 1000, |_| {}, &mut bytes);
        let Ok(Frame::SymbolAck(ack)) = Frame::parse(&mut &bytes[..]) else { panic!("a SYMBOL_ACK") };
        let result = self.recovery.on_symbols_recovered(&ack, &mut self.log);
        self.recovery.check();
        result
    }
}

#[test]
fn pitfall_18_a_restored_packet_is_still_lost_for_congestion_control() {
    let mut windows = Vec::new();
    for recovered in [false, true] {
        let mut bench = Bench::new();
        bench.settle_rtt();
        let sent: Vec<u64> = (0..4).map(|sid| bench.send_symbol(sid)).collect();
        bench.wait(ms(40));
        // SYMBOL_ACK comes in the datagram of the ACK, before losses are acted on.
        if recovered {
            bench.recovered(&[0..=0]).unwrap();
            assert_eq!(bench.log.delivered, [item(sent[0])]);
        }
        bench.ack(&[sent[1]..=sent[3]]);
        assert_eq!(bench.log.lost, [sent[0]]);
        let again = if recovered { vec![CONTROL] } else { vec![CONTROL, item(sent[0])] };
        assert_eq!(bench.log.lost_items, again, "what was not in the symbol was not restored");
        windows.push((bench.recovery.congestion.window(), bench.recovery.counts().lost, bench.recovery.in_flight()));
    }
    assert_eq!(windows[0], windows[1]);
}

#[test]
fn a_symbol_that_was_restored_after_its_packet_was_lost_cancels_the_resend() {
    let mut bench = Bench::new();
    let sent: Vec<u64> = (0..4).map(|sid| bench.send_symbol(sid)).collect();
    bench.wait(ms(40));
    bench.ack(&[sent[1]..=sent[3]]);
    assert_eq!(bench.log.lost, [sent[0]]);
    for _ in 0..3 {
        bench.recovered(&[0..=0]).unwrap();
    }
    assert_eq!(bench.log.delivered, [item(sent[0])], "once");
    assert_eq!(bench.recovery.counts().recovered, 1);
}

#[test]
fn a_restored_packet_that_arrives_after_all_is_acknowledged_with_the_rest() {
    let mut bench = Bench::new();
    let number = bench.send_symbol(0);
    bench.recovered(&[0..=0]).unwrap();
    bench.wait(ms(40));
    assert!(bench.ack(&[number..=number]).newly);
    assert_eq!(bench.log.delivered, [item(number)]);
    assert_eq!(bench.log.acked, [number]);
    bench.recovered(&[0..=0]).unwrap();
    assert_eq!(bench.recovery.counts().recovered, 1);
}

#[test]
fn packets_without_symbols_between_them_do_not_confuse_the_count() {
    let mut bench = Bench::new();
    let mut numbers = Vec::new();
    for sid in [5, 6, 7, 9] {
        bench.send_many(sid as usize);
        numbers.push(bench.send_symbol(sid));
    }
    bench.recovered(&[0..=5, 7..=9]).unwrap();
    assert_eq!(bench.log.delivered, [item(numbers[2]), item(numbers[3]), item(numbers[0])]);
    assert_eq!(bench.recovered(&[10..=10]), Err(UNSENT_SYMBOL));
}
