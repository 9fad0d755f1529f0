//! What stands on a terminal while a run is trained: how far it is, its rate and time left, the loss of its steps and the
//! accuracy of its epochs as curves of small blocks, in three lines that fit the terminal.
//!
//! ```text
//! epoch 3/10  ━━━━━━━━━━───────────  43 %  12,345 images/s  0:41 left
//! loss        █▆▄▃▂▂▁▁▁▁▁▁▁ 0.1234   learning rate 1.0e-3
//! accuracy    train ▁▅▇█ 97.12 %   val ▁▅▇█ 96.50 %
//! ```

use std::time::Duration;

use convnet::columns::{thousands, width};

/// From low to high.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Widest curve and bar.
const WIDEST: usize = 40;
/// Narrowest curve and bar that are worth drawing.
const NARROWEST: usize = 4;
/// Points of the loss that are kept.
const POINTS: usize = 1024;
/// Columns before the curves.
const LABEL: usize = 12;

/// Means of more and more steps as there are more of them, so that memory stays the same.
#[derive(Debug)]
pub(super) struct History {
    means: Vec<f64>,
    /// Steps in each of them.
    each: usize,
    /// Of the steps since the last: sum and number.
    open: (f64, usize),
}

impl Default for History {
    fn default() -> History {
        History { means: Vec::new(), each: 1, open: (0.0, 0) }
    }
}

impl History {
    pub(super) fn add(&mut self, value: f64) {
        self.open = (self.open.0 + value, self.open.1 + 1);
        if self.open.1 < self.each {
            return;
        }
        self.means.push(self.open.0 / self.each as f64);
        self.open = (0.0, 0);
        if self.means.len() == POINTS {
            self.means = self.means.chunks(2).map(|two| two.iter().sum::<f64>() / two.len() as f64).collect();
            self.each *= 2;
        }
    }
}

/// What is known of the run.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The running epoch, from 1, and how many there are to be.
    pub(super) epoch: [usize; 2],
    pub(super) losses: History,
    /// Of the last step.
    pub(super) loss: f64,
    pub(super) learning_rate: f64,
    /// Accuracies of the epochs in training, and on the part that is watched.
    pub(super) accuracies: [Vec<f64>; 2],
    /// What that part is called.
    pub(super) part: &'static str,
    /// What is done now, where it is not training.
    pub(super) doing: Option<String>,
}

impl View {
    /// The first line. Where there is no room for all of it, the rate is left out, then the bar, then the time that is left.
    pub(super) fn place(&self, share: f64, images_per_second: f64, left: Duration, columns: usize) -> String {
        let [epoch, epochs] = self.epoch;
        let label = format!("{:<LABEL$}", format!("epoch {epoch}/{epochs}"));
        let percent = format!("  {:>3.0} %", (100.0 * share).floor());
        let rate = match &self.doing {
            Some(doing) => format!("  {doing}"),
            None => format!("  {} images/s", thousands(images_per_second as u64)),
        };
        let left = format!("  {} left", clock(left));
        let whole = percent.clone() + &rate + &left;
        let room = |after: &str| columns.saturating_sub(width(&label) + width(after));
        let after = if room(&whole) >= NARROWEST { whole } else { percent + &left };
        let bar = room(&after).min(WIDEST);
        if bar < NARROWEST {
            return cut(format!("{}{after}", label.trim_end()), columns);
        }
        let full = (share.clamp(0.0, 1.0) * bar as f64) as usize;
        format!("{label}{}{}{after}", "━".repeat(full), "─".repeat(bar - full))
    }

    /// The second line.
    pub(super) fn loss_line(&self, columns: usize) -> String {
        let loss = format!(" {:.4}", self.loss);
        let rate = format!("   learning rate {:.1e}", self.learning_rate);
        let short = format!("   lr {:.1e}", self.learning_rate);
        let room = |rate: &str| columns.saturating_sub(LABEL + loss.len() + rate.len());
        let rate = if room(&rate) >= 2 * NARROWEST { rate } else { short };
        let curve = curve(&self.losses.means, room(&rate).min(WIDEST));
        cut(format!("{:<LABEL$}{curve}{loss}{rate}", "loss"), columns)
    }

