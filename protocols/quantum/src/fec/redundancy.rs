//! How many rows a group needs when packets are lost independently of each other.

/// Symbols of a group, at most: what comes in within the time that a group may take at 3,000 packets a second.
pub(super) const K_MAX: usize = 24;

/// Rows of a group, at most.
pub(super) const R_MAX: usize = 16;

/// Loss in hundredths of a percent: the steps on which the ratio is chosen.
pub(super) const STEPS: [u32; 15] =
    [50, 100, 150, 200, 300, 400, 500, 600, 800, 1_000, 1_300, 1_600, 2_000, 2_500, 3_000];

/// One, in the fixed point of probabilities.
const ONE: u128 = 1 << 48;

/// Packets that stay lost, at most: one in a thousand.
const RESIDUAL: u128 = ONE / 1_000;

/// Rows by step and symbols.
static ROWS: [[u8; K_MAX + 1]; STEPS.len()] = table();

/// Rows behind `k` symbols at this step, so that one packet in a thousand stays lost.
pub(super) fn rows(step: usize, k: usize) -> usize {
    usize::from(ROWS[step][k])
}

const fn table() -> [[u8; K_MAX + 1]; STEPS.len()] {
    let mut table = [[0; K_MAX + 1]; STEPS.len()];
    let mut step = 0;
    while step < STEPS.len() {
        let mut k = 1;
        while k <= K_MAX {
            let mut r = 1;
            while r < R_MAX && residual(STEPS[step], k, r) > RESIDUAL {
                r += 1;
            }
            table[step][k] = r as u8;
            k += 1;
        }
        step += 1;
    }
    table
}

/// The part of packets that stays lost: one is lost, and at least `r` of the group's others are.
const fn residual(loss: u32, k: usize, r: usize) -> u128 {
    let (others, lost) = (k + r - 1, ONE * loss as u128 / 10_000);
    let kept = ONE - lost;
    // The probability that exactly `i` others are lost, from none upwards.
    let mut term = ONE;
    let mut i = 0;
    while i < others {
        term = term * kept / ONE;
        i += 1;
    }
    let mut fewer = 0;
    i = 0;
    while i < r {
        fewer += term;
        term = term * lost / kept * (others - i) as u128 / (i + 1) as u128;
        i += 1;
    }
    (ONE - if fewer < ONE { fewer } else { ONE }) * lost / ONE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_binomial_distribution() {
        // Rows that leave one in a thousand lost, for groups of 4, 8 and 16.
        let known = [
            (50, [1, 1, 1]),
            (100, [1, 1, 2]),
            (200, [2, 2, 2]),
            (500, [3, 3, 4]),
            (1_000, [4, 5, 7]),
            (2_000, [6, 8, 12]),
        ];
        for (loss, expected) in known {
            let step = STEPS.iter().position(|step| *step == loss).unwrap();
            assert_eq!([4, 8, 16].map(|k| rows(step, k)), expected, "at {loss}");
        }
    }

    #[test]
    fn more_loss_never_means_fewer_rows() {
        for k in 1..=K_MAX {
            assert!((1..STEPS.len()).all(|step| rows(step - 1, k) <= rows(step, k)), "{k}");
        }
    }
}
