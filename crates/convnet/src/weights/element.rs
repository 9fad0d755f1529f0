//! The element types that weights have in files, all little-endian, and how each becomes `f32`.

/// Type of a stored tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    /// 8 bits with 4 of exponent and no infinity (Micikevicius et al. 2022, arXiv:2209.05433).
    F8E4M3,
    /// 8 bits with 5 of exponent (the same).
    F8E5M2,
    /// Two `f32`; a complex tensor is never read, but its bytes are counted.
    C64,
    /// Two `f64`, as [`Element::C64`].
    C128,
}

impl Element {
    /// Bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Element::C128 => 16,
            Element::F64 | Element::I64 | Element::U64 | Element::C64 => 8,
            Element::F32 | Element::I32 | Element::U32 => 4,
            Element::F16 | Element::BF16 | Element::I16 | Element::U16 => 2,
            Element::I8 | Element::U8 | Element::Bool | Element::F8E4M3 | Element::F8E5M2 => 1,
        }
    }

    /// Whether an element is an integer or a truth value.
    #[cfg(feature = "onnx")]
    pub(crate) fn is_integer(self) -> bool {
        match self {
            Element::I64 | Element::I32 | Element::I16 | Element::I8 => true,
            Element::U64 | Element::U32 | Element::U16 | Element::U8 | Element::Bool => true,
            Element::F64 | Element::F32 | Element::F16 | Element::BF16 => false,
            Element::F8E4M3 | Element::F8E5M2 | Element::C64 | Element::C128 => false,
        }
    }

    /// Whether an element is an integer that may be below 0.
    #[cfg(feature = "onnx")]
    pub(crate) fn is_signed(self) -> bool {
        matches!(self, Element::I64 | Element::I32 | Element::I16 | Element::I8)
    }

    /// Whether an element is a complex number, which no `f32` is near to.
    pub(super) fn is_complex(self) -> bool {
        matches!(self, Element::C64 | Element::C128)
    }

    /// Puts the nearest `f32` of every element in `bytes` into `values`, as many; NaN and infinity are let through.
    pub(crate) fn decode(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Element::F64 => convert(bytes, values, |b| f64::from_le_bytes(b) as f32),
            Element::F32 => convert(bytes, values, f32::from_le_bytes),
            Element::F16 => convert(bytes, values, |b| half(u16::from_le_bytes(b))),
            Element::BF16 => convert(bytes, values, |[low, high]| f32::from_le_bytes([0, 0, low, high])),
            Element::I64 => convert(bytes, values, |b| i64::from_le_bytes(b) as f32),
            Element::I32 => convert(bytes, values, |b| i32::from_le_bytes(b) as f32),
            Element::I16 => convert(bytes, values, |b| i16::from_le_bytes(b).into()),
            Element::I8 => convert(bytes, values, |b| i8::from_le_bytes(b).into()),
            Element::U64 => convert(bytes, values, |b| u64::from_le_bytes(b) as f32),
            Element::U32 => convert(bytes, values, |b| u32::from_le_bytes(b) as f32),
            Element::U16 => convert(bytes, values, |b| u16::from_le_bytes(b).into()),
            Element::U8 => convert(bytes, values, |[byte]| byte.into()),
            Element::F8E4M3 => convert(bytes, values, |[byte]| e4m3(byte)),
            // The first byte of a half-precision number.
            Element::F8E5M2 => convert(bytes, values, |[byte]| half(u16::from(byte) << 8)),
            Element::C64 => convert::<8>(bytes, values, |_| f32::NAN),
            Element::C128 => convert::<16>(bytes, values, |_| f32::NAN),
            Element::Bool => convert(bytes, values, |[byte]| f32::from(byte != 0)),
        }
    }
}

/// Converts elements of `N` bytes each.
#[inline]
fn convert<const N: usize>(bytes: &[u8], values: &mut [f32], each: impl Fn([u8; N]) -> f32) {
    values.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(value, &element)| *value = each(element));
}

/// The value of an 8-bit number with 4 bits of exponent: bias 7, and NaN in place of infinity.
fn e4m3(bits: u8) -> f32 {
    let sign = u32::from(bits & 0x80) << 24;
    if bits & 0x7f == 0x7f {
        return f32::from_bits(sign | 0x7fc0_0000);
    }
    // The exponents' biases differ by 120; multiplying also makes subnormal numbers right.
    let magnitude = f32::from_bits(u32::from(bits & 0x7f) << 20) * f32::from_bits((127 + 120) << 23);
    f32::from_bits(sign | magnitude.to_bits())
}

/// The value of an IEEE half-precision number.
fn half(bits: u16) -> f32 {
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff) << 13);
    let magnitude = match bits & 0x7c00 {
        0x7c00 => magnitude | 0x7f80_0000,
        // The exponents' biases differ by 112; multiplying also makes subnormal numbers right.
        _ => (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits(),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_precision_number() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-14),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                e => (1.0 + fraction) * 2f64.powi(e - 15),
            };
            let expected = magnitude.copysign(if bits >> 15 == 1 { -1.0 } else { 1.0 }) as f32;
            let got = half(bits);
            assert!(got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(), "{bits:#06x}: {got}");
        }
    }

    #[test]
    fn every_8_bit_number() {
        for bits in 0..=u8::MAX {
            let (exponent, fraction) = (i32::from(bits >> 3 & 15), f64::from(bits & 7) / 8.0);
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-6),
                15 if fraction == 7.0 / 8.0 => f64::NAN,
                e => (1.0 + fraction) * 2f64.powi(e - 7),
            };
            let expected = magnitude.copysign(if bits >> 7 == 1 { -1.0 } else { 1.0 }) as f32;
            let got = e4m3(bits);
            assert!(got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(), "{bits:#04x}: {got}");
        }
    }

    #[test]
    fn every_type_becomes_f32() {
        let cases: [(Element, &[u8], f32); 15] = [
            (Element::F64, &(-2.5f64).to_le_bytes(), -2.5),
            (Element::F32, &(-2.5f32).to_le_bytes(), -2.5),
            (Element::F16, &0xc100u16.to_le_bytes(), -2.5),
            (Element::BF16, &0xc020u16.to_le_bytes(), -2.5),
            (Element::I64, &(-25i64).to_le_bytes(), -25.0),
            (Element::I32, &(-25i32).to_le_bytes(), -25.0),
            (Element::I16, &(-25i16).to_le_bytes(), -25.0),
            (Element::I8, &(-25i8).to_le_bytes(), -25.0),
            (Element::U64, &(1u64 << 63).to_le_bytes(), 9_223_372_036_854_775_808.0),
            (Element::U32, &3_000_000_000u32.to_le_bytes(), 3_000_000_000.0),
            (Element::U16, &65_535u16.to_le_bytes(), 65_535.0),
            (Element::U8, &[200], 200.0),
            (Element::F8E4M3, &[0xc2], -2.5),
            (Element::F8E5M2, &[0xc1], -2.5),
            (Element::Bool, &[1], 1.0),
        ];
        for (element, bytes, value) in cases {
            let mut values = [0.0; 2];
            element.decode(&bytes.repeat(2), &mut values);
            assert_eq!((bytes.len(), values), (element.size(), [value; 2]), "{element:?}");
        }
    }
}
