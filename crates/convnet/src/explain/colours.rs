//! Colours for the numbers of a map.

use super::Method;
use super::map::Map;

pub(super) type Rgb = [u8; 3];

/// Dark to light through purple and orange, at equal steps: nine colours of matplotlib's `inferno` (S. van der Walt and N. Smith,
/// CC0), whose lightness grows evenly, so that it reads without colour, too.
const WARM: [Rgb; 9] = [
    [0, 0, 4],
    [31, 12, 72],
    [85, 15, 109],
    [136, 34, 106],
    [186, 54, 85],
    [227, 89, 51],
    [249, 140, 10],
    [249, 201, 50],
    [252, 255, 164],
];
/// What speaks for a class, and what speaks against it: vermillion and blue of Okabe and Ito's colours.
const FOR: Rgb = [0xd5, 0x5e, 0x00];
const AGAINST: Rgb = [0x00, 0x72, 0xb2];
/// How much of a picture shows below the map of a layer.
const BELOW: f32 = 0.45;
/// How much lighter a picture is below a map of pixels.
const FADED: f32 = 0.72;
/// Share of the numbers of a map of pixels that is within the scale: single ones are far above the others.
const WITHIN: f64 = 0.995;

/// How the numbers of a map become colours over a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// The numbers at both ends.
    pub(super) ends: [f32; 2],
    /// Whether numbers beyond the ends are there, which have the ends' colours.
    pub(super) is_cut: bool,
    /// Whether the map is one of a layer, of which every place is coloured; on others 0 is no colour.
    full: bool,
}

impl Scale {
    /// The scale of a method's map.
    pub(super) fn new(method: Method, map: &Map) -> Scale {
        let [least, most] = map.range();
        if method.takes_layer() {
            return Scale { ends: [0.0, most], is_cut: false, full: true };
        }
        let largest = most.max(-least);
        let end = match map.quantile(WITHIN) {
            end if end > 0.0 => end,
            _ => largest,
        };
        Scale { ends: [if method.is_signed() { -end } else { 0.0 }, end], is_cut: end < largest, full: false }
    }

    /// The colour of a number over a pixel of the picture.
    pub(super) fn over(&self, value: f32, pixel: Rgb) -> Rgb {
        let [_, end] = self.ends;
        let share = if end > 0.0 { (value / end).clamp(-1.0, 1.0) } else { 0.0 };
        if self.full {
            return mixed(warm(share), grey(pixel), BELOW);
        }
        let below = mixed([255; 3], grey(pixel), 1.0 - FADED);
        mixed(if share < 0.0 { AGAINST } else { FOR }, below, 1.0 - share.abs())
    }

    /// The colour in the legend at a share of the way from one end to the other.
    pub(super) fn legend(&self, share: f32) -> Rgb {
        let value = self.ends[0] + share * (self.ends[1] - self.ends[0]);
        match self.full {
            true => warm(share),
            false if self.ends[1] > 0.0 => self.over(value, [255; 3]),
            false => [255; 3],
        }
    }
}

pub(super) fn warm(share: f32) -> Rgb {
    let place = share.clamp(0.0, 1.0) * (WARM.len() - 1) as f32;
    let before = (place as usize).min(WARM.len() - 2);
    mixed(WARM[before + 1], WARM[before], 1.0 - (place - before as f32))
}

/// The luma of ITU-R BT.601.
fn grey([red, green, blue]: Rgb) -> Rgb {
    let luma = 0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue);
    [luma.round() as u8; 3]
}

/// Two colours, of the second as much as `share`.
fn mixed(first: Rgb, second: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|i| (f32::from(first[i]) * (1.0 - share) + f32::from(second[i]) * share).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_where_the_numbers_do() {
        let map = Map::new([1, 4], vec![0.0, 1.0, -2.0, 0.5]);
        let signed = Scale::new("occlusion".parse().unwrap(), &map);
        assert_eq!((signed.ends, signed.is_cut), ([-2.0, 2.0], false));
        assert_eq!([signed.over(-2.0, [9; 3]), signed.over(2.0, [9; 3])], [AGAINST, FOR]);
        assert_eq!([signed.legend(0.0), signed.legend(0.5), signed.legend(1.0)], [AGAINST, [255; 3], FOR]);
        let full = Scale::new(Method::GradCam, &map);
        assert_eq!((full.ends, full.legend(0.0), full.legend(1.0)), ([0.0, 1.0], WARM[0], WARM[8]));
        let nothing = Scale::new(Method::Saliency, &Map::new([1, 1], vec![0.0]));
        assert_eq!((nothing.ends, nothing.over(0.0, [255; 3])), ([0.0, 0.0], [255; 3]));
    }
}
