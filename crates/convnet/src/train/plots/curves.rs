//! `curves.png`: loss and accuracy, in training and in validation, over the epochs.

use std::path::Path;

use plotters::style::{RGBColor, text_anchor::HPos};

use crate::Result;
use crate::axis::{Axis, LOSSES, PERCENT};
use crate::canvas::{BLUE, Canvas, Drawn, GREY, GRID, INK, VERMILLION, write_png};
use crate::train::EpochMetrics;

const PANEL: [f64; 2] = [800.0, 640.0];
/// Space around the plot itself within its panel: left, top, right, bottom.
const MARGINS: [f64; 4] = [104.0, 130.0, 36.0, 90.0];
const TITLE: f64 = 34.0;
const TEXT: f64 = 24.0;
/// With more epochs than this the points are drawn without markers.
const MARKED: usize = 40;

/// Draws loss and accuracy over the epochs, 1600×640. Values that are not finite are left out, and losses
/// above a million drawn there.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the file cannot be written.
pub fn curves(path: &Path, metrics: &[EpochMetrics]) -> Result<()> {
    let of = |value: fn(&EpochMetrics) -> f64, [low, high]: [f64; 2]| {
        let points = metrics.iter().map(|m| (m.epoch as f64, value(m))).filter(|(_, value)| value.is_finite());
        points.map(|(epoch, value)| (epoch, value.clamp(low, high))).collect()
    };
    let loss = Panel {
        title: "Loss",
        left: 0.0,
        training: of(|m| m.train_loss, LOSSES),
        validation: of(|m| m.val_loss.unwrap_or(f64::NAN), LOSSES),
        best: |all| all.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)),
        described: |(epoch, loss)| format!("validation, lowest {loss:.4} in epoch {epoch}"),
        unit: "",
        limits: LOSSES,
    };
    let accuracy = Panel {
        title: "Accuracy",
        left: PANEL[0],
        training: of(|m| 100.0 * m.accuracy_in_training(), PERCENT),
        validation: of(|m| m.val_accuracy.map_or(f64::NAN, |share| 100.0 * share), PERCENT),
        best: |all| all.iter().copied().rev().max_by(|a, b| a.1.total_cmp(&b.1)),
        described: |(epoch, accuracy)| format!("validation, best {accuracy:.2} % in epoch {epoch}"),
        unit: " %",
        limits: PERCENT,
    };
    let size = [2 * PANEL[0] as usize, PANEL[1] as usize];
    write_png(path, size, |canvas| [loss, accuracy].iter().try_for_each(|panel| panel.draw(canvas)))
}

/// A value at an epoch.
type Point = (f64, f64);

struct Panel {
    title: &'static str,
    /// Where it begins.
    left: f64,
    training: Vec<Point>,
    validation: Vec<Point>,
    /// The best point, the earliest of equals.
    best: fn(&[Point]) -> Option<Point>,
    /// The legend's text for the best point.
    described: fn(Point) -> String,
    unit: &'static str,
    /// What the axis never leaves.
    limits: [f64; 2],
}

impl Panel {
    fn draw(&self, canvas: &Canvas) -> Drawn {
        let points = || self.training.iter().chain(&self.validation);
        let x = Axis::of_epochs(points().map(|p| p.0), [self.left + MARGINS[0], self.left + PANEL[0] - MARGINS[2]]);
        let y = Axis::of_values(points().map(|p| p.1), [PANEL[1] - MARGINS[3], MARGINS[1]], self.limits);
        self.draw_axes(canvas, &x, &y)?;
        self.draw_legend(canvas)?;
        // Validation on top: it is what counts.
        for (look, points) in [(Look::Training, &self.training), (Look::Validation, &self.validation)] {
            let points: Vec<Point> = points.iter().map(|&(epoch, value)| (x.place(epoch), y.place(value))).collect();
            look.curve(canvas, &points)?;
            if points.len() <= MARKED {
                points.iter().try_for_each(|&point| look.marker(canvas, point))?;
            }
        }
        Ok(())
    }

