//! From bytes to what a net takes: `(x / 255 - mean) / deviation`, channel by channel.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Mean and standard deviation of each channel, in units of pixels in 0..1 (as torchvision's `Normalize`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// What is subtracted, a value for each channel.
    pub mean: Vec<f32>,
    /// What it is then divided by, a value for each channel.
    pub std: Vec<f32>,
}

impl Normalization {
    /// ImageNet's mean and standard deviation in red, green and blue, with which torchvision's models and the usual CIFAR
    /// ones were trained.
    pub fn imagenet() -> Normalization {
        Normalization { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Pixels in -1..1, as the inception networks were trained. Torchvision's GoogLeNet undoes [`Normalization::imagenet`]
    /// and does this inside the net (`transform_input`); without that step its weights want this normalisation.
    pub fn inception() -> Normalization {
        Normalization { mean: vec![0.5; 3], std: vec![0.5; 3] }
    }

    /// Pixels in 0..1 and nothing more, as the lecture has it (torchvision's `ToTensor`).
    pub fn unit(channels: usize) -> Normalization {
        Normalization { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// Pixels in 0..255, for nets that normalise them themselves.
    pub fn bytes(channels: usize) -> Normalization {
        Normalization { mean: vec![0.0; channels], std: vec![1.0 / 255.0; channels] }
    }

    /// The form that does the work, for pictures of so many channels.
    ///
    /// # Errors
    /// Another number of channels than values, or a value that cannot be used.
    pub fn normalizer(&self, channels: usize) -> Result<Normalizer> {
        if channels == 0 || self.mean.len() != channels || self.std.len() != channels {
            let found = format!("{} means and {} standard deviations", self.mean.len(), self.std.len());
            let expected = format!("one mean and one standard deviation for each of {channels} channels");
            return Err(Error::setting("normalization", expected, found));
        }
        let table = |(&mean, &std): (&f32, &f32)| {
            let usable = mean.is_finite() && std.is_finite() && std > 0.0;
            usable.then(|| std::array::from_fn(|x| (x as f32 / 255.0 - mean) / std)).ok_or_else(|| {
                let found = format!("mean {mean} and standard deviation {std}");
                Error::setting("normalization", "finite numbers and a deviation above 0", found)
            })
        };
        Ok(Normalizer { tables: self.mean.iter().zip(&self.std).map(table).collect::<Result<_>>()? })
    }
}

/// A table of 256 values for each channel.
#[derive(Clone, Debug)]
pub struct Normalizer {
    tables: Vec<[f32; 256]>,
}

impl Normalizer {
    /// Turns the planes of one picture (channels × height × width bytes) into numbers of the same layout.
    ///
    /// # Panics
    /// When `planes` and `out` differ in length or do not hold whole channels.
    pub fn apply(&self, planes: &[u8], out: &mut [f32]) {
        assert_eq!(planes.len(), out.len(), "as many numbers as bytes");
        assert_eq!(planes.len() % self.tables.len(), 0, "whole channels");
        let plane = (planes.len() / self.tables.len()).max(1);
        for ((bytes, numbers), table) in planes.chunks(plane).zip(out.chunks_mut(plane)).zip(&self.tables) {
            for (&byte, number) in bytes.iter().zip(numbers) {
                *number = table[usize::from(byte)];
            }
        }
    }
}

impl Normalizer {
    /// The bytes from which [`Normalizer::apply`] has made these numbers.
    ///
    /// # Panics
    /// As [`Normalizer::apply`].
    pub fn undo(&self, numbers: &[f32], planes: &mut [u8]) {
        assert_eq!(planes.len(), numbers.len(), "as many bytes as numbers");
        assert_eq!(planes.len() % self.tables.len(), 0, "whole channels");
        let plane = (planes.len() / self.tables.len()).max(1);
        for ((bytes, numbers), table) in planes.chunks_mut(plane).zip(numbers.chunks(plane)).zip(&self.tables) {
            let (first, step) = (table[0], (table[255] - table[0]) / 255.0);
            bytes.iter_mut().zip(numbers).for_each(|(byte, number)| *byte = ((number - first) / step).round() as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        let planes: Vec<u8> = (0..3).flat_map(|_| 0..=255).collect();
        let unusual = Normalization { mean: vec![-3.0, 0.0, 7.0], std: vec![0.001, 1.0, 20.0] };
        for normalization in [Normalization::imagenet(), Normalization::inception(), unusual] {
            let normalizer = normalization.normalizer(3).unwrap();
            let (mut numbers, mut back) = (vec![0.0; planes.len()], vec![0; planes.len()]);
            normalizer.apply(&planes, &mut numbers);
            normalizer.undo(&numbers, &mut back);
            assert_eq!(back, planes);
        }
    }

    #[test]
    fn each_channel_has_its_own_values() {
        let normalization = Normalization { mean: vec![0.0, 0.5], std: vec![1.0, 0.25] };
        let mut out = [9.0; 4];
        normalization.normalizer(2).unwrap().apply(&[0, 255, 0, 51], &mut out);
        assert_eq!(out, [0.0, 1.0, -2.0, (0.2 - 0.5) / 0.25]);
    }

    /// What torchvision's `transform_input` computes, after the normalisation that its preprocessing has done.
    #[test]
    fn inception_is_transform_input_after_imagenet() {
        let Normalization { mean, std } = Normalization::imagenet();
        let planes: Vec<u8> = (0..3).flat_map(|_| 0..=255).collect();
        let mut out = [[0.0; 768]; 2];
        Normalization::imagenet().normalizer(3).unwrap().apply(&planes, &mut out[0]);
        Normalization::inception().normalizer(3).unwrap().apply(&planes, &mut out[1]);
        for (i, (x, expected)) in out[0].iter().zip(out[1]).enumerate() {
            let transformed = x * (std[i / 256] / 0.5) + (mean[i / 256] - 0.5) / 0.5;
            assert!((transformed - expected).abs() < 1e-6, "{transformed} instead of {expected}");
        }
    }

    #[test]
    fn unit_is_division_by_255() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut out = [0.0; 256];
        Normalization::unit(1).normalizer(1).unwrap().apply(&bytes, &mut out);
        assert!(out.iter().enumerate().all(|(i, &x)| x == i as f32 / 255.0));
    }

    #[test]
    fn unusable_values_are_refused() {
        let with = |mean: &[f32], std: &[f32]| Normalization { mean: mean.into(), std: std.into() }.normalizer(1);
        assert!(with(&[0.0, 0.0], &[1.0]).unwrap_err().to_string().contains("each of 1 channels"));
        assert!(Normalization::unit(0).normalizer(0).is_err());
        assert!(with(&[0.0], &[0.0]).is_err());
        assert!(with(&[0.0], &[-1.0]).is_err());
        assert!(with(&[f32::NAN], &[1.0]).is_err());
        assert!(with(&[0.0], &[f32::INFINITY]).is_err());
    }
}
