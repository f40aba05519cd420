//! Parameters against their encoding, and what a peer may not tell.

use proptest::{collection::vec, option, prelude::*};

use super::*;

fn id() -> impl Strategy<Value = Guuid> {
    any::<[u8; 16]>().prop_map(Guuid::from_bytes)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..200u64, 0..=varint::MAX, Just(varint::MAX)]
}

prop_compose! {
    fn limits()(
        numbers in [number(), number(), number(), number(), number(), number(), number()],
        udp_payload_max in 1200..=65_527u16,
        exponent in 0..=20u8,
        delays in (0..1u64 << 14, option::of(0..1u64 << 23)),
        message_max in 0..=MESSAGE_BYTES_MAX,
        symbols_max in 0..=SYMBOLS_MAX,
        others in vec(1..=u32::MAX, 0..VERSIONS_MAX),
        version in 1..=u32::MAX,
        grease in option::of(any::<u64>()),
    ) -> Parameters {
        let [idle, data, stream, streams, ids, messages, symbols] = numbers;
        Parameters {
            idle_timeout: Duration::from_millis(idle),
            udp_payload_max,
            data_max: data,
            stream_data_max: stream,
            streams_bidirectional_max: streams >> 2,
            streams_unidirectional_max: streams >> 3,
            ack_delay_exponent: exponent,
            ack_delay_max: Duration::from_millis(delays.0),
            ack_delay_min: delays.1.map(Duration::from_micros),
            ids_max: ids.max(2),
            datagram_max: data >> 7,
            message_max,
            message_bytes_max: messages,
            symbols_max,
            symbol_bytes_max: symbols,
            version,
            versions: others.into(),
            grease,
            ..Parameters::default()
        }
    }
}

prop_compose! {
    fn parameters(server: bool)(
        limits in limits(),
        ids in (id(), id(), option::of(id())),
        reset_token in option::of(any::<[u8; 16]>()),
    ) -> Parameters {
        Parameters {
            original_to: Some(ids.0).filter(|_| server),
            initial_from: Some(ids.1),
            retry_from: ids.2.filter(|_| server),
            reset_token: reset_token.filter(|_| server),
            ..limits
        }
    }
}

fn encode(side: Side, parameters: &Parameters) -> Vec<u8> {
    let mut out = Vec::new();
    parameters.encode(side, &mut out);
    out
}

/// As few as a client may tell.
fn least() -> Vec<u8> {
    encode(Side::Client, &Parameters { initial_from: Some(Guuid::default()), ..Parameters::default() })
}

proptest! {
    #[test]
    fn parameters_survive_the_wire(client in parameters(false), server in parameters(true)) {
        for (side, mut parameters) in [(Side::Client, client), (Side::Server, server)] {
            let bytes = encode(side, &parameters);
            parameters.grease = None;
            prop_assert_eq!(Parameters::parse(side, &bytes), Ok(parameters));
            for end in 0..bytes.len() {
                // Cut between two of them, some are missing, or their defaults.
                let _ = Parameters::parse(side, &bytes[..end]);
            }
        }
    }

    #[test]
    fn any_bytes_are_taken_calmly(bytes in vec(any::<u8>(), 0..200), server: bool) {
        let side = if server { Side::Server } else { Side::Client };
        let _ = Parameters::parse(side, &[least(), bytes].concat());
    }

    #[test]
    fn a_client_tells_nothing_of_a_server(server in parameters(true)) {
        let told = Parameters::parse(Side::Client, &encode(Side::Client, &server)).unwrap();
        prop_assert_eq!((told.original_to, told.retry_from, told.reset_token), (None, None, None));
        prop_assert!(Parameters::parse(Side::Client, &encode(Side::Server, &server)).is_err());
    }
}

/// Tells one more, after the least.
fn with(name: u64, value: &[u8]) -> Checked<Parameters> {
    let mut bytes = least();
    write_bytes(name, value, &mut bytes);
    Parameters::parse(Side::Client, &bytes)
}

