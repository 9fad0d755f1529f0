use std::fs;

use serde_json::json;

use super::*;
use crate::classifier::Classifier;
use crate::train::append_metrics;
use crate::weights::Checkpoint;
use crate::zoo::{ZooOptions, by_name};

/// A run's folder with these settings and accuracies.
fn run(folder: &Path, toml: &str, accuracies: &[Option<f64>]) {
    let config = TrainConfig::resolve([Settings::from_toml(toml).unwrap()]).unwrap();
    let run = RunFolder::create(folder, &config).unwrap();
    for (accuracy, epoch) in accuracies.iter().zip(1..) {
        let line = json!({
            "epoch": epoch, "train_loss": 0.5, "train_accuracy": 0.75, "val_loss": 0.25, "val_accuracy": accuracy,
            "seconds": 1.5,
        });
        append_metrics(&run.metrics_jsonl(), &serde_json::from_value(line).unwrap()).unwrap();
    }
}

#[test]
fn runs_are_told_apart_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b <i>,\""].map(|name| folder.path().join(name));
    run(&a, "epochs = 3", &[Some(0.5), Some(0.75), Some(0.75)]);
    run(&b, "epochs = 4\n[optimizer]\nlr = 0.5\n[model]\ncdims = [8, 16]", &[None]);
    let Classifier { description, weights } =
        Classifier::untrained(by_name("cnn", &ZooOptions::default()).unwrap(), 0).unwrap();
    let metadata = description.metadata();
    let best = Checkpoint { weights, metadata, ..Checkpoint::default() };
    best.save(&RunFolder::open(&a).unwrap().best_safetensors()).unwrap();

    let found = Comparison::read(&[&a, &b]).unwrap();
    let [first, second] = &found.runs[..] else { panic!("{found:?}") };
    assert_eq!(
        (first.best.unwrap().epoch, first.seconds, first.parameters),
        (2, 4.5, Some(description.net().parameter_count()))
    );
    assert_eq!((second.best, second.parameters, second.planned_epochs), (None, None, 4));
    let settings: Vec<(&str, Vec<&str>)> = found
        .settings
        .iter()
        .map(|setting| (setting.key, setting.values.iter().map(|value| value.as_deref().unwrap_or("-")).collect()))
        .collect();
    let expected =
        [("epochs", vec!["3", "4"]), ("model.cdims", vec!["-", "[8, 16]"]), ("optimizer.lr", vec!["0.001", "0.5"])];
    assert_eq!(settings, expected);

    let csv = found.to_csv();
    assert_eq!(csv.matches("\r\n").count(), 5, "{csv}");
    assert!(csv.contains(&format!("{},2,0.5,0.75,,,0.25,0.75,1.5,0,,,\r\n", a.display())), "{csv}");
    assert!(csv.contains("b <i>,\"\"\",1,0.5,0.75,,,0.25,,1.5,0,,,\r\n"), "{csv}");
    let html = found.to_html();
    assert!(html.contains("Comparison of 2 runs") && html.contains("b &lt;i&gt;,&quot;") && !html.contains("<i>,"));
    assert!(html.contains("75.00 % in epoch 3"), "curves are described");
}

#[test]
fn the_same_run_twice_differs_in_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let a = folder.path().join("a");
    run(&a, "", &[]);
    let found = Comparison::read(&[&a, &a]).unwrap();
    assert!(found.settings.is_empty() && found.runs[0].last().is_none());
    assert!(!found.to_html().contains("Settings that differ"));
    fs::write(a.join("metrics.jsonl"), "{}\n").unwrap();
    assert!(Comparison::read(&[&a]).unwrap_err().to_string().contains("line 1"));
}

#[test]
fn the_best_of_equals_has_the_lowest_loss_and_counts_are_true() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    // Resumed with fewer epochs than it had made.
    run(&a, "epochs = 2", &[Some(0.5), Some(0.75), Some(0.75)]);
    let path = RunFolder::open(&a).unwrap().metrics_jsonl();
    let last = *crate::train::read_metrics(&path).unwrap().last().unwrap();
    append_metrics(&path, &EpochMetrics { epoch: 4, val_loss: Some(0.125), ..last }).unwrap();
    run(&b, "", &[]);
    let found = Comparison::read(&[&a, &b]).unwrap();
    assert_eq!(found.runs[0].best.unwrap().epoch, 4);
    let table = found.results();
    let column = |name: &str| table.headings.iter().position(|heading| heading == name).unwrap();
    let cells = |name: &str| [0, 1].map(|row| table.rows[row][column(name)].as_str());
    assert_eq!((cells("epochs"), cells("time")), (["4 of 4", "0 of 10"], ["6.0 s", "0.0 s"]));
}
