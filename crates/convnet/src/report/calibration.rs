//! The reliability diagram: for each bin of confidence, the share of right guesses, beside what it would be were the network
//! as sure as it is right.

use super::chart::{axes, label, line};
use super::page::{Section, percent, section};
use crate::axis::{Axis, PERCENT};
use crate::columns::{counted, thousands};
use crate::evaluate::{Calibration, CalibrationBin};
use crate::markup::{Markup, element, shape, text};

const SIZE: [f64; 2] = [440.0, 400.0];
/// Space around the plot itself: left, top, right, bottom.
const MARGINS: [f64; 4] = [52.0, 10.0, 12.0, 124.0];
/// Height of the largest count below the plot.
const COUNTS: f64 = 52.0;

pub(super) fn calibration(calibration: &Calibration, accuracy: f64) -> Section {
    let surplus = calibration.confidence - accuracy;
    let how = match surplus {
        _ if surplus.abs() < 0.005 => "about as sure as it is right",
        _ if surplus > 0.0 => "too sure of itself",
        _ => "less sure than it could be",
    };
    let note = format!(
        "Expected calibration error {} (15 bins). On average the first guess has a probability of {} and is right for {} of the \
         pictures: the network is {how}.",
        percent(calibration.expected_error, 2),
        percent(calibration.confidence, 2),
        percent(accuracy, 2),
    );
    let content = element("div", &[("class", &"charts")], figure(calibration) + table(&calibration.bins));
    section("calibration", "Calibration", &note, content)
}

fn figure(calibration: &Calibration) -> Markup {
    let whole = [0.0, 100.0];
    let x = Axis::of_values(whole.into_iter(), [MARGINS[0], SIZE[0] - MARGINS[2]], PERCENT);
    let y = Axis::of_values(whole.into_iter(), [SIZE[1] - MARGINS[3], MARGINS[1]], PERCENT);
    let most = calibration.bins.iter().map(|bin| bin.images).max().unwrap_or(0).max(1) as f64;
    let bars = calibration.bins.iter().filter(|bin| bin.images > 0).map(|bin| bars(bin, most, &x, &y));
    let corners = [x.ends, y.ends].map(|ends| ends.map(|end| format!("{end:.1}")));
    let [across, up] = corners;
    let plot = axes(&x, &y, " %", "probability of the first guess, %")
        + bars.sum()
        + line("ideal", across, up)
        + label("pictures in each bin".into(), [SIZE[0] / 2.0 + 20.0, SIZE[1] - 5.0], "middle");
    let view = format!("0 0 {} {}", SIZE[0], SIZE[1]);
    let name = "Reliability diagram: share of right guesses over the probability of the first guess, in 15 bins";
    let svg = element(
        "svg",
        &[("viewBox", &view), ("role", &"img"), ("aria-label", &name)],
        element("title", &[], text(name)) + plot,
    );
    let legend =
        "Bars: share of right guesses. Marks: mean probability. A bar below its mark is a network too sure of itself.";
    element("figure", &[], svg + element("figcaption", &[("class", &"note")], text(legend))).line()
}

fn bars(bin: &CalibrationBin, most: f64, x: &Axis, y: &Axis) -> Markup {
    let place = |axis: &Axis, share: f64| axis.place(100.0 * share);
    let (left, right) = (place(x, bin.from) + 1.0, place(x, bin.to) - 1.0);
    let rectangle = |class: &str, top: f64, bottom: f64| {
        let [x, y, width, height] = [left, top, right - left, (bottom - top).max(0.0)].map(|n| format!("{n:.1}"));
        shape("rect", &[("class", &class), ("x", &x), ("y", &y), ("width", &width), ("height", &height)])
    };
    let [accuracy, confidence] = [bin.accuracy, bin.confidence].map(|share| place(y, share));
    let foot = SIZE[1] - 22.0;
    let title = format!(
        "{} to {}: {}, {} right, mean probability {}",
        percent(bin.from, 1),
        percent(bin.to, 1),
        counted(bin.images as usize, "picture"),
        percent(bin.accuracy, 1),
        percent(bin.confidence, 1)
    );
    let shapes = rectangle("bar", accuracy, y.ends[0])
        + rectangle("mean", confidence - 1.75, confidence + 1.75)
        + rectangle("count", foot - (COUNTS * bin.images as f64 / most).max(1.0), foot);
    element("g", &[], element("title", &[], text(title)) + shapes)
}

/// The same numbers for those who cannot see the diagram, or want them exactly.
fn table(bins: &[CalibrationBin]) -> Markup {
    let heading = |name: &str| element("th", &[("scope", &"col")], text(name));
    let head = ["probability", "pictures", "right", "mean probability"].map(heading).into_iter().sum();
    let row = |bin: &CalibrationBin| {
        let range = format!("{} to {}", percent(bin.from, 1), percent(bin.to, 1));
        let cells = [thousands(bin.images), percent(bin.accuracy, 2), percent(bin.confidence, 2)];
        let cells: Markup = cells.into_iter().map(|cell| element("td", &[], text(cell))).sum();
        element("tr", &[], element("th", &[("scope", &"row"), ("class", &"name range")], text(range)) + cells).line()
    };
    let rows = bins.iter().filter(|bin| bin.images > 0).map(row).sum();
    let table = element("thead", &[], element("tr", &[], head)) + element("tbody", &[], rows);
    element("div", &[("class", &"wide")], element("table", &[], table)).line()
}
