//! The exclusive-or that hides a client's payload from proxies.

/// Bytes masked per step: a power of two and a multiple of the key, wide enough for the compiler to use vectors.
const STEP: usize = 16;

/// Masks or unmasks `bytes`, and turns the key so that it fits what follows them.
pub(crate) fn apply(key: &mut [u8; 4], bytes: &mut [u8]) {
    let word = u128::from(u32::from_le_bytes(*key));
    let wide = word | word << 32 | word << 64 | word << 96;
    let (steps, rest) = bytes.as_chunks_mut::<STEP>();
    for step in steps {
        *step = (u128::from_le_bytes(*step) ^ wide).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_le_bytes()) {
        *byte ^= key;
    }
    *key = u32::from_le_bytes(*key).rotate_right(8 * (rest.len() as u32 % 4)).to_le_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_goes_on_where_the_last_part_ended() {
        let key = [0x6d, 0xb6, 0xb2, 0x80];
        let plain: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        let expected: Vec<u8> = plain.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        for cut in 0..70 {
            let (mut masked, mut turning) = (plain.clone(), key);
            let (first, second) = masked.split_at_mut(cut);
            apply(&mut turning, first);
            apply(&mut turning, second);
            assert_eq!(masked, expected, "cut at {cut}");
        }
    }
}
