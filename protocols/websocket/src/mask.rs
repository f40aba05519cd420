//! The exclusive-or that hides a client's payload from proxies.

/// Bytes masked per step: a power of two and a multiple of the key, wide enough for the compiler to use vectors.
const STEP: usize = 16;

/// Masks or unmasks `bytes`, and turns the key so that it fits what follows them.
pub(crate) fn apply(key: &mut [u8; 4], bytes: &mut [u8]) {
    let word = u32::from_ne_bytes(*key);
    let mut wide = [0; STEP];
    wide.chunks_exact_mut(4).for_each(|chunk| chunk.copy_from_slice(&word.to_ne_bytes()));
    let wide = u128::from_ne_bytes(wide);
    let mut steps = bytes.chunks_exact_mut(STEP);
    for step in &mut steps {
        if let Ok(step) = <&mut [u8; STEP]>::try_from(step) {
            *step = (u128::from_ne_bytes(*step) ^ wide).to_ne_bytes();
        }
    }
    let rest = steps.into_remainder();
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    key.rotate_left(rest.len() % 4);
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
