//! bf16: the upper half of an `f32`, two to a word of 32 bits. Words lie in buffers of `f32`, whose bits they are; they are
//! moved, never computed with as numbers.

/// The nearest bf16 number, ties to even, as the upper half of a word. As the CPU's instruction does, numbers below the
/// smallest normal one become 0, and a NaN stays one.
#[inline(always)]
pub(crate) fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits | 0x0040_0000) & 0xffff_0000;
    }
    if bits & 0x7f80_0000 == 0 {
        return bits & 0x8000_0000;
    }
    (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000
}

/// A word of two numbers.
#[inline(always)]
pub(crate) fn word(lower: f32, upper: f32) -> f32 {
    f32::from_bits(round(lower) >> 16 | round(upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_and_to_even() {
        let rounded = |x: f32| f32::from_bits(round(x));
        // Eight bits of significand: steps of 2⁻⁷ above 1.
        assert_eq!(rounded(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(rounded(1.0 + 1.01 / 256.0), 1.0 + 1.0 / 128.0);
        assert_eq!(rounded(1.0 + 3.0 / 256.0), 1.0 + 2.0 / 128.0);
        assert_eq!(rounded(-1.0 - 3.0 / 256.0), -1.0 - 2.0 / 128.0);
        assert_eq!(rounded(f32::MAX), f32::INFINITY);
        assert_eq!(rounded(1e-40).to_bits(), 0);
        assert!(rounded(f32::NAN).is_nan() && rounded(f32::from_bits(0x7f80_0001)).is_nan());
    }
}
