//! The training loop, and what surrounds it: its configuration, the run folder, and what that folder holds.
//!
//! [`Trainer`] has an example; a loop of one's own is made of [`crate::exec::Training`].

mod conclusion;
mod config;
mod divergence;
mod find_lr;
mod groups;
mod learning;
mod lock;
mod metrics;
mod planning;
#[cfg(feature = "plots")]
pub mod plots;
mod prepare;
mod progress;
mod recipes;
#[cfg(feature = "plots")]
mod report;
mod run;
mod saved;
mod schedule;
mod statistics;
pub(crate) mod summary;
mod targets;
mod tensorboard;
mod test_result;
mod together;
mod trainer;
mod unfreezing;

pub use config::{
    ClassWeights, DataConfig, EngineConfig, Kind, ModelConfig, Optimizer, OptimizerConfig, OutputConfig, Recipe,
    SETTINGS, ScheduleConfig, Setting, Settings, Shuffle, TrainConfig,
};
pub use find_lr::{RateSearch, TriedRate};
pub use metrics::{EpochMetrics, append_metrics, read_metrics, resume_metrics, torn_line};
pub use prepare::{Prepared, Prologue};
pub use progress::Progress;
pub use recipes::{NamedRecipe, RECIPES};
pub use run::RunFolder;
pub use schedule::{Plateau, Schedule, Span};
pub use test_result::TestResult;
pub use trainer::{Ending, Observer, Outcome, Trainer};
