//! `study.png`: errors over steps, thin in training and bold on held-out pictures, as in the notes' figure; sizes of gradients by layer.

use std::path::Path;

use plotters::style::text_anchor::HPos;

use super::{Panel, Record, RunRecord, Study, VariantRecord};
use crate::Result;
use crate::axis::{Axis, PERCENT};
use crate::canvas::{COLOURS, Canvas, Drawn, GREY, GRID, INK, write_png};

const PANEL: [f64; 2] = [800.0, 640.0];
/// Space around the plot itself within its panel: left, right, bottom.
const MARGINS: [f64; 3] = [104.0, 36.0, 90.0];
const TITLE: f64 = 34.0;
const TEXT: f64 = 24.0;
/// Room for the title, and for each row of the legend.
const TOP: f64 = 70.0;
const ROW: f64 = 34.0;
/// Widths of lines.
const THIN: f64 = 1.5;
const BOLD: f64 = 4.0;
/// The least gradient that is drawn; smaller ones lie on the axis.
const LEAST: f64 = 1e-12;

/// A value at a step or a layer.
type Point = (f64, f64);

/// A curve of a variant.
struct Curve {
    variant: usize,
    points: Vec<Point>,
    bold: bool,
}

/// A panel with what is in it.
struct Drawing<'a> {
    title: String,
    left: f64,
    /// Names of what has which colour.
    legend: Vec<(usize, &'a str)>,
    curves: Vec<Curve>,
    across: String,
    /// Names of layers below the axis, instead of numbers.
    layers: Vec<&'a str>,
    unit: &'static str,
}

/// Draws a study's plot. Where a variant has several seeds, the mean of those runs that have come so far.
///
/// # Errors
/// [`Error::Unknown`](crate::Error::Unknown) for the record of a study that this version does not have;
/// [`Error::Io`](crate::Error::Io) when the file cannot be written.
pub fn plot(path: &Path, record: &Record) -> Result<()> {
    let study = record.of()?;
    let panels: Vec<Drawing> =
        study.panels.iter().enumerate().map(|(index, panel)| drawing(panel, index, study, record)).collect();
    let rows = panels.iter().map(|panel| panel.legend.len().div_ceil(2)).max().unwrap_or(0);
    let top = TOP + rows as f64 * ROW + 20.0;
    let size = [panels.len() * PANEL[0] as usize, (PANEL[1] + rows as f64 * ROW) as usize];
    // One scale for all errors, so that panels can be compared.
    let errors = || panels.iter().filter(|panel| panel.layers.is_empty()).flat_map(|panel| &panel.curves);
    let shared: Vec<f64> = errors().flat_map(|curve| &curve.points).map(|point| point.1).collect();
    write_png(path, size, |canvas| {
        panels.iter().try_for_each(|panel| panel.draw(canvas, [top, size[1] as f64 - MARGINS[2]], &shared))
    })
}

fn drawing<'a>(panel: &Panel, index: usize, study: &'a Study, record: &'a Record) -> Drawing<'a> {
    let left = index as f64 * PANEL[0];
    match panel {
        Panel::Errors { title, variants } => {
            let shown = |variant: &VariantRecord| variants.is_empty() || variants.contains(&variant.name.as_str());
            let of = |name: &str| study.variants.iter().position(|variant| variant.name == name).unwrap_or_default();
            let of_panel = || record.variants.iter().filter(|variant| shown(variant));
            let curve = |variant: &VariantRecord, bold: bool| Curve {
                variant: of(&variant.name),
                points: mean(&variant.runs, if bold { |run| &run.test_error } else { |run| &run.train_error }),
                bold,
            };
            Drawing {
                title: (*title).to_owned(),
                left,
                legend: of_panel().map(|variant| (of(&variant.name), variant.name.as_str())).collect(),
                // The bold ones on top.
                curves: [false, true].into_iter().flat_map(|bold| of_panel().map(move |v| curve(v, bold))).collect(),
                across: format!("steps; thin: training, bold: {}", record.part),
                layers: Vec::new(),
                unit: " %",
            }
        }
        Panel::Gradients { title } => {
            let first = |variant: &'a VariantRecord| variant.runs.iter().find(|run| !run.gradients.is_empty());
            let layers = record.variants.iter().find_map(first);
            let of = |(index, variant): (usize, &'a VariantRecord)| {
                let run = first(variant)?;
                let size = |(i, gradient): (usize, &super::LayerGradient)| {
                    (i as f64 + 1.0, gradient.before.max(LEAST).log10())
                };
                Some(Curve { variant: index, points: run.gradients.iter().enumerate().map(size).collect(), bold: true })
            };
            Drawing {
                title: format!("{title}, before training"),
                left,
                legend: record.variants.iter().enumerate().map(|(i, variant)| (i, variant.name.as_str())).collect(),
                curves: record.variants.iter().enumerate().filter_map(of).collect(),
                across: "layer".to_owned(),
                layers: layers.map_or_else(
                    || vec![""],
                    |run| run.gradients.iter().map(|gradient| gradient.layer.as_str()).collect(),
                ),
                unit: "",
            }
        }
    }
}