    fn draw_axes(&self, canvas: &Canvas, x: &Axis, y: &Axis) -> Drawn {
        draw_levels(canvas, x, y, self.unit)?;
        let floor = y.ends[0];
        for &tick in &x.ticks {
            canvas.line(&[(x.place(tick), floor), (x.place(tick), floor + 7.0)], GREY, 1.5)?;
            canvas.text(&tick.to_string(), TEXT, (x.place(tick), floor + 22.0), HPos::Center, GREY)?;
        }
        let middle = (x.ends[0] + x.ends[1]) / 2.0;
        canvas.text("epoch", TEXT, (middle, floor + 58.0), HPos::Center, INK)
    }

    /// Title, and below it a row with both curves' names, clear of the data.
    fn draw_legend(&self, canvas: &Canvas) -> Drawn {
        let mut left = self.left + MARGINS[0];
        canvas.text(self.title, TITLE, (left, 40.0), HPos::Left, INK)?;
        let validation = (self.best)(&self.validation).map_or("validation".into(), self.described);
        for (look, name) in [(Look::Training, "training"), (Look::Validation, &validation)] {
            look.curve(canvas, &[(left, 84.0), (left + 40.0, 84.0)])?;
            look.marker(canvas, (left + 20.0, 84.0))?;
            let name = canvas.shortened(name, TEXT, self.left + PANEL[0] - left - 60.0)?;
            canvas.text(&name, TEXT, (left + 52.0, 84.0), HPos::Left, INK)?;
            left += 52.0 + canvas.width(&name, TEXT)? + 36.0;
        }
        Ok(())
    }
}

/// Lines at the ticks of a vertical axis, with their labels, and the horizontal axis below them.
pub(super) fn draw_levels(canvas: &Canvas, x: &Axis, y: &Axis, unit: &str) -> Drawn {
    for &tick in &y.ticks {
        let height = y.place(tick);
        canvas.line(&[(x.ends[0], height), (x.ends[1], height)], GRID, 1.5)?;
        let label = format!("{tick:.*}{unit}", y.decimals);
        canvas.text(&label, TEXT, (x.ends[0] - 14.0, height), HPos::Right, GREY)?;
    }
    canvas.line(&[(x.ends[0], y.ends[0]), (x.ends[1], y.ends[0])], GREY, 1.5)
}

/// What a curve looks like: shape tells the two apart as colour does.
#[derive(Clone, Copy)]
enum Look {
    Training,
    Validation,
}

impl Look {
    fn colour(self) -> RGBColor {
        match self {
            Look::Training => BLUE,
            Look::Validation => VERMILLION,
        }
    }

    fn curve(self, canvas: &Canvas, points: &[Point]) -> Drawn {
        canvas.line(points, self.colour(), 3.0)
    }

    fn marker(self, canvas: &Canvas, (x, y): Point) -> Drawn {
        match self {
            Look::Training => canvas.disc((x, y), 6.0, self.colour()),
            Look::Validation => canvas.rectangle([x - 5.5, y - 5.5], [11.0, 11.0], self.colour()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: usize, loss: f64, accuracy: f64) -> EpochMetrics {
        let (train_loss, train_accuracy) = (loss * 1.2, accuracy * 0.99);
        EpochMetrics {
            epoch,
            train_loss,
            train_accuracy,
            train_eval_loss: None,
            train_eval_accuracy: None,
            val_loss: Some(loss),
            val_accuracy: Some(accuracy),
            seconds: 1.0,
            data_wait: 0.0,
            process_wait: None,
            images_per_second: None,
            lr: None,
            grad_norm: None,
        }
    }

    #[test]
    fn any_metrics_are_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curves.png");
        for metrics in [
            vec![],
            vec![epoch(1, 0.1, 0.98)],
            vec![epoch(1, f64::NAN, 0.1), epoch(2, f64::INFINITY, 0.0)],
            vec![epoch(1, 1e300, 1.0), epoch(usize::MAX, -1e300, 1.0)],
            vec![epoch(1, 1e-300, 1e300), epoch(2, 0.0, -5.0)],
        ] {
            curves(&path, &metrics).unwrap();
        }
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
    }
}
