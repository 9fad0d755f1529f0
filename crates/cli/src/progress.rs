//! Progress on stderr: bars and curves on a terminal, lines elsewhere.

mod screen;
mod view;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use convnet::columns::{bytes, counted, thousands};
use convnet::data::download;
use convnet::net::Node;
use convnet::train::{EpochMetrics, Observer, Progress, Recipe, Trainer, read_metrics};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::console::Console;
use crate::interrupt;
use screen::Screen;
use view::View;

const TRAINING_TEMPLATE: &str = "{place}\n{loss}\n{accuracy}";
const PICTURES_TEMPLATE: &str = "{prefix} {bar:24} {pos}/{len} pictures, {images_per_second} images/s, {eta} left";
const DOWNLOAD_TEMPLATE: &str = "{prefix} {bar:24} {percent:>3} %, {bytes_per_second}/s, {eta} left";
const DRAWN_PER_SECOND: u8 = 10;
/// Without a bar, a line tells of a long epoch this often.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Accuracy by which a network is worse after an epoch than during it where its running statistics lag behind.
const LAG: f64 = 0.1;

/// Share of an epoch's time that is worth telling when it is spent waiting for pictures.
const TOLD_WAIT: f64 = 0.05;
/// And so many seconds of it: the first batch of a short epoch is always waited for.
const TOLD_SECONDS: f64 = 1.0;
/// Damaged pictures that are named after an epoch.
const TOLD_DAMAGED: usize = 10;

/// Tells of a run while it is trained.
pub(crate) struct Narrator<'a> {
    console: &'a Console,
    bar: ProgressBar,
    view: Arc<Mutex<View>>,
    recipe: Recipe,
    epochs: usize,
    /// What the net is measured on.
    part: &'static str,
    /// Pictures in an epoch: to train on, and to measure with.
    images: [usize; 2],
    /// Pictures that had been trained on before.
    before: usize,
    last_line: Instant,
    /// Whether the network has running statistics that are used as they are, and nothing was said of them yet.
    may_lag: bool,
    /// Whether it was said that statistics are taken anew.
    told_lag: bool,
    stopping: bool,
}

impl<'a> Narrator<'a> {
    pub(crate) fn new(console: &'a Console, trainer: &Trainer) -> Narrator<'a> {
        let recipe = trainer.recipe();
        let watched = trainer.watched();
        let images = [trainer.train_data().len(), watched.map_or(0, |(_, data)| data.len())];
        let before = seen(trainer.progress(), images[0]);
        let limit = recipe.max_steps.unwrap_or(u64::MAX).saturating_sub(trainer.progress().step);
        let limit = limit.saturating_mul(recipe.batch_size as u64);
        let all = recipe.epochs.saturating_mul(images[0]).saturating_sub(before);
        let part = watched.map_or("", |(part, _)| part.name());
        let mut view = View { epoch: [trainer.progress().epoch + 1, recipe.epochs], part, ..View::default() };
        let earlier = trainer.saved().and_then(|(run, _)| read_metrics(&run.metrics_jsonl()).ok());
        earlier.iter().flatten().for_each(|epoch| add_accuracies(&mut view, epoch));
        let view = Arc::new(Mutex::new(view));
        let bar = training_bar(console, limit.min(all as u64), &view);
        let has_statistics = |node: &Node| node.op.has_running_statistics();
        let may_lag = recipe.precise_bn == Some(0) && trainer.description().net().nodes().iter().any(has_statistics);
        Narrator {
            console,
            bar,
            view,
            recipe: recipe.clone(),
            epochs: recipe.epochs,
            part,
            images,
            before,
            last_line: Instant::now(),
            may_lag,
            told_lag: false,
            stopping: false,
        }
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| self.console.note(line));
    }

