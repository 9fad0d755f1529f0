//! Curves over epochs as SVG that scales with the page: its colours are those of the page's style, for a light and for a dark
//! ground.

use crate::axis::Axis;
use crate::markup::{Markup, element, shape, text};

const SIZE: [f64; 2] = [440.0, 270.0];
/// Space around the plot itself: left, top, right, bottom.
const MARGINS: [f64; 4] = [52.0, 10.0, 12.0, 44.0];
/// With more points than this they are drawn without markers.
const MARKED: usize = 40;
/// Most points of a curve; of more, some are left out.
const MOST_POINTS: usize = 1000;
/// Colours that the style has.
const COLOURS: usize = 8;

/// A plot of some curves.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    /// Digits after the point of a value in words.
    pub(crate) digits: usize,
    /// What the axis never leaves.
    pub(crate) limits: [f64; 2],
    pub(crate) curves: Vec<Curve>,
}

/// Values over epochs. Those that are not finite are left out.
pub(crate) struct Curve {
    pub(crate) name: String,
    /// Which of the style's colours it has.
    pub(crate) colour: usize,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Curve {
    /// A curve of what can be drawn of these values.
    pub(crate) fn new(
        name: impl Into<String>,
        colour: usize,
        [low, high]: [f64; 2],
        points: impl Iterator<Item = (usize, f64)>,
    ) -> Curve {
        let points = points.filter(|(_, value)| value.is_finite());
        let points = points.map(|(epoch, value)| (epoch as f64, value.clamp(low, high))).collect();
        Curve { name: name.into(), colour: colour % COLOURS, points }
    }

    /// Whether there is nothing to draw.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Every so many points and the last.
    fn drawn(&self) -> Vec<(f64, f64)> {
        let step = self.points.len().div_ceil(MOST_POINTS).max(1);
        let last = self.points.len().saturating_sub(1);
        let kept = self.points.iter().enumerate().filter(|(index, _)| index % step == 0 || *index == last);
        kept.map(|(_, &point)| point).collect()
    }
}

impl Chart {
    /// The figure: title, legend and drawing. Nothing where no curve has points.
    pub(crate) fn draw(&self) -> Markup {
        if self.curves.iter().all(Curve::is_empty) {
            return Markup::default();
        }
        let entry = |curve: &Curve| element("li", &[], swatch(curve.colour) + text(&curve.name));
        let legend = element("ul", &[("class", &"legend")], self.curves.iter().map(entry).sum());
        let view = format!("0 0 {} {}", SIZE[0], SIZE[1]);
        let label = self.described();
        let attributes: [(&str, &dyn std::fmt::Display); 3] =
            [("viewBox", &view), ("role", &"img"), ("aria-label", &label)];
        let svg = element("svg", &attributes, element("title", &[], text(&label)) + self.plot());
        element("figure", &[], element("h3", &[], text(self.title)) + legend + svg.line()).line()
    }

    /// What there is to see, in words.
    fn described(&self) -> String {
        let last = |curve: &Curve| {
            let (epoch, value) = curve.points.last()?;
            Some(format!("{} {value:.*}{} in epoch {epoch}", curve.name, self.digits, self.unit))
        };
        let curves: Vec<String> = self.curves.iter().filter_map(last).collect();
        format!("{} over the epochs. Last: {}", self.title, curves.join("; "))
    }

    fn plot(&self) -> Markup {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = Axis::of_epochs(points().map(|p| p.0), [MARGINS[0], SIZE[0] - MARGINS[2]]);
        let y = Axis::of_values(points().map(|p| p.1), [SIZE[1] - MARGINS[3], MARGINS[1]], self.limits);
        axes(&x, &y, self.unit, "epoch") + self.curves.iter().map(|curve| self.curve(curve, &x, &y)).sum()
    }

    fn curve(&self, curve: &Curve, x: &Axis, y: &Axis) -> Markup {
        let drawn = curve.drawn();
        let places: Vec<String> =
            drawn.iter().map(|&(epoch, value)| format!("{:.1},{:.1}", x.place(epoch), y.place(value))).collect();
        let class = format!("curve s{}", curve.colour);
        let line = shape("polyline", &[("class", &class), ("points", &places.join(" "))]);
        if drawn.len() > MARKED {
            return line;
        }
        let marker = |&(epoch, value): &(f64, f64)| {
            let name = format!("{}, epoch {epoch}: {value:.*}{}", curve.name, self.digits, self.unit);
            marker(curve.colour, x.place(epoch), y.place(value), element("title", &[], text(name)))
        };
        line + drawn.iter().map(marker).sum()
    }
}

/// A point of a curve: shape tells neighbouring colours apart, too.
fn marker(colour: usize, x: f64, y: f64, title: Markup) -> Markup {
    let (class, x, y) = (format!("f{colour}"), format!("{x:.1}"), format!("{y:.1}"));
    match colour % 2 {
        0 => element("circle", &[("class", &class), ("cx", &x), ("cy", &y), ("r", &3.4)], title),
        _ => {
            let points = format!("translate({x} {y})");
            let square = [("x", -3.1), ("y", -3.1), ("width", 6.2), ("height", 6.2)];
            let mut attributes: Vec<crate::markup::Attribute> = vec![("class", &class), ("transform", &points)];
            attributes.extend(square.iter().map(|(name, value)| (*name, value as &dyn std::fmt::Display)));
            element("rect", &attributes, title)
        }
    }
}

/// A piece of a curve for the legend.
fn swatch(colour: usize) -> Markup {
    let class = format!("curve s{colour}");
    let line = shape("polyline", &[("class", &class), ("points", &"0,6 26,6")]);
    element(
        "svg",
        &[("viewBox", &"0 0 26 12"), ("aria-hidden", &"true")],
        line + marker(colour, 13.0, 6.0, Markup::default()),
    )
}

/// Grid, ticks and their labels. Axes begin at the left and at the bottom.
pub(super) fn axes(x: &Axis, y: &Axis, unit: &str, name: &str) -> Markup {
    let ([left, right], floor) = (x.ends, y.ends[0]);
    let mut markup = Markup::default();
    for &tick in &y.ticks {
        let height = format!("{:.1}", y.place(tick));
        markup += line("grid", [left, right].map(|x| format!("{x:.1}")), [height.clone(), height]);
        markup += label(format!("{tick:.*}{unit}", y.decimals), [left - 7.0, y.place(tick) + 4.2], "end");
    }
    markup += line("axis", [left, right].map(|x| format!("{x:.1}")), [floor, floor].map(|y| format!("{y:.1}")));
    for &tick in &x.ticks {
        let place = format!("{:.1}", x.place(tick));
        markup += line("axis", [place.clone(), place], [floor, floor + 4.0].map(|y| format!("{y:.1}")));
        markup += label(format!("{tick:.*}", x.decimals), [x.place(tick), floor + 18.0], "middle");
    }
    markup + label(name.into(), [(left + right) / 2.0, floor + 37.0], "middle")
}

pub(super) fn line(class: &str, x: [String; 2], y: [String; 2]) -> Markup {
    shape("line", &[("class", &class), ("x1", &x[0]), ("x2", &x[1]), ("y1", &y[0]), ("y2", &y[1])])
}

pub(super) fn label(content: String, [x, y]: [f64; 2], anchor: &str) -> Markup {
    element("text", &[("x", &format!("{x:.1}")), ("y", &format!("{y:.1}")), ("text-anchor", &anchor)], text(content))
}
