//! The pictures of a run: [`curves()`] over the epochs and a grid of [`predictions()`], as PNG; [`rates()`] of a search, and [`scaling()`] over machines.

mod answers;
mod curves;
mod predictions;
mod rates;
mod scaling;

pub(super) use answers::answers;
pub use curves::curves;
pub use predictions::{Prediction, predictions};
pub use rates::rates;
pub use scaling::scaling;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::EpochMetrics;

    /// Samples to look at: `cargo test -p convnet draw_samples -- --ignored`, then open `$TMPDIR/convnet-samples`.
    #[test]
    #[ignore = "writes pictures for a person to look at"]
    fn draw_samples() {
        let folder = std::env::temp_dir().join("convnet-samples");
        std::fs::create_dir_all(&folder).unwrap();
        for (epochs, floor) in [(1, 0.03), (10, 0.03), (60, 0.9)] {
            let epoch = |epoch: usize| {
                let (t, wave) = (epoch as f64, (epoch as f64 * 7.3).sin());
                let (train_loss, val_loss) = (floor / 4.0 + 0.35 / t.powf(1.3), floor + 0.12 / t + 0.004 * wave);
                let [train_accuracy, val_accuracy] = [train_loss, val_loss].map(|loss| 1.0 - 0.27 * loss);
                EpochMetrics {
                    epoch,
                    train_loss,
                    train_accuracy,
                    train_eval_loss: None,
                    train_eval_accuracy: Some(train_accuracy + 0.01),
                    val_loss: Some(val_loss),
                    val_accuracy: Some(val_accuracy),
                    seconds: 4.2,
                    data_wait: 0.0,
                    process_wait: None,
                    images_per_second: None,
                    lr: None,
                    grad_norm: None,
                }
            };
            let metrics: Vec<_> = (1..=epochs).map(epoch).collect();
            curves(&folder.join(format!("curves-{epochs}.png")), &metrics).unwrap();
        }
        let names = ["plane", "car", "bird", "flat-coated retriever", "ångström", "dog", "frog", "Ж", "ship", "truck"];
        for (shape, count) in [([1, 28, 28], 40), ([3, 32, 32], 13), ([3, 300, 200], 6)] {
            let [channels, height, width] = shape;
            let ring = |i: usize| {
                let (c, y, x) = (i / (height * width), i / width % height, i % width);
                let [y, x] = [(y, height), (x, width)].map(|(at, length)| 2.0 * at as f64 / length as f64 - 1.0);
                let radius = (x * x * 1.4 + y * y - 0.35).abs() * (3.0 + c as f64);
                (255.0 * (1.0 - radius).max(0.0)) as u8
            };
            let pixels: Vec<u8> = (0..channels * height * width).map(ring).collect();
            let picture = |i: usize| Prediction {
                pixels: &pixels,
                predicted: if i % 9 == 4 { names[(i + 3) % 10] } else { names[i % 10] },
                truth: names[i % 10],
            };
            let pictures: Vec<_> = (0..count).map(picture).collect();
            predictions(&folder.join(format!("predictions-{count}.png")), shape, &pictures).unwrap();
        }
    }
}