/// The mean of some runs after each epoch that at least one has reached.
fn mean(runs: &[RunRecord], of: fn(&RunRecord) -> &Vec<f64>) -> Vec<Point> {
    let longest = runs.iter().map(|run| of(run).len()).max().unwrap_or(0);
    let point = |epoch: usize| {
        let values: Vec<f64> = runs.iter().filter_map(|run| of(run).get(epoch).copied()).collect();
        let step = runs.first().map_or(0, |run| run.epoch_steps) * (epoch as u64 + 1);
        (step as f64, values.iter().sum::<f64>() / values.len() as f64)
    };
    (0..longest).map(point).collect()
}

impl Drawing<'_> {
    fn draw(&self, canvas: &Canvas, [top, floor]: [f64; 2], shared: &[f64]) -> Drawn {
        let [left, right] = [self.left + MARGINS[0], self.left + PANEL[0] - MARGINS[1]];
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = Axis::of_epochs(points().map(|point| point.0), [left, right]);
        let y = match self.layers.is_empty() {
            true => Axis::of_values(shared.iter().copied(), [floor, top], PERCENT),
            false => Axis::of_powers(points().map(|point| point.1), [floor, top]),
        };
        self.draw_axes(canvas, &x, &y)?;
        self.draw_legend(canvas)?;
        for curve in &self.curves {
            let colour = COLOURS[curve.variant % COLOURS.len()];
            let places: Vec<Point> = curve.points.iter().map(|point| (x.place(point.0), y.place(point.1))).collect();
            canvas.line(&places, colour, if curve.bold { BOLD } else { THIN })?;
            if curve.points.len() == 1 || !self.layers.is_empty() {
                places.iter().try_for_each(|&place| canvas.disc(place, 5.0, colour))?;
            }
        }
        Ok(())
    }

    fn draw_axes(&self, canvas: &Canvas, x: &Axis, y: &Axis) -> Drawn {
        let floor = y.ends[0];
        for &tick in &y.ticks {
            canvas.line(&[(x.ends[0], y.place(tick)), (x.ends[1], y.place(tick))], GRID, 1.5)?;
            let label = match self.layers.is_empty() {
                true => format!("{tick:.*}{}", y.decimals, self.unit),
                false => format!("1e{tick:.0}"),
            };
            canvas.text(&label, TEXT, (x.ends[0] - 14.0, y.place(tick)), HPos::Right, GREY)?;
        }
        canvas.line(&[(x.ends[0], floor), (x.ends[1], floor)], GREY, 1.5)?;
        for &tick in &x.ticks {
            let at = x.place(tick);
            canvas.line(&[(at, floor), (at, floor + 7.0)], GREY, 1.5)?;
            let label = match self.layers.get((tick as usize).wrapping_sub(1)) {
                Some(layer) => (*layer).to_owned(),
                None => crate::columns::thousands(tick as u64),
            };
            canvas.text(&label, TEXT - 4.0, (at, floor + 22.0), HPos::Center, GREY)?;
        }
        canvas.text(&self.across, TEXT, ((x.ends[0] + x.ends[1]) / 2.0, floor + 58.0), HPos::Center, INK)
    }

    /// Title, and below it the names, two in a row.
    fn draw_legend(&self, canvas: &Canvas) -> Drawn {
        let left = self.left + MARGINS[0];
        let room = PANEL[0] - MARGINS[0] - MARGINS[1];
        let title = canvas.shortened(&self.title, TITLE, room)?;
        canvas.text(&title, TITLE, (left, 40.0), HPos::Left, INK)?;
        for (place, &(variant, name)) in self.legend.iter().enumerate() {
            let at = (left + (place % 2) as f64 * room / 2.0, TOP + 14.0 + (place / 2) as f64 * ROW);
            canvas.line(&[at, (at.0 + 40.0, at.1)], COLOURS[variant % COLOURS.len()], BOLD)?;
            let name = canvas.shortened(name, TEXT, room / 2.0 - 60.0)?;
            canvas.text(&name, TEXT, (at.0 + 52.0, at.1), HPos::Left, INK)?;
        }
        Ok(())
    }
}
