use super::*;
use crate::classifier::Classifier;
use crate::evaluate::{Calibration, CalibrationBin, ClassMeasures, ConfusedPair, MeanMeasures, Seen};
use crate::zoo::{ZooOptions, by_name};

/// Elements that have no content and no end.
const VOID: [&str; 3] = ["meta", "br", "img"];

/// The names of all elements, in the order in which they begin. Panics where one does not end where it should.
fn elements(html: &str) -> Vec<String> {
    let (mut open, mut names): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a document type");
    while let Some(begin) = rest.find('<') {
        let end = begin + rest[begin..].find('>').expect("a tag that ends");
        let tag = &rest[begin + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {}", &rest[..rest.len().min(80)]);
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap().to_owned();
        names.push(name.clone());
        if name == "style" || name == "script" {
            // Their content is no markup.
            rest = &rest[rest.find("</").expect("an end")..];
        }
        if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    names
}

fn evaluation(names: &[String]) -> Evaluation {
    let class = |(index, label): (usize, &String)| ClassMeasures {
        label: label.clone(),
        images: 1000,
        predicted: 990,
        correct: 900 - index as u64 % 7,
        precision: 0.9,
        recall: 0.9 - 0.001 * (index % 7) as f64,
        f1: 0.9,
    };
    let bin = |index: usize| {
        let [from, to] = [index, index + 1].map(|i| i as f64 / 15.0);
        CalibrationBin { from, to, images: index as u64 * 100, confidence: to - 0.01, accuracy: 0.9 * to }
    };
    let pair = |i: usize| ConfusedPair {
        label: names[i % names.len()].clone(),
        predicted: names[(i + 1) % names.len()].clone(),
        images: 40 - i as u64,
        share: 0.01,
    };
    let row =
        |i: usize| (0..names.len()).map(|j| if i == j { 900 } else { u64::from((i + j).is_multiple_of(3)) }).collect();
    let mean = MeanMeasures { precision: 0.9, recall: 0.9, f1: 0.9 };
    Evaluation {
        images: 1000 * names.len(),
        top1: 0.9,
        top1_interval: [0.89, 0.91],
        top5: Some(0.99),
        top5_interval: Some([0.985, 0.995]),
        loss: 0.35,
        seconds: 1.5,
        macro_mean: mean,
        weighted_mean: mean,
        classes: names.iter().enumerate().map(class).collect(),
        confused: (0..20).map(pair).collect(),
        calibration: Calibration { expected_error: 0.02, confidence: 0.93, bins: (0..15).map(bin).collect() },
        confusion: (names.len() <= 100).then(|| (0..names.len()).map(row).collect()),
    }
}

fn epochs(count: usize) -> Vec<EpochMetrics> {
    let epoch = |epoch: usize| {
        let val_loss = (epoch != 2).then_some(0.4);
        let line = serde_json::json!({
            "epoch": epoch, "train_loss": 1.0 / epoch as f64, "train_accuracy": 0.9, "val_loss": val_loss, "val_accuracy": 0.9,
            "seconds": 2.0,
        });
        serde_json::from_value(line).unwrap()
    };
    (1..=count).map(epoch).collect()
}

/// A report on a network with these classes, with this many pictures of each and epochs.
fn report(names: Vec<String>, pictures: usize, count: usize) -> String {
    let options = ZooOptions { classes: Some(names.len()), hdims: Some(vec![4]), ..ZooOptions::default() };
    let Classifier { description, weights } = Classifier::untrained(by_name("cnn", &options).unwrap(), 0).unwrap();
    let description = description.with_classes(names.clone()).unwrap();
    let mut gallery = Gallery::new(description.input(), names.len());
    for label in 0..names.len() {
        for picture in 0..pictures {
            let mut logits = vec![0.0; names.len()];
            logits[(label + picture % 2) % names.len()] = 3.0;
            let planes: Vec<u8> = (0..784).map(|pixel| (pixel * (label + 2) + picture) as u8).collect();
            gallery.add(&Seen { name: "<script>x/\"1\".png", label, logits: &logits, planes: &planes });
        }
    }
    (0..14).for_each(|number| gallery.add_augmented("a/b.png", number % names.len(), &[number as u8; 784]));
    Report {
        title: "Run <script>alert(1)</script> & more",
        description: &description,
        weights: &weights,
        engine: &Engine::new(1).unwrap(),
        data: "</p><script>",
        part: Some(Part::Val),
        evaluation: Some(&evaluation(&names)),
        gallery: Some(&gallery),
        test: Some(&TestResult {
            epoch: 3,
            images: 1000,
            accuracy: 0.875,
            accuracy_interval: [0.85, 0.9],
            loss: Some(0.5),
        }),
        epochs: &epochs(count),
        config: Some(&TrainConfig::default()),
    }
    .to_html()
}

fn named(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

#[test]
fn a_report_is_whole_and_loads_nothing() {
    let html = report(named(10), 20, 12);
    assert!(
        html.contains("Test accuracy") && html.contains("interval 85.00 to 90.00\u{a0}%, n = 1,000; measured once")
    );
    let names = elements(&html);
    let count = |name: &str| names.iter().filter(|other| *other == name).count();
    assert_eq!((count("section"), count("h2"), count("script"), count("style")), (10, 10, 1, 1));
    assert_eq!(
        (count("svg"), count("figure")),
        (2 + 4 + 1, 2 + 1 + 24 + 30 + 12),
        "charts, legends, diagram, pictures"
    );
    assert_eq!(count("title"), 1 + 3 + 23 + 24 + 14, "the page, drawings, points of curves, bins");
    assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere");
    for source in html.split(" src=\"").skip(1) {
        assert!(source.starts_with("data:image/png;base64,"), "{}", &source[..40]);
    }
    assert_eq!(html, report(named(10), 20, 12), "the same bytes again");
}

#[test]
fn texts_from_outside_stay_text() {
    let hostile =
        ["<script>alert('a')</script>", "\"><img src=x onerror=alert(1)>", "</td></table>", "&amp;", "猫 \u{0}"];
    let html = report(hostile.map(str::to_owned).to_vec(), 3, 2);
    let names = elements(&html);
    assert_eq!(names.iter().filter(|name| *name == "script").count(), 1);
    assert!(!html.contains("<img src=x") && !html.contains('\u{0}'));
    assert!(html.contains("&quot;&gt;&lt;img src=x onerror=alert(1)&gt;") && html.contains("&amp;amp;"));
}

#[test]
fn a_report_is_bounded() {
    let html = report(named(1000), 4, 5000);
    let names = elements(&html);
    assert_eq!(names.iter().filter(|name| *name == "img").count(), 24 + 30 + 12 + 32);
    assert!(!html.contains("class=\"heat\""), "no table of 1,000 by 1,000 classes");
    assert!(html.len() < 1_500_000, "{} bytes", html.len());
    let thirty = report(named(30), 4, 3);
    assert!(thirty.contains("class=\"heat\"") && !report(named(31), 4, 3).contains("class=\"heat\""));
}

#[test]
fn a_run_without_held_out_pictures_has_its_curves() {
    let Classifier { description, weights } =
        Classifier::untrained(by_name("cnn", &ZooOptions::default()).unwrap(), 0).unwrap();
    let mut epochs = epochs(3);
    epochs.iter_mut().for_each(|epoch| (epoch.val_loss, epoch.val_accuracy) = (None, None));
    epochs[1].train_loss = f64::NAN;
    let report = Report {
        title: "Run 1",
        description: &description,
        weights: &weights,
        engine: &Engine::new(1).unwrap(),
        data: "digits",
        part: None,
        evaluation: None,
        gallery: None,
        test: None,
        epochs: &epochs,
        config: None,
    };
    let html = report.to_html();
    elements(&html);
    assert!(
        html.contains("no pictures were held out") && html.contains("id=\"curves\"") && !html.contains("held-out 9")
    );
    let empty = Report { epochs: &[], ..report }.to_html();
    elements(&empty);
    assert!(!empty.contains("id=\"curves\""));
}
