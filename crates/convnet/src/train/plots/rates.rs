//! `find-lr.png`: the loss over learning rates, on a logarithmic axis.

use std::path::Path;

use plotters::style::text_anchor::HPos;

use super::curves::draw_levels;
use crate::Result;
use crate::axis::Axis;
use crate::canvas::{BLUE, Canvas, Drawn, GREY, INK, VERMILLION, write_png};
use crate::train::RateSearch;

const SIZE: [f64; 2] = [1000.0, 640.0];
/// Space around the plot itself: left, top, right, bottom.
const MARGINS: [f64; 4] = [104.0, 130.0, 36.0, 90.0];
const TITLE: f64 = 34.0;
const TEXT: f64 = 24.0;

/// Draws the losses of the batches and the smoothed ones over the rates, with the suggested rate, 1000×640. What is beyond twice the
/// first loss is left out.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the file cannot be written.
pub fn rates(path: &Path, search: &RateSearch) -> Result<()> {
    write_png(path, SIZE.map(|side| side as usize), |canvas| draw(canvas, search))
}

fn draw(canvas: &Canvas, search: &RateSearch) -> Drawn {
    let most = search.tried.first().map_or(1.0, |first| 2.0 * first.smoothed);
    let shown = || search.tried.iter().filter(|tried| tried.smoothed <= most);
    let losses = shown().flat_map(|tried| [tried.loss, tried.smoothed]).filter(|&loss| loss <= most);
    let y = Axis::of_values(losses, [SIZE[1] - MARGINS[3], MARGINS[1]], [0.0, most.max(1e-6)]);
    let x = Axis::of_powers(shown().map(|tried| tried.lr.log10()), [MARGINS[0], SIZE[0] - MARGINS[2]]);
    draw_levels(canvas, &x, &y, "")?;
    let floor = y.ends[0];
    for &tick in &x.ticks {
        canvas.line(&[(x.place(tick), floor), (x.place(tick), floor + 7.0)], GREY, 1.5)?;
        canvas.text(&format!("1e{tick:.0}"), TEXT, (x.place(tick), floor + 22.0), HPos::Center, GREY)?;
    }
    canvas.text("learning rate", TEXT, ((x.ends[0] + x.ends[1]) / 2.0, floor + 58.0), HPos::Center, INK)?;
    canvas.text("Loss over learning rates", TITLE, (MARGINS[0], 40.0), HPos::Left, INK)?;
    if let Some(lr) = search.suggestion {
        let at = x.place(lr.log10());
        canvas.line(&[(at, floor), (at, y.ends[1])], VERMILLION, 2.0)?;
        canvas.text(&format!("falls fastest at {lr:.1e}"), TEXT, (MARGINS[0], 84.0), HPos::Left, VERMILLION)?;
    }
    let points = |value: fn(&crate::train::TriedRate) -> f64| -> Vec<(f64, f64)> {
        let inside = shown().filter(|tried| value(tried) <= most);
        inside.map(|tried| (x.place(tried.lr.log10()), y.place(value(tried)))).collect()
    };
    points(|tried| tried.loss).into_iter().try_for_each(|point| canvas.disc(point, 3.0, GREY))?;
    canvas.line(&points(|tried| tried.smoothed), BLUE, 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::TriedRate;

    #[test]
    fn any_search_is_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("find-lr.png");
        let tried = |lr: f64, smoothed: f64| TriedRate { lr, loss: smoothed * 1.1, smoothed };
        let falling =
            (0..100).map(|i| tried(10f64.powf(f64::from(i) * 0.08 - 7.0), 2.3 - 0.02 * f64::from(i))).collect();
        for (tried, suggestion) in [
            (Vec::new(), None),
            (vec![tried(1e-7, 2.3)], None),
            (falling, Some(1e-3)),
            (vec![tried(1e-7, 0.0), tried(1.0, 1e300)], Some(1.0)),
        ] {
            rates(&path, &RateSearch { tried, suggestion }).unwrap();
            assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
        }
    }
}
