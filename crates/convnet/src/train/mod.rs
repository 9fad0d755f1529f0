//! What surrounds the training loop: its configuration, the run folder, and what that folder holds.

mod config;
mod metrics;
pub mod plots;
mod run;

pub use config::{Optimizer, TrainConfig, TrainOverrides};
pub use metrics::{EpochMetrics, append_metrics, read_metrics, resume_metrics};
pub use run::RunFolder;