fn number_of(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint::write(value, &mut out);
    out
}

#[test]
fn values_have_ranges() {
    for (name, good, bad) in [
        (id::UDP_PAYLOAD_MAX, 1200, 1199),
        (id::STREAMS_BIDIRECTIONAL_MAX, 1 << 60, (1 << 60) + 1),
        (id::STREAMS_UNIDIRECTIONAL_MAX, 1 << 60, (1 << 60) + 1),
        (id::ACK_DELAY_EXPONENT, 20, 21),
        (id::ACK_DELAY_MAX, (1 << 14) - 1, 1 << 14),
        (id::ACK_DELAY_MIN, 1000 * (1 << 14) - 1, 1000 * (1 << 14)),
        (id::IDS_MAX, 2, 1),
        (id::MESSAGE_MAX, u64::from(u32::MAX), 1 << 32),
        (id::SYMBOLS_MAX, 1 << 15, (1 << 15) + 1),
    ] {
        assert!(with(name, &number_of(good)).is_ok(), "{name:#x} {good}");
        assert_eq!(with(name, &number_of(bad)), Err(RANGE), "{name:#x} {bad}");
    }
    let largest = with(id::UDP_PAYLOAD_MAX, &number_of(varint::MAX)).unwrap();
    assert_eq!(largest.udp_payload_max, 65_527, "more than any datagram is no limit");
}

//= SPEC.md#6
//= type=test
//# A parameter that is told twice, out of range, longer or shorter than its value, of the other side, or missing
//# although required is a TRANSPORT_PARAMETER error.
#[test]
fn what_is_malformed_is_refused() {
    assert_eq!(with(id::DATA_MAX, &[]), Err(SHORT));
    assert_eq!(with(id::DATA_MAX, &[0x40]), Err(SHORT));
    assert_eq!(with(id::DATA_MAX, &[1, 2]), Err(LONG));
    assert_eq!(with(id::INITIAL_FROM, &[0; 16]), Err(TWICE));
    assert_eq!(with(id::RESET_TOKEN, &[0; 16]), Err(SIDE));
    assert_eq!(Parameters::parse(Side::Server, &least()), Err(MISSING));
    for end in 0..least().len() {
        assert!(Parameters::parse(Side::Client, &least()[..end]).is_err(), "cut to {end}");
    }
    for versions in [&[][..], &[0; 4], &[1, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0, 1], &[1, 0]] {
        let mut bytes = Vec::new();
        write_bytes(id::INITIAL_FROM, &[0; 16], &mut bytes);
        write_bytes(id::VERSIONS, versions, &mut bytes);
        assert_eq!(Parameters::parse(Side::Client, &bytes), Err(VERSION_), "{versions:?}");
    }
}

#[test]
fn what_nobody_knows_is_ignored() {
    let plain = Parameters::parse(Side::Client, &least()).unwrap();
    for name in [0x3F, 0x40, id::grease(0), id::grease(u64::MAX), varint::MAX] {
        assert_eq!(with(name, b"whatever"), Ok(plain.clone()));
    }
    let mut bytes = least();
    write_bytes(0x7F, &[1], &mut bytes);
    write_bytes(0x7F, &[2], &mut bytes);
    assert_eq!(Parameters::parse(Side::Client, &bytes), Ok(plain));
}

#[test]
fn a_server_keeps_its_word() {
    let then = Parameters { data_max: 10, streams_bidirectional_max: 3, ..Parameters::default() };
    assert!(then.honours(&then));
    assert!(Parameters { data_max: 11, ..then.clone() }.honours(&then));
    assert!(!Parameters { data_max: 9, ..then.clone() }.honours(&then));
    assert!(!Parameters { streams_bidirectional_max: 2, ..then.clone() }.honours(&then));
    assert!(Parameters { idle_timeout: Duration::from_secs(1), ..then.clone() }.honours(&then));
}