    fn change(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The last points of the curves.
fn add_accuracies(view: &mut View, metrics: &EpochMetrics) {
    view.accuracies[0].push(metrics.accuracy_in_training());
    view.accuracies[1].push(metrics.val_accuracy.unwrap_or(f64::NAN));
}

/// Columns of the terminal, but for the last, after which some begin a new line.
fn columns() -> usize {
    usize::from(screen::size()[0]).saturating_sub(1)
}

/// The three lines of a training; their width is that of the terminal whenever they are drawn.
fn training_bar(console: &Console, length: u64, view: &Arc<Mutex<View>>) -> ProgressBar {
    let line = |draw: fn(&View, &ProgressState) -> String| {
        let view = Arc::clone(view);
        move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&draw(&view.lock().unwrap_or_else(PoisonError::into_inner), state));
        }
    };
    let place = line(|view, state| view.place(f64::from(state.fraction()), state.per_sec(), state.eta(), columns()));
    let style = ProgressStyle::with_template(TRAINING_TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("place", place);
    let style = style.with_key("loss", line(|view, _| view.loss_line(columns())));
    shown(console, length, style.with_key("accuracy", line(|view, _| view.accuracy_line(columns()))))
}

/// Pictures trained on since the run began.
fn seen(progress: &Progress, images: usize) -> usize {
    progress.epoch.saturating_mul(images).saturating_add(progress.images)
}

/// A bar that shows itself only where [`Console::has_bar`].
fn bar(console: &Console, template: &str, length: u64) -> ProgressBar {
    let images = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = out.write_str(&thousands(state.per_sec() as u64));
    };
    let per_second = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = out.write_str(&bytes(state.per_sec() as u64));
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("images_per_second", images).with_key("bytes_per_second", per_second);
    shown(console, length, style.progress_chars("━━─"))
}

