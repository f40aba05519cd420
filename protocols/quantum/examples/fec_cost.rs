//! Runs the code on one kind of group, to count its instructions: the difference of two counts of rounds is the cost.
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null fec_cost encode 8 2 1206 0 1000
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null fec_cost decode 10 3 1206 1 1000
//! ```

fn main() {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_default();
    let numbers: Vec<usize> = words.filter_map(|word| word.parse().ok()).collect();
    let [k, rows, len, lost, rounds] = numbers[..] else {
        return println!("encode | decode, then k, rows, bytes of a row, lost symbols, rounds");
    };
    let bytes = match &what[..] {
        "encode" => quantum::fec::cost_encode(k, rows, len, rounds),
        _ => quantum::fec::cost_decode(k, rows, len, lost, rounds),
    };
    println!("{bytes} bytes");
}