    /// The third line.
    pub(super) fn accuracy_line(&self, columns: usize) -> String {
        let [train, watched] = &self.accuracies;
        let label = format!("{:<LABEL$}", "accuracy");
        if train.is_empty() {
            return cut(label + "after each epoch", columns);
        }
        let figure = |name: &str, values: &[f64]| {
            let last = values.last().copied().filter(|last| last.is_finite())?;
            Some((format!("{name} "), values.to_vec(), format!(" {:.2} %", 100.0 * last)))
        };
        let parts: Vec<_> = [figure("train", train), figure(self.part, watched)].into_iter().flatten().collect();
        let line = |parts: &[(String, Vec<f64>, String)]| {
            let fixed: usize = parts.iter().map(|(name, _, last)| name.len() + last.len()).sum();
            let gaps = 3 * parts.len().saturating_sub(1);
            let room = columns.saturating_sub(LABEL + fixed + gaps) / parts.len().max(1);
            let room = if room < NARROWEST { 0 } else { room.min(WIDEST / 2) };
            let part = |(name, values, last): &(String, Vec<f64>, String)| {
                format!("{name}{}{last}", curve(values, room)).replace("  ", " ")
            };
            label.clone() + &parts.iter().map(part).collect::<Vec<_>>().join("   ")
        };
        let whole = line(&parts);
        if width(&whole) <= columns {
            return whole;
        }
        // Of two that do not fit, the one that counts.
        cut(line(&parts[parts.len().saturating_sub(1)..]), columns)
    }
}

/// So many blocks of as many means of the values, or fewer where there are fewer values.
fn curve(values: &[f64], columns: usize) -> String {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let count = columns.min(values.len());
    let block = |i: usize| {
        let part = &values[i * values.len() / count..(i + 1) * values.len() / count];
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        let height = if high > low { (mean - low) / (high - low) } else { 0.0 };
        if mean.is_finite() { BLOCKS[((height * 8.0) as usize).min(7)] } else { ' ' }
    };
    (0..count).map(block).collect()
}

/// `0:41`, `12:05`, `3:07:00`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours if hours < 1000 => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
        _ => "long".to_owned(),
    }
}

/// As much of a line as fits.
fn cut(text: String, columns: usize) -> String {
    if width(&text) <= columns {
        return text;
    }
    let mut used = 0;
    let fits = |letter: &char| {
        used += width(letter.encode_utf8(&mut [0; 4]));
        used < columns
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let mut view = View { epoch: [3, 10], loss: 0.1234, learning_rate: 1e-3, part: "val", ..View::default() };
        (0..100).for_each(|step| view.losses.add(2.0 / f64::from(1 + step)));
        view.accuracies = [vec![0.5, 0.9, 0.9712], vec![0.4, 0.8, 0.965]];
        view
    }

    fn lines(view: &View, columns: usize) -> [String; 3] {
        let place = view.place(0.435, 12_345.6, Duration::from_secs(41), columns);
        [place, view.loss_line(columns), view.accuracy_line(columns)]
    }

    #[test]
    fn lines_say_everything_where_there_is_room() {
        let [place, loss, accuracy] = lines(&view(), 80);
        assert!(
            place.starts_with("epoch 3/10  ━") && place.ends_with("─   43 %  12,345 images/s  0:41 left"),
            "{place}"
        );
        assert!(loss.starts_with("loss        ▆▃▂") && loss.ends_with("▁ 0.1234   learning rate 1.0e-3"), "{loss}");
        assert_eq!(accuracy, "accuracy    train ▁▇█ 97.12 %   val ▁▆█ 96.50 %");
    }

    #[test]
    fn lines_fit_any_terminal() {
        let mut view = view();
        for columns in 0..130 {
            for line in lines(&view, columns) {
                assert!(width(&line) <= columns.max(1), "{columns}: {line}");
            }
        }
        assert_eq!(lines(&view, 40)[0], "epoch 3/10  ━━━━──────   43 %  0:41 left");
        assert_eq!(lines(&view, 30)[2], "accuracy    val ▁▆█ 96.50 %");
        view.doing = Some("evaluating 1,000/10,000".into());
        assert!(lines(&view, 80)[0].contains("  evaluating 1,000/10,000  0:41 left"));
        view.losses.add(f64::NAN);
        view.accuracies = [vec![f64::NAN], vec![]];
        lines(&view, 80);
        assert_eq!(lines(&View::default(), 80)[2], "accuracy    after each epoch");
    }

    #[test]
    fn a_long_history_stays_small_and_keeps_its_shape() {
        let mut history = History::default();
        (0..100_000).for_each(|step| history.add(f64::from(step)));
        assert!(history.means.len() < POINTS && history.means.is_sorted());
        assert_eq!(curve(&history.means, 8), "▁▂▃▄▅▆▇█");
        assert_eq!((curve(&[1.0; 3], 8), curve(&[], 8)), ("▁▁▁".to_owned(), String::new()));
    }

    #[test]
    fn times_are_read_at_a_glance() {
        let text = |seconds| clock(Duration::from_secs(seconds));
        assert_eq!([text(0), text(41), text(725), text(11_220)], ["0:00", "0:41", "12:05", "3:07:00"]);
        assert_eq!(text(u64::MAX), "long");
    }
}
