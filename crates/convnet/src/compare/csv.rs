//! The epochs of runs as CSV by RFC 4180.

use super::Comparison;
use crate::csv::field;

/// A line for each epoch; what was not measured, or is not finite, is empty.
pub(super) fn csv(comparison: &Comparison) -> String {
    let mut text = String::from(
        "run,epoch,train_loss,train_accuracy,train_eval_loss,train_eval_accuracy,val_loss,val_accuracy,seconds\r\n",
    );
    for run in &comparison.runs {
        for epoch in &run.epochs {
            let numbers = [
                Some(epoch.train_loss),
                Some(epoch.train_accuracy),
                epoch.train_eval_loss,
                epoch.train_eval_accuracy,
                epoch.val_loss,
                epoch.val_accuracy,
                Some(epoch.seconds),
            ];
            let number = |value: Option<f64>| value.filter(|value| value.is_finite()).map(|value| value.to_string());
            let numbers: Vec<String> = numbers.map(|value| number(value).unwrap_or_default()).to_vec();
            text += &format!("{},{},{}\r\n", field(&run.run), epoch.epoch, numbers.join(","));
        }
    }
    text
}
