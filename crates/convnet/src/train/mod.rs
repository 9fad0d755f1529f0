//! The training loop, and what surrounds it: its configuration, the run folder, and what that folder holds.

mod config;
mod fit;
mod metrics;
pub mod plots;
mod progress;
mod run;
mod schedule;

pub use config::{Optimizer, TrainConfig, TrainOverrides};
pub use fit::{Ending, Observer, Outcome, Trainer};
pub use metrics::{EpochMetrics, append_metrics, read_metrics, resume_metrics};
pub use progress::Progress;
pub use run::RunFolder;
pub use schedule::Schedule;
