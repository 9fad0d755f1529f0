//! AlexNet's noise of colour (Krizhevsky et al. 2012, section 4.1): to every pixel of a picture the same multiples of the
//! principal components of the pixels of all pictures are added, each times its eigenvalue and a normal number.

use serde::{Deserialize, Serialize};

use super::draw::Draw;
use super::settings::{Frame, Settings, Steps};
use super::step::Change;
use super::value;
use crate::data::Dataset;
use crate::{Error, Result};

/// The noise. Unless set, the components are those of ImageNet that `fb.resnet.torch` published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PcaNoise {
    /// Standard deviation of the multiples.
    pub std: f64,
    /// Eigenvalues of the covariance of red, green and blue, for pixels in 0..1.
    pub eigenvalues: [f64; 3],
    /// The eigenvector of each, in red, green and blue.
    pub eigenvectors: [[f64; 3]; 3],
}

impl Default for PcaNoise {
    fn default() -> PcaNoise {
        PcaNoise {
            std: 0.1,
            eigenvalues: [0.2175, 0.0188, 0.0045],
            eigenvectors: [[-0.5675, -0.5808, -0.5836], [0.7192, -0.0045, -0.6948], [0.4009, -0.8140, 0.4203]],
        }
    }
}

impl PcaNoise {
    /// The noise that fits a data set: the components of all its pixels. Sums are whole numbers, so the result is exact
    /// but for the last digits, and the same on every machine.
    ///
    /// # Errors
    /// A data set of other than three channels, or without pictures.
    pub fn of(data: &Dataset) -> Result<PcaNoise> {
        let [channels, height, width] = data.shape();
        let pixels = data.len() * height * width;
        if channels != 3 || pixels == 0 {
            return Err(Error::invalid(format!(
                "colour noise of data set '{}' with {} pictures of {channels} channels: expected pictures of 3 channels",
                data.name(),
                data.len()
            )));
        }
        let (mut sums, mut products) = ([0_u64; 3], [[0_u64; 3]; 3]);
        for index in 0..data.len() {
            let image = data.image(index)?;
            let planes: Vec<&[u8]> = image.chunks_exact(height * width).collect();
            for i in 0..3 {
                sums[i] += planes[i].iter().map(|&x| u64::from(x)).sum::<u64>();
                for j in 0..=i {
                    let product = |(&x, &y): (&u8, &u8)| u64::from(x) * u64::from(y);
                    products[i][j] += planes[i].iter().zip(planes[j]).map(product).sum::<u64>();
                }
            }
        }
        let n = pixels as u128;
        let covariance = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                // n Σxy - Σx Σy, which is exact, over n² and the square of a pixel's range.
                let spread = (n * u128::from(products[i.max(j)][i.min(j)])) as i128
                    - (u128::from(sums[i]) * u128::from(sums[j])) as i128;
                spread as f64 / (n as f64 * n as f64) / (255.0 * 255.0)
            })
        });
        let (eigenvalues, eigenvectors) = eigen(covariance);
        Ok(PcaNoise { eigenvalues, eigenvectors, ..PcaNoise::default() })
    }
}

/// Eigenvalues of a symmetric matrix, the largest first, and the eigenvector of each, whose first number is not negative
/// (Jacobi's rotations).
fn eigen(mut matrix: [[f64; 3]; 3]) -> ([f64; 3], [[f64; 3]; 3]) {
    let mut columns = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    // Each sweep squares what is left beside the diagonal: a few would do.
    for (p, q) in [(0, 1), (0, 2), (1, 2)].into_iter().cycle().take(3 * 16) {
        if matrix[p][q] == 0.0 {
            continue;
        }
        let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
        let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
        let cos = 1.0 / (t * t + 1.0).sqrt();
        let sin = t * cos;
        let turn = |x: f64, y: f64| (cos * x - sin * y, sin * x + cos * y);
        for row in &mut matrix {
            (row[p], row[q]) = turn(row[p], row[q]);
        }
        for k in 0..3 {
            (matrix[p][k], matrix[q][k]) = turn(matrix[p][k], matrix[q][k]);
        }
        for row in &mut columns {
            (row[p], row[q]) = turn(row[p], row[q]);
        }
    }
    let mut order = [0, 1, 2];
    order.sort_by(|&i, &j| matrix[j][j].total_cmp(&matrix[i][i]));
    let vector = |i: usize| {
        let vector = columns.map(|row| row[i]);
        if vector[0] < 0.0 { vector.map(|x| -x) } else { vector }
    };
    (order.map(|i| matrix[i][i]), order.map(vector))
}

impl Settings for PcaNoise {
    fn check(&self) -> std::result::Result<(), String> {
        value::within("std", self.std, [0.0, 1e3])?;
        let numbers = self.eigenvalues.iter().chain(self.eigenvectors.as_flattened());
        match numbers.clone().all(|x| x.abs() <= 1e3) {
            true => Ok(()),
            false => Err("eigenvalues and eigenvectors: expected numbers from -1000 to 1000".into()),
        }
    }

    /// The shift of each channel in whole steps of a byte.
    fn draw(&self, frame: Frame<'_>, draw: &mut Draw, steps: &mut Steps<'_>) -> std::result::Result<(), String> {
        if frame.shape[0] != 3 {
            return Err("expected pictures of 3 channels".into());
        }
        let multiples = self.eigenvalues.map(|value| value * self.std * draw.normal());
        let shift = std::array::from_fn(|c| {
            let sum: f64 =
                multiples.iter().zip(&self.eigenvectors).map(|(multiple, vector)| multiple * vector[c]).sum();
            (sum * 255.0).round().clamp(-255.0, 255.0) as i16
        });
        steps.push(Change::Shift(shift));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_those_of_the_covariance() {
        // Along (1, 2, 2) and across it, with variances that follow by hand.
        let matrix = [[11.0, 2.0, 8.0], [2.0, 2.0, -10.0], [8.0, -10.0, 5.0]];
        let (values, vectors) = eigen(matrix);
        for (value, expected) in values.into_iter().zip([18.0, 9.0, -9.0]) {
            assert!((value - expected).abs() < 1e-12, "{value} instead of {expected}");
        }
        for (value, vector) in values.into_iter().zip(vectors) {
            for (i, row) in matrix.iter().enumerate() {
                let product: f64 = row.iter().zip(vector).map(|(a, x)| a * x).sum();
                assert!((product - value * vector[i]).abs() < 1e-12);
            }
            assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-12 && vector[0] >= 0.0);
        }
    }

    #[test]
    fn a_data_set_gives_its_own_noise() {
        // Two pictures of two pixels; red runs from 0 to 255, green is half of it, blue is constant.
        let images = [[0, 255, 0, 127, 9, 9], [255, 0, 127, 0, 9, 9]].concat();
        let data = Dataset::new("t", [3, 1, 2], images, vec![0, 0], vec!["a".into()]).unwrap();
        let PcaNoise { eigenvalues, eigenvectors, std } = PcaNoise::of(&data).unwrap();
        let share = 127.0 / 255.0;
        assert!((eigenvalues[0] - 0.25 * (1.0 + share * share)).abs() < 1e-12);
        assert!(eigenvalues[1].abs() < 1e-12 && eigenvalues[2].abs() < 1e-12 && std == 0.1);
        assert!((eigenvectors[0][1] / eigenvectors[0][0] - share).abs() < 1e-12 && eigenvectors[0][2] == 0.0);
        let grey = Dataset::new("t", [1, 1, 2], vec![0; 2], vec![0], vec!["a".into()]).unwrap();
        assert!(PcaNoise::of(&grey).unwrap_err().to_string().contains("1 channels"));
    }
}
