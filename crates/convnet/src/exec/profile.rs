//! Where the time of a step goes, stage by stage.

use std::time::Instant;

/// Time of one stage in one direction, summed over the calls since profiling was switched on.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileRow {
    /// Name of the stage's first node.
    pub layer: String,
    /// `forward`, `backward` or `update`.
    pub direction: &'static str,
    /// Seconds, over all calls.
    pub seconds: f64,
    /// Multiply-adds, over all calls.
    pub macs: u64,
}

/// Rows in the order in which a step runs, when switched on.
#[derive(Debug, Default)]
pub(super) struct Profile {
    pub(super) on: bool,
    rows: Vec<ProfileRow>,
}

impl Profile {
    /// Forgets everything measured.
    pub(super) fn switch(&mut self, on: bool) {
        *self = Profile { on, rows: Vec::new() };
    }

    pub(super) fn rows(&self) -> &[ProfileRow] {
        &self.rows
    }

    pub(super) fn start(&self) -> Option<Instant> {
        self.on.then(Instant::now)
    }

    pub(super) fn stop(&mut self, start: Option<Instant>, layer: &str, direction: &'static str, macs: u64) {
        let Some(start) = start else { return };
        let seconds = start.elapsed().as_secs_f64();
        match self.rows.iter_mut().find(|row| row.layer == layer && row.direction == direction) {
            Some(row) => {
                row.seconds += seconds;
                row.macs += macs;
            }
            None => self.rows.push(ProfileRow { layer: layer.into(), direction, seconds, macs }),
        }
    }
}
