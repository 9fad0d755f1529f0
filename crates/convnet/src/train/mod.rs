//! The training loop, and what surrounds it: its configuration, the run folder, and what that folder holds.

mod config;
mod find_lr;
mod groups;
mod metrics;
pub mod plots;
mod prepare;
mod progress;
mod recipes;
mod run;
mod saved;
mod schedule;
mod targets;
mod trainer;

pub use config::{
    DataConfig, EngineConfig, Kind, ModelConfig, Optimizer, OptimizerConfig, Recipe, SETTINGS, ScheduleConfig, Setting,
    Settings, TrainConfig,
};
pub use find_lr::{RateSearch, TriedRate};
pub use metrics::{EpochMetrics, append_metrics, read_metrics, resume_metrics};
pub use prepare::{Prepared, Prologue};
pub use progress::Progress;
pub use recipes::{NamedRecipe, RECIPES};
pub use run::RunFolder;
pub use schedule::{Plateau, Schedule, Span};
pub use trainer::{Ending, Observer, Outcome, Trainer};
