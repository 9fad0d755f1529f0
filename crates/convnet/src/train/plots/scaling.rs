//! How a training scales: its efficiency over the number of machines, on a logarithmic axis.

use std::path::Path;

use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::curves::draw_levels;
use crate::Result;
use crate::axis::{Axis, PERCENT};
use crate::canvas::{BLUE, Canvas, Drawn, GREY, INK, VERMILLION, write_png};
use crate::distributed::ScaledStep;

const SIZE: [f64; 2] = [1000.0, 640.0];
/// Space around the plot itself: left, top, right, bottom.
const MARGINS: [f64; 4] = [104.0, 130.0, 36.0, 90.0];
const TITLE: f64 = 34.0;
const TEXT: f64 = 24.0;

/// Draws the efficiency of steps on several machines, with exchanges while backward goes on and after it, 1000×640. `one` is the time of one
/// machine's step, in seconds.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the file cannot be written.
pub fn scaling(path: &Path, title: &str, one: f64, steps: &[ScaledStep]) -> Result<()> {
    write_png(path, SIZE.map(|side| side as usize), |canvas| draw(canvas, title, one, steps))
}

fn draw(canvas: &Canvas, title: &str, one: f64, steps: &[ScaledStep]) -> Drawn {
    let y = Axis::of_values([0.0, 100.0].into_iter(), [SIZE[1] - MARGINS[3], MARGINS[1]], PERCENT);
    let logarithm = |step: &ScaledStep| (step.nodes as f64).log10();
    let x = Axis::of_powers(steps.iter().map(logarithm), [MARGINS[0], SIZE[0] - MARGINS[2]]);
    draw_levels(canvas, &x, &y, " %")?;
    let floor = y.ends[0];
    let mut last = f64::NEG_INFINITY;
    for step in steps {
        let at = x.place(logarithm(step));
        canvas.line(&[(at, floor), (at, floor + 7.0)], GREY, 1.5)?;
        // Numbers that would touch the one before are left out.
        if at - last > 60.0 {
            canvas.text(&step.nodes.to_string(), TEXT, (at, floor + 22.0), HPos::Center, GREY)?;
            last = at;
        }
    }
    canvas.text("machines", TEXT, ((x.ends[0] + x.ends[1]) / 2.0, floor + 58.0), HPos::Center, INK)?;
    canvas.text(title, TITLE, (MARGINS[0], 40.0), HPos::Left, INK)?;
    let line = |left: f64, name: &str, color: RGBColor, seconds: fn(&ScaledStep) -> f64| {
        let share = |step: &ScaledStep| 100.0 * one / seconds(step);
        let points: Vec<(f64, f64)> =
            steps.iter().map(|step| (x.place(logarithm(step)), y.place(share(step)))).collect();
        canvas.text(name, TEXT, (left, 84.0), HPos::Left, color)?;
        points.iter().try_for_each(|&point| canvas.disc(point, 5.0, color))?;
        canvas.line(&points, color, 3.0)
    };
    line(MARGINS[0], "exchange during backward", BLUE, |step| step.seconds)?;
    line(MARGINS[0] + 400.0, "exchange after it", VERMILLION, |step| step.sequential)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::{Link, StepProfile};

    #[test]
    fn any_steps_are_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scale.png");
        let profile =
            StepProfile { batch_size: 1, buckets: vec![(1 << 25, 0.2), (1 << 24, 0.3)], update: 0.01, add: 0.0 };
        let link = Link { bandwidth: 1.25e8, latency: 1e-4 };
        for nodes in [&[1][..], &[1, 2, 4, 1024], &[7]] {
            let steps: Vec<_> = nodes.iter().map(|&nodes| profile.on(nodes, link)).collect();
            scaling(&path, "a net", profile.seconds(), &steps).unwrap();
            assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
        }
    }
}
