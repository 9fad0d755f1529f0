//! Loss and accuracy over the epochs of a run, as curves and as a table.

use super::chart::{Chart, Curve};
use super::page::{Section, percent, section};
use crate::axis::{LOSSES, PERCENT};
use crate::markup::{Markup, element, text};
use crate::train::{EpochMetrics, Plateau, Span, TrainConfig};

/// Rows of the table; of more epochs some are left out.
const ROWS: usize = 200;
/// Colours of training and of held-out pictures.
const TRAINING: usize = 0;
const HELD_OUT: usize = 1;

pub(super) fn curves(epochs: &[EpochMetrics], config: Option<&TrainConfig>) -> Option<Section> {
    let last = epochs.last()?;
    let percent = |share: f64| 100.0 * share;
    let curve = |name: &str, colour: usize, limits: [f64; 2], value: &dyn Fn(&EpochMetrics) -> f64| {
        Curve::new(name, colour, limits, epochs.iter().map(|epoch| (epoch.epoch, value(epoch))))
    };
    let pair = |limits, training: &dyn Fn(&EpochMetrics) -> f64, held_out: &dyn Fn(&EpochMetrics) -> f64| {
        let both = [curve("training", TRAINING, limits, training), curve("held-out", HELD_OUT, limits, held_out)];
        both.into_iter().filter(|curve| !curve.is_empty()).collect()
    };
    let or_nan = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let mut charts = vec![
        Chart {
            title: "Loss",
            unit: "",
            digits: 4,
            limits: LOSSES,
            curves: pair(LOSSES, &|m| m.train_loss, &|m| or_nan(m.val_loss)),
        },
        Chart {
            title: "Accuracy",
            unit: " %",
            digits: 2,
            limits: PERCENT,
            curves: pair(PERCENT, &|m| percent(m.accuracy_in_training()), &|m| percent(or_nan(m.val_accuracy))),
        },
    ];
    if let Some(config) = config.filter(|config| config.recipe.schedule != Default::default()) {
        charts.push(learning_rate(config, epochs));
    }
    let note = match last.train_eval_accuracy {
        Some(_) => {
            "Training loss is the mean over the pictures as the network learns from them, augmented, while its weights change. \
             Accuracy in training is that of a sample of them after the epoch, measured as that of the held-out pictures."
        }
        None => {
            "Training loss and accuracy are those of the pictures as the network learns from them, augmented, while its weights \
             change; held-out pictures are measured after the epoch."
        }
    };
    let drawn = element("div", &[("class", &"charts")], charts.iter().map(Chart::draw).sum()).line();
    Some(section("curves", "Training", note, drawn + table(epochs)))
}

/// The rate at the middle of each epoch, as a share of the one that is set.
fn learning_rate(config: &TrainConfig, epochs: &[EpochMetrics]) -> Chart {
    // A schedule looks at shares of the whole; so many steps an epoch are as fine as a curve can show.
    const STEPS: usize = 1000;
    let (schedule, span) = (&config.recipe.schedule, Span { epochs: config.recipe.epochs, epoch_steps: STEPS });
    let mut plateau = Plateau::default();
    let points = epochs.iter().map(|metrics| {
        let rate = 100.0 * schedule.factor(((metrics.epoch * 2 - 1) * STEPS / 2) as u64, span, plateau.reductions);
        metrics.val_loss.into_iter().for_each(|loss| plateau.add(loss, schedule.plateau_patience));
        (metrics.epoch, rate)
    });
    let title = format!("in the middle of the epoch, 100 % is {}", config.recipe.optimizer.lr);
    Chart {
        title: "Learning rate",
        unit: " %",
        digits: 1,
        limits: PERCENT,
        curves: vec![Curve::new(title, 2, PERCENT, points)],
    }
}

fn table(epochs: &[EpochMetrics]) -> Markup {
    let heading = |name: &str| element("th", &[("scope", &"col")], text(name));
    let names = ["epoch", "training loss", "accuracy", "held-out loss", "accuracy", "seconds"];
    let head = element("tr", &[], names.map(heading).into_iter().sum());
    let step = epochs.len().div_ceil(ROWS).max(1);
    let kept = epochs.iter().enumerate().filter(|(index, _)| index % step == 0 || index + 1 == epochs.len());
    let row = |(_, epoch): (usize, &EpochMetrics)| {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".into());
        let cells = [
            format!("{:.4}", epoch.train_loss),
            percent(epoch.accuracy_in_training(), 2),
            or_dash(epoch.val_loss.map(|loss| format!("{loss:.4}"))),
            or_dash(epoch.val_accuracy.map(|accuracy| percent(accuracy, 2))),
            format!("{:.1}", epoch.seconds),
        ];
        let cells: Markup = cells.into_iter().map(|cell| element("td", &[], text(cell))).sum();
        element("tr", &[], element("th", &[("scope", &"row")], text(epoch.epoch)) + cells).line()
    };
    let rows = kept.map(row).sum();
    let table = element("table", &[], element("thead", &[], head) + element("tbody", &[], rows));
    let summary = match step {
        1 => text("The epochs as a table"),
        _ => text(format!("Every {step}th of {} epochs as a table", epochs.len())),
    };
    let wide = element("div", &[("class", &"wide tall"), ("tabindex", &0)], table);
    element("details", &[], element("summary", &[], summary) + wide).line()
}
