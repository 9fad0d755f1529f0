//! `convnet study`: the list, a study from beginning to end, and command lines and folders that do not fit.

mod common;

use common::{Place, convnet};
use serde_json::Value;

const TRY: [&str; 6] = ["study", "kernels", "--budget", "seconds", "--out", "out"];

/// A study's errors by variant, which do not depend on the machine.
fn errors(report: &Value) -> Vec<Value> {
    let variants = report["results"]["variants"].as_array().unwrap();
    variants.iter().map(|variant| variant["runs"][0]["test_error"].clone()).collect()
}

#[test]
fn studies_are_listed_with_their_rows() {
    let run = convnet(&["study"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for name in
        ["activation", "pooling", "regularisation", "kernels", "batchnorm", "depth", "shortcut", "bottleneck", "growth"]
    {
        assert!(run.stdout.lines().any(|line| line.trim_start().starts_with(name) && line.contains("L1")), "{name}");
    }
    let json = convnet(&["study", "--json"]).json();
    assert_eq!(json["studies"].as_array().unwrap().len(), 9);
    let depth = json["studies"].as_array().unwrap().iter().find(|study| study["name"] == "depth").unwrap();
    assert_eq!(depth["variants"], serde_json::json!(["plain20", "plain56", "resnet20", "resnet56"]));
}

#[test]
fn a_study_leaves_a_table_a_plot_and_runs_and_is_the_same_again() {
    let place = Place::new();
    let first = place.run(&[&TRY[..], &["--json"]].concat()).json();
    assert_eq!((first["complete"].as_bool(), errors(&first).len()), (Some(true), 2));
    let macs = |index: usize| first["results"]["variants"][index]["macs"].as_u64().unwrap();
    assert!(macs(0) < macs(1), "two 3×3 take less");
    let seen = &first["expectations"][1];
    assert!(seen["says"].as_str().unwrap().contains("multiply-adds") && seen["seen"] == 1, "{seen}");
    let there = place.list("out");
    for name in ["study.toml", "study.md", "study.png", "study.html", "two-3x3-seed0", "one-5x5-seed0"] {
        assert!(there.iter().any(|known| known == name), "{name}: {there:?}");
    }
    assert!(place.list("out/two-3x3-seed0").iter().any(|name| name == "report.html"), "an ordinary run");
    let text = String::from_utf8(place.read("out/study.md")).unwrap();
    assert!(
        text.contains("| one-5x5 |") && text.contains("130 training and 2,000 validation pictures of digits"),
        "{text}"
    );
    // The same command has nothing left to do, with what the folder knows.
    let before = place.read("out/study.toml");
    let again = place.run(&["study", "kernels", "--out", "out"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("seen: yes") && !again.stderr.contains("Run 1"), "{}{}", again.stdout, again.stderr);
    assert_eq!(place.read("out/study.toml"), before);
    // Another folder comes to the same.
    let other =
        place.run(&["study", "kernels", "--budget", "seconds", "--out", "other", "--threads", "1", "--json"]).json();
    assert_eq!(errors(&other), errors(&first));
    place.run(&["study", "kernels", "--budget", "hour", "--out", "out"]).fails_with(1, "choose another folder");
    place.run(&["study", "pooling", "--out", "out"]).fails_with(1, "begun with the name 'kernels', not 'pooling'");
}

#[test]
fn what_does_not_fit_is_said() {
    let place = Place::new();
    place.run(&["study", "dept"]).fails_with(2, "unknown study 'dept': did you mean 'depth'?");
    place.run(&["study", "depth", "--budget", "minuts"]).fails_with(2, "did you mean 'minutes'?");
    place.run(&["study", "depth", "--seeds", "0"]).fails_with(2, "expected at least 1");
    place.run(&["study", "depth", "--data", "nowhere"]).fails_with(1, "nowhere");
    place.run(&["study", "--budget", "seconds"]).fails_with(2, "required");
    std::fs::create_dir(place.path("full")).unwrap();
    place.write("full/thesis.tex", b"");
    place.run(&["study", "depth", "--out", "full"]).fails_with(1, "this one holds other files");
    assert_eq!(place.list("full"), ["thesis.tex"]);
    place.write("file", b"");
    place.run(&["study", "depth", "--out", "file"]).fails_with(1, "found a file of that name");
    // Pictures of 8×8 pixels.
    let place = Place::with_data();
    place.run(&["study", "depth", "--data", "data", "--out", "small"]).fails_with(1, "at least 16×16 pixels");
    assert!(!place.path("small").exists());
}