/// A bar of this style, for which a process that ends in the middle leaves its line.
fn shown(console: &Console, length: u64, style: ProgressStyle) -> ProgressBar {
    interrupt::is_in_line(console.has_bar());
    let target = match console.has_bar() {
        // Not every other system's terminal knows the escape sequences.
        true if cfg!(unix) => ProgressDrawTarget::term_like_with_hz(Box::new(Screen::default()), DRAWN_PER_SECOND),
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    ProgressBar::with_draw_target(Some(length), target).with_style(style)
}

fn clear(bar: &ProgressBar) {
    bar.finish_and_clear();
    interrupt::is_in_line(false);
}

impl Observer for Narrator<'_> {
    fn step(&mut self, progress: &Progress, loss: f64) {
        let epoch = progress.epoch + 1;
        self.change(|view| {
            view.epoch = [epoch, self.epochs];
            view.loss = loss;
            view.losses.add(loss);
            view.learning_rate = self.recipe.learning_rate(progress, self.images[0]);
            view.doing = None;
        });
        self.bar.set_position((seen(progress, self.images[0]) - self.before) as u64);
        if !self.console.has_bar() && self.last_line.elapsed() > LINE_EVERY {
            self.last_line = Instant::now();
            self.say(&format!(
                "epoch {epoch}/{}: {} of {} pictures, loss {:.4}, {} images/s",
                self.epochs,
                thousands(progress.images as u64),
                thousands(self.images[0] as u64),
                progress.mean_loss(),
                thousands(progress.images_per_second() as u64),
            ));
        }
    }

    fn evaluated(&mut self, images: usize) {
        let [images, all] = [images, self.images[1]].map(|count| thousands(count as u64));
        self.change(|view| view.doing = Some(format!("evaluating {images}/{all}")));
        self.bar.tick();
    }

    fn epoch(&mut self, metrics: &EpochMetrics, images_per_second: f64) {
        let EpochMetrics { epoch, train_loss, val_loss, val_accuracy, seconds, .. } = metrics;
        let mut line = format!("epoch {epoch:>width$}/{}", self.epochs, width = self.epochs.to_string().len());
        let in_training = 100.0 * metrics.accuracy_in_training();
        let _ = write!(line, "  train loss {train_loss:.4}, accuracy {in_training:6.2} %");
        if let (Some(loss), Some(accuracy)) = (val_loss, val_accuracy) {
            let _ = write!(line, "  {} loss {loss:.4}, accuracy {:6.2} %", self.part, 100.0 * accuracy);
        }
        let _ = write!(line, "  {seconds:.1} s, {} images/s", thousands(images_per_second as u64));
        if metrics.data_wait >= TOLD_WAIT && metrics.data_wait * seconds >= TOLD_SECONDS {
            let _ = write!(line, ", {:.0} % of the time waiting for pictures", 100.0 * metrics.data_wait);
        }
        if let Some(wait) = metrics.process_wait {
            let _ = write!(line, ", {:.0} % waiting for other processes", 100.0 * wait);
        }
        self.change(|view| add_accuracies(view, metrics));
        self.say(&line);
        if self.may_lag && metrics.accuracy_in_training() < metrics.train_accuracy - LAG {
            self.may_lag = false;
            self.say(
                "After the epoch the network recognises fewer of the training pictures than during it: batch norm's running statistics \
                 lag behind. --precise-bn 50 takes them anew before each evaluation.",
            );
        }
        self.last_line = Instant::now();
    }

    fn lagging(&mut self, gap: f64, batches: usize) {
        if !self.told_lag {
            self.told_lag = true;
            self.say(&format!(
                "Batch norm's running statistics lag behind the weights (by {gap:.2} nats): from now on they are taken anew from \
                 {batches} batches before an evaluation where they do. --precise-bn 0 leaves them."
            ));
        }
    }

    fn unfrozen(&mut self, epoch: usize, layers: &[String]) {
        if let (Some(first), Some(last)) = (layers.first(), layers.last()) {
            let more = if first == last { String::new() } else { format!(" to {last}") };
            self.say(&format!("From epoch {epoch} on, {first}{more} is trained, too."));
        }
    }

    fn damaged(&mut self, pictures: &[String]) {
        let more = pictures.len().saturating_sub(TOLD_DAMAGED);
        for picture in pictures.iter().take(TOLD_DAMAGED) {
            self.bar.suspend(|| self.console.warn(picture));
        }
        if more > 0 {
            let more = counted(more, "more damaged picture");
            self.bar.suspend(|| self.console.warn(&more));
        }
    }

    fn stop(&mut self) -> bool {
        if interrupt::requested() && !self.stopping {
            self.stopping = true;
            self.say("Stopping: the checkpoint is being written. Once more leaves at once.");
        }
        self.stopping
    }
}

impl Drop for Narrator<'_> {
    fn drop(&mut self) {
        clear(&self.bar);
    }
}

/// Tells of pictures that are gone through one after the other.
pub(crate) struct Pictures(ProgressBar);

impl Pictures {
    /// `doing` says what is done with them.
    pub(crate) fn new(console: &Console, doing: &'static str) -> Pictures {
        Pictures(bar(console, PICTURES_TEMPLATE, 0).with_prefix(doing))
    }

    pub(crate) fn tell(&self, done: usize, all: usize) {
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for Pictures {
    fn drop(&mut self) {
        clear(&self.0);
    }
}

/// Tells of a download.
pub(crate) struct Download<'a> {
    console: &'a Console,
    bar: ProgressBar,
    file: &'static str,
}

impl<'a> Download<'a> {
    pub(crate) fn new(console: &'a Console) -> Download<'a> {
        Download { console, bar: bar(console, DOWNLOAD_TEMPLATE, 0), file: "" }
    }

    pub(crate) fn tell(&mut self, progress: download::Progress) {
        if self.file != progress.file {
            self.file = progress.file;
            let line = format!("Downloading {} ({})", progress.file, bytes(progress.total));
            self.bar.suspend(|| self.console.note(&line));
            self.bar.reset();
        }
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.bytes);
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        clear(&self.bar);
    }
}
