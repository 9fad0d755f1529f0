//! What is left to look at: the figures of an evaluation, and its files.

mod common;

use common::Place;
use serde_json::Value;

fn trained() -> Place {
    let place = Place::with_data();
    place.train(&["--epochs", "2", "--out", "run", "--json"]).json();
    place
}

/// The JSON of an evaluation of the run, with these flags.
fn evaluated(place: &Place, flags: &[&str]) -> Value {
    place.run(&[&["eval", "--run", "run", "--json"], flags].concat()).json()
}

#[test]
fn predictions_go_to_a_table() {
    let place = trained();
    let report = evaluated(&place, &["--predictions", "seen.csv"]);
    let text = String::from_utf8(place.read("seen.csv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.trim_end().split(',').collect()).collect();
    assert_eq!((rows.len(), rows[0].len(), text.matches("\r\n").count()), (21, 13, 21), "{text}");
    assert_eq!(rows[0][..5], ["picture", "true", "true_probability", "guess1", "probability1"]);
    let right = rows[1..].iter().filter(|row| row[1] == row[3]).count();
    assert_eq!(Some(right as f64 / 20.0), report["top1"].as_f64());
    let loss: f64 = rows[1..].iter().map(|row| -row[2].parse::<f64>().unwrap().ln()).sum::<f64>() / 20.0;
    assert!((loss - report["loss"].as_f64().unwrap()).abs() < 1e-9, "{loss}");
    for row in &rows[1..] {
        let guesses: Vec<f64> = (4..13).step_by(2).map(|column| row[column].parse().unwrap()).collect();
        assert!(guesses.is_sorted_by(|a, b| a >= b) && guesses.iter().sum::<f64>() <= 1.0 + 1e-9, "{row:?}");
    }
    assert!(rows[1][0].ends_with("[0]"), "{:?}", rows[1]);
    let folder = place.run(&["eval", "--run", "run", "--predictions", "none/seen.csv"]);
    folder.fails_with(1, "the folder does not exist; create it first");
}

#[test]
fn figures_are_told_with_their_interval() {
    let place = trained();
    let report = evaluated(&place, &[]);
    let number = |name: &str, index: usize| report[name][index].as_f64().unwrap();
    let top1 = report["top1"].as_f64().unwrap();
    assert!(number("top1_interval", 0) < top1 && top1 < number("top1_interval", 1), "{report}");
    assert_eq!(report["calibration"]["bins"].as_array().unwrap().len(), 15);
    let text = place.run(&["eval", "--run", "run", "--per-class"]).succeeds();
    assert!(text.contains("95 % interval") && text.contains("calibration error"), "{text}");
    assert!(text.contains("taken for it"), "{text}");
}

#[test]
fn a_report_is_one_file_and_the_same_again() {
    let place = trained();
    let times = |name: &str| {
        let html = String::from_utf8(place.read(name)).unwrap();
        assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"), "{name} is whole");
        // The time of the evaluation is the one thing that differs.
        let (before, after) = html.split_once("<tr><th scope=\"row\">part</th>").unwrap();
        let (_, after) = after.split_once("</table>").unwrap();
        before.to_owned() + after
    };
    evaluated(&place, &["--html", "a.html"]);
    evaluated(&place, &["--html", "b.html"]);
    let own = times("run/report.html");
    assert_eq!(times("a.html"), times("b.html"));
    for part in
        ["<h1>Run run</h1>", "n = 20", "id=\"confusion\"", "id=\"samples\"", "data:image/png;base64,", "epochs = 2"]
    {
        assert!(own.contains(part) && times("a.html").contains(part), "{part}");
    }
    let unwritable = place.run(&["eval", "--run", "run", "--html", "none/a.html"]);
    unwritable.fails_with(1, "the folder does not exist; create it first");
}

#[test]
fn runs_are_compared() {
    let place = trained();
    place.train(&["--epochs", "1", "--out", "other", "--lr", "0.01", "--tensorboard", "--json"]).json();
    let flags = ["compare", "run", "other", "--html", "c.html", "--csv", "c.csv", "-q"];
    let text = place.run(&flags).succeeds();
    assert!(text.contains("best accuracy") && text.contains("optimizer.lr"), "{text}");
    assert!(place.read("c.html").starts_with(b"<!DOCTYPE html>"));
    assert_eq!(String::from_utf8(place.read("c.csv")).unwrap().lines().count(), 4);
    let json = place.run(&["compare", "run", "other", "--json"]).json();
    assert_eq!((&json["runs"][0]["run"], json["runs"][0]["epochs"].as_array().unwrap().len()), (&"run".into(), 2));
    let keys: Vec<_> =
        json["settings"].as_array().unwrap().iter().map(|setting| setting["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["epochs", "optimizer.lr", "output.tensorboard"]);
    let events: Vec<String> =
        place.list("other").into_iter().filter(|name| name.starts_with("events.out.tfevents.")).collect();
    assert_eq!((events.len(), place.list("run").iter().any(|name| name.starts_with("events"))), (1, false));
    place.run(&["compare", "run", "none"]).fails_with(1, "expected the folder of a run, found nothing of that name");
}
