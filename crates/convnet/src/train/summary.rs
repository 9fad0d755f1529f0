//! `summary.csv`: every epoch of a run as a table for a spreadsheet, in the words of `metrics.jsonl`. It is written anew after
//! each epoch, from the same figures.

use super::EpochMetrics;

/// A figure of an epoch: its name, and what it is.
type Column = (&'static str, fn(&EpochMetrics) -> Option<f64>);

/// The figures of an epoch.
const COLUMNS: [Column; 11] = [
    ("train_loss", |epoch| Some(epoch.train_loss)),
    ("train_accuracy", |epoch| Some(epoch.train_accuracy)),
    ("train_eval_loss", |epoch| epoch.train_eval_loss),
    ("train_eval_accuracy", |epoch| epoch.train_eval_accuracy),
    ("val_loss", |epoch| epoch.val_loss),
    ("val_accuracy", |epoch| epoch.val_accuracy),
    ("seconds", |epoch| Some(epoch.seconds)),
    ("data_wait", |epoch| Some(epoch.data_wait)),
    ("images_per_second", |epoch| epoch.images_per_second),
    ("lr", |epoch| epoch.lr),
    ("grad_norm", |epoch| epoch.grad_norm),
];

/// The names of the columns: `epoch,train_loss,…`.
pub(crate) fn header() -> String {
    let names = COLUMNS.iter().map(|(name, _)| *name);
    ["epoch"].into_iter().chain(names).collect::<Vec<_>>().join(",")
}

/// The fields of an epoch; what was not measured, or is not finite, is empty.
pub(crate) fn row(epoch: &EpochMetrics) -> String {
    let number = |(_, value): &Column| value(epoch).filter(|value| value.is_finite()).map(|value| value.to_string());
    let numbers = COLUMNS.iter().map(|column| number(column).unwrap_or_default());
    [epoch.epoch.to_string()].into_iter().chain(numbers).collect::<Vec<_>>().join(",")
}

/// The whole table, by RFC 4180.
pub(super) fn table(epochs: &[EpochMetrics]) -> String {
    let lines = [header()].into_iter().chain(epochs.iter().map(row));
    lines.map(|line| line + "\r\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_epoch() {
        let line = r#"{"epoch":1,"train_loss":null,"train_accuracy":0.5,"val_loss":0.25,"val_accuracy":1,"seconds":2}"#;
        let first: EpochMetrics = serde_json::from_str(line).unwrap();
        let text = table(&[
            first,
            EpochMetrics { epoch: 2, train_loss: 0.125, train_eval_loss: Some(3.0), lr: Some(0.5), ..first },
        ]);
        let expected = [
            "epoch,train_loss,train_accuracy,train_eval_loss,train_eval_accuracy,val_loss,val_accuracy,seconds,data_wait,\
             images_per_second,lr,grad_norm",
            "1,,0.5,,,0.25,1,2,0,,,",
            "2,0.125,0.5,3,,0.25,1,2,0,,0.5,",
            "",
        ];
        assert_eq!(text, expected.join("\r\n"));
    }

    /// The names are those of `metrics.jsonl`, all of them and in the same order.
    #[test]
    fn columns_are_the_metrics() {
        let first: EpochMetrics = serde_json::from_str(
            r#"{"epoch":1,"train_loss":1,"train_accuracy":0,"val_loss":0,"val_accuracy":0,"seconds":1}"#,
        )
        .unwrap();
        let text = serde_json::to_string(&first).unwrap();
        let keys: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
        assert_eq!(keys.join(","), header());
    }
}
