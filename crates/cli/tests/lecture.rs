//! `convnet lecture`: every row in both languages, as text and as JSON.

mod common;

use std::sync::Once;

use common::{Place, convnet};
use serde_json::{Value, json};

/// What a lecture prints on a terminal of so many columns. What it measures of the machine is kept for all tests.
fn lecture(columns: &str, arguments: &[&str]) -> String {
    static MEASURED: Once = Once::new();
    MEASURED.call_once(|| drop(convnet(&["lecture", "L13"]).succeeds()));
    let place = Place::new();
    let mut command = place.command(&[&["lecture"], arguments].concat());
    let run: common::Run = command.env("COLUMNS", columns).env("CONVNET_HOME", common::CACHE).output().unwrap().into();
    run.succeeds()
}

fn has_hangul(text: &str) -> bool {
    text.contains(|c: char| ('가'..='힣').contains(&c))
}

#[test]
fn every_row_is_told_in_both_languages() {
    for lang in ["en", "ko"] {
        let all = lecture("80", &["--lang", lang]);
        let headings: Vec<&str> = all.lines().filter(|line| line.starts_with("─ L")).collect();
        assert_eq!(headings.len(), 16);
        for (i, heading) in headings.iter().enumerate() {
            assert!(heading.starts_with(&format!("─ L{} · ", i + 1)), "{heading}");
            let one = lecture("80", &[&format!("L{}", i + 1), "--lang", lang]);
            assert!(one.starts_with(heading) && all.contains(&one), "{one}");
            assert_eq!(has_hangul(&one), lang == "ko", "{one}");
        }
        assert!(!all.contains('\u{1b}'), "colours in a pipe");
    }
}

#[test]
fn text_keeps_to_the_columns() {
    let wide = |line: &str| convnet::columns::width(line) > 80;
    for lang in ["en", "ko"] {
        for columns in ["80", "120"] {
            let text = lecture(columns, &["--lang", lang]);
            let too_wide: Vec<&str> = text.lines().filter(|line| wide(line)).collect();
            // Commands are not broken, so that they can be copied.
            let broken = columns == "80" && too_wide.iter().any(|line| !line.trim_start().starts_with("convnet "));
            assert!(!broken, "{too_wide:#?}");
            assert_eq!(columns == "120", too_wide.len() > 20);
        }
    }
    // Absurd widths are no reason to fail.
    for columns in ["0", "1", "99999999", "-3", "wide"] {
        assert!(lecture(columns, &["L8"]).contains("73,728"));
    }
}

#[test]
fn figures_are_shown_with_their_working() {
    let text = lecture("100", &["L8", "L10"]);
    assert!(text.contains("✓ 3×3, 128 → 64 channels  3 · 3 · 128 · 64 = 73,728 weights"), "{text}");
    assert!(text.contains("≠ fc6") && text.contains("6 · 6 · 256 · 4,096 = 37,748,736"), "{text}");
    assert!(text.contains("the notes: 177,209,344") && text.contains("the notes: 244"), "{text}");
    assert!(text.contains("Try it\n    convnet summary vgg11\n"), "{text}");
}

/// The times of L13 are those of the machine, as they were measured once; all else is the same everywhere.
#[test]
fn times_come_from_the_machine() {
    let place = Place::new();
    let told = |arguments: &[&str]| place.run(&[&["lecture", "L13"], arguments].concat()).succeeds();
    let first = told(&[]);
    assert!(first.contains(" GFLOP/s with ") && first.contains("least time of an epoch here"), "{first}");
    assert_eq!(told(&[]), first);
    let kept = place.list("cache");
    assert!(matches!(&kept[..], [only] if only.starts_with("roofline-")), "{kept:?}");
    // A machine a hundred times as fast.
    let path = format!("cache/{}", kept[0]);
    let mut record: Value = serde_json::from_slice(&place.read(&path)).unwrap();
    record["roofline"]["gflops"] = json!(123_456.0);
    place.write(&path, record.to_string().as_bytes());
    let json = told(&["--json"]);
    assert!(told(&[]).contains("123456 GFLOP/s"));
    assert_eq!(convnet(&["lecture", "L13", "--json"]).succeeds(), json);
}

#[test]
fn json_has_the_promised_fields() {
    let run = convnet(&["lecture", "--json"]);
    let rows = run.json()["rows"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 16);
    assert_eq!(rows[14]["id"], "L15");
    for row in &rows {
        let strings = ["title", "topic"].iter().all(|key| !row[key].as_str().unwrap().is_empty());
        assert!(strings && !row["commands"].as_array().unwrap().is_empty(), "{row}");
        for figure in row["figures"].as_array().unwrap() {
            let agrees =
                if figure["notes"].is_null() { Value::Null } else { (figure["notes"] == figure["computed"]).into() };
            assert_eq!(figure["agrees"], agrees, "{figure}");
        }
    }
    let fc6 = &rows[9]["figures"][5];
    assert_eq!((&fc6["notes"], &fc6["computed"]), (&json!(177_209_344), &json!(37_748_736)));
    assert_eq!((&fc6["agrees"], &fc6["unit"]), (&json!(false), &json!("weights")));
    assert!(fc6["remark"].as_str().unwrap().contains("before the last pooling"));
    let korean = convnet(&["lecture", "l8", "--json", "--lang", "ko"]).json();
    assert!(has_hangul(korean["rows"][0]["slips"][0].as_str().unwrap()));
    assert_eq!(korean["rows"][0]["figures"][0]["computed"], 73_728);
}

#[test]
fn rows_are_chosen_and_listed() {
    let list = lecture("80", &["--list", "L13-L14", "vgg"]);
    let rows: Vec<&str> = list.lines().skip(2).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(rows, ["L11", "L13", "L14"]);
    assert!(lecture("80", &["--list", "--lang", "ko"]).contains("exercise"));
    let ours = Place::new();
    let korean: common::Run = ours.command(&["lecture", "L6"]).env("CONVNET_LANG", "ko").output().unwrap().into();
    assert!(has_hangul(&korean.succeeds()));
}

#[test]
fn what_is_not_there_gets_a_suggestion() {
    convnet(&["lecture", "L17"]).fails_with(2, "the lecture has no row 'L17': did you mean 'L1");
    convnet(&["lecture", "L3", "densnet"]).fails_with(2, "did you mean 'densenet'?");
    convnet(&["lecture", "L9-L1"]).fails_with(2, "expected the earlier row first");
    convnet(&["lecture", "--lang", "fr"]).fails_with(2, "[possible values: en, ko]");
    convnet(&["lecture", "--json", "--list"]).fails_with(2, "cannot be used with");
}
