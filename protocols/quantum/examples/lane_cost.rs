//! Moves packets of a stream through lanes, to count its instructions: the difference of two counts is the cost.
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null lane_cost 1000
//! ```

fn main() {
    let packets = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(1_000);
    println!("{} bytes", quantum::lane::fuzz::cost_bulk(std::time::Instant::now(), packets));
}
