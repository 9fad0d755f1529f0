use std::fs;
use std::path::Path;

use super::*;
use crate::data::digits;
use crate::exec::Engine;
use crate::train::{Observer, Trainer};
use crate::{Error, weights};

/// Stops training after so many steps.
struct StopAfter(usize);

impl Observer for StopAfter {
    fn stop(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 == 0
    }
}

fn plan(name: &str) -> Plan {
    Plan { budget: Budget::Seconds, threads: 1, ..Plan::new(Study::find(name).unwrap()) }
}

/// Does what is left of a study.
fn run(plan: Plan, folder: &Path) -> Record {
    let mut session = Session::open(plan, folder).unwrap();
    while let Some(task) = session.next_task() {
        let ended = session.trainer(&task).and_then(|trainer| trainer.fit(&mut ()));
        assert!(session.record(&task, ended).unwrap());
    }
    session.finish().unwrap().clone()
}

/// What does not depend on the machine and its load.
fn timeless(record: &Record) -> Record {
    let mut record = record.clone();
    for variant in &mut record.variants {
        variant.step_ms = None;
        variant.runs.iter_mut().for_each(|run| run.seconds = 0.0);
    }
    record
}

fn problem<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn every_study_is_sound_for_grey_and_for_colour() {
    for study in &STUDIES {
        for input in [[1, 28, 28], [3, 32, 32], [3, 37, nets::SMALLEST]] {
            for variant in study.variants {
                for budget in Budget::ALL {
                    let plan = Plan { budget, ..plan(study.name) };
                    let config = session::config(&plan, variant, 3, input).unwrap();
                    assert!(config.recipe.seed == 3 && config.recipe.epochs > 0, "{}", variant.name);
                    assert!(config.recipe.schedule.milestones.iter().all(|&at| at <= config.recipe.epochs));
                }
                let net = session::net(&plan(study.name), variant, input, 7).unwrap();
                assert_eq!((net.output_shape().elements(), net.input_shape().dims()), (7, input.to_vec()));
            }
        }
        let named = |name: &str| study.variants.iter().any(|variant| variant.name == name);
        assert!(
            study.expectations.iter().all(|e| named(e.less) && named(e.more) && e.less != e.more),
            "{}",
            study.name
        );
        for panel in study.panels {
            let Panel::Errors { variants, .. } = panel else { continue };
            assert!(variants.iter().all(|name| named(name)), "{}", study.name);
        }
        let lines = [study.title, study.question, study.data].into_iter();
        assert!(lines.chain(study.expectations.iter().map(|e| e.says)).all(|line| !line.contains("  ")));
    }
}

#[test]
fn variants_differ_in_what_the_study_is_about_alone() {
    let total = |study: &str, variant: &str, input| {
        let study = Study::find(study).unwrap();
        session::net(&plan(study.name), study.variant(variant).unwrap(), input, 10).unwrap().table(1).total
    };
    for input in [[1, 28, 28], [3, 32, 32], [3, 37, 29]] {
        assert_eq!(total("pooling", "overlapping", input), total("pooling", "apart", input));
        // Two stages: 2·(9·32·32 + 32) or 25·32·32 + 32 each; all else is the same.
        let [two, one] = ["two-3x3", "one-5x5"].map(|variant| total("kernels", variant, input).params);
        assert_eq!(one - two, 2 * (25 * 1024 + 32 - 2 * (9 * 1024 + 32)));
        let [basic, bottleneck] =
            ["two-3x3", "bottleneck"].map(|variant| total("bottleneck", variant, input).macs as f64);
        assert!((bottleneck / basic - 1.0).abs() < 0.2, "{basic} {bottleneck}");
    }
}

#[test]
fn mirrored_digits_are_no_digits() {
    let names = |shape| toml::to_string(&crate::train::Recipe { augment: augmentation(shape), ..Default::default() });
    let [grey, colour] = [[1, 28, 28], [3, 32, 32]].map(|shape| names(shape).unwrap());
    assert!(grey.contains("random_crop") && !grey.contains("flip"), "{grey}");
    assert!(colour.contains("padding = 4") && colour.contains("flip"), "{colour}");
}

#[test]
fn a_study_that_is_stopped_goes_on_to_the_same_results() {
    let place = tempfile::tempdir().unwrap();
    let [whole, stopped] = ["whole", "stopped"].map(|name| place.path().join(name));
    let expected = run(plan("pooling"), &whole);
    assert!(expected.is_complete());
    // Stopped in the first run, then between two runs.
    let mut session = Session::open(plan("pooling"), &stopped).unwrap();
    let task = session.next_task().unwrap();
    let ended = session.trainer(&task).unwrap().fit(&mut StopAfter(3));
    assert!(!session.record(&task, ended).unwrap());
    assert!(session.finish().unwrap().variants[0].runs.is_empty());
    drop(session);
    let mut session = Session::open(plan("pooling"), &stopped).unwrap();
    let task = session.next_task().unwrap();
    assert_eq!((task.variant.name, task.number, task.of), ("overlapping", 1, 2));
    let trainer = session.trainer(&task).unwrap();
    assert!(trainer.progress().step > 0, "it goes on from its checkpoint");
    let ended = trainer.fit(&mut ());
    assert!(session.record(&task, ended).unwrap());
    assert_eq!(session.next_task().unwrap().variant.name, "apart");
    drop(session);
    let found = run(plan("pooling"), &stopped);
    assert_eq!(timeless(&found), timeless(&expected));
    assert_eq!(
        found.table(crate::columns::Style::Plain).unwrap(),
        expected.table(crate::columns::Style::Plain).unwrap()
    );
    // Nothing is left to do; another seed is.
    assert_eq!(run(plan("pooling"), &stopped), found);
    let session = Session::open(Plan { seeds: 2, ..plan("pooling") }, &stopped).unwrap();
    let task = session.next_task().unwrap();
    assert_eq!((task.seed, task.number, task.of), (1, 3, 4));
    assert!(session.trainer(&task).unwrap().progress().step == 0);
}

#[test]
fn divergence_is_a_result() {
    let place = tempfile::tempdir().unwrap();
    let mut session = Session::open(plan("pooling"), place.path()).unwrap();
    let task = session.next_task().unwrap();
    let _trainer: Trainer = session.trainer(&task).unwrap();
    let diverged =
        Error::Diverged { what: "loss".into(), value: f64::NAN, step: 5, epoch: 1, batch: 5, lr: 0.1, kept: None };
    assert!(session.record(&task, Err(diverged)).unwrap());
    let other = session.next_task().unwrap();
    let ended = session.trainer(&other).unwrap().fit(&mut ());
    session.record(&other, ended).unwrap();
    let text = session.finish().unwrap().to_markdown().unwrap();
    assert!(text.contains("1 of 1 diverged") && text.contains("overlapping diverged"), "{text}");
    let verdicts = session.results().verdicts().unwrap();
    assert!(verdicts.iter().all(|verdict| (verdict.seen, verdict.of) == (0, 1)), "{verdicts:?}");
    assert_eq!(Record::read(&place.path().join("study.toml")).unwrap(), *session.results());
}

#[test]
fn other_folders_and_other_studies_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let open = |plan: Plan, name: &str| Session::open(plan, &path(name)).map(drop);
    fs::write(path("file"), "").unwrap();
    assert!(problem(open(plan("pooling"), "file")).contains("found a file of that name"));
    fs::create_dir(path("full")).unwrap();
    fs::write(path("full/thesis.tex"), "").unwrap();
    assert!(problem(open(plan("pooling"), "full")).contains("this one holds other files"));
    assert_eq!(fs::read_dir(path("full")).unwrap().count(), 1);
    open(plan("pooling"), "study").unwrap();
    let message = problem(open(plan("kernels"), "study"));
    assert!(message.contains("begun with the name 'pooling', not 'kernels': choose another folder"), "{message}");
    let message = problem(open(Plan { budget: Budget::Hour, ..plan("pooling") }, "study"));
    assert!(message.contains("'seconds' of 2 epochs, not 'hour' of 30 epochs"), "{message}");
    for (text, expected) in [
        ("", "expected the results of a study: missing field"),
        ("study = 3", "expected the results of a study"),
        ("\u{0}", "expected the results of a study"),
    ] {
        fs::write(path("study/study.toml"), text).unwrap();
        let message = problem(open(plan("pooling"), "study"));
        assert!(message.contains("study.toml: ") && message.contains(expected), "{message}");
    }
    fs::write(path("study/study.toml"), [0xff, 0xfe]).unwrap();
    assert!(matches!(open(plan("pooling"), "study"), Err(Error::Io { .. })));
    let message = problem(Session::open(Plan { seeds: 0, ..plan("pooling") }, &path("none")).map(drop));
    assert!(message.starts_with("seeds: expected at least 1"), "{message}");
    assert!(!path("none").exists());
    let message = problem(open(Plan { data: "dgits".into(), ..plan("pooling") }, "none"));
    assert!(message.contains("did you mean 'digits'?"), "{message}");
    assert_eq!(problem("minuts".parse::<Budget>()), "unknown budget 'minuts': did you mean 'minutes'?");
}

#[test]
fn a_record_of_senseless_numbers_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let session = Session::open(plan("pooling"), place.path()).unwrap();
    let mut record = session.results().clone();
    record.variants[0].runs.push(RunRecord {
        seed: 0,
        epoch_steps: 4,
        train_error: vec![101.0],
        test_error: vec![50.0],
        diverged: None,
        seconds: 1.0,
        gradients: Vec::new(),
    });
    let path = place.path().join("study.toml");
    record.write(&path).unwrap();
    let message = problem(Record::read(&path));
    assert!(message.contains("'overlapping': expected an error in %, from 0 to 100, got 101"), "{message}");
    record.variants[0].name = "overlaping".into();
    record.write(&path).unwrap();
    assert!(problem(Record::read(&path)).contains("did you mean 'overlapping'?"));
}

#[test]
fn gradients_vanish_through_sigmoids() {
    let data = std::sync::Arc::new(digits::splits(0, 64, 0).unwrap().train);
    let engine = Engine::new(1).unwrap();
    let of = |build: fn([usize; 3], usize) -> Result<Net>| {
        let description = crate::classifier::Description::customary(build([1, 28, 28], 10).unwrap()).unwrap();
        let weights = weights::init(description.net(), 0);
        let sizes = measure::gradients(&description, [&weights, &weights], &data, &engine).unwrap();
        assert_eq!(sizes.len(), 9);
        assert!(sizes.iter().all(|size| size.before == size.after && size.before > 0.0), "{sizes:?}");
        sizes[0].before / sizes[8].before
    };
    let (relu, sigmoid) = (of(nets::relu), of(nets::sigmoid));
    assert!(sigmoid < 0.01 * relu, "{sigmoid} {relu}");
}

#[test]
fn seeds_are_summed_up() {
    let place = tempfile::tempdir().unwrap();
    let session = Session::open(Plan { seeds: 2, ..plan("pooling") }, place.path()).unwrap();
    let mut record = session.results().clone();
    for (variant, errors) in record.variants.iter_mut().zip([[10.0, 12.0], [11.0, 11.5]]) {
        for (seed, error) in (0..).zip(errors) {
            variant.runs.push(RunRecord {
                seed,
                epoch_steps: 4,
                train_error: vec![50.0, error / 2.0],
                test_error: vec![60.0, error],
                diverged: None,
                seconds: 1.0,
                gradients: Vec::new(),
            });
        }
    }
    let verdicts = record.verdicts().unwrap();
    assert_eq!((verdicts[0].seen, verdicts[0].of, verdicts[0].seen()), (1, 2, "in 1 of 2 seeds".into()));
    assert_eq!(verdicts[0].measured, "overlapping 11.00 (10.00 to 12.00), apart 11.25 (11.00 to 11.50)");
    let table = record.table(crate::columns::Style::Markdown).unwrap();
    assert!(table.contains("| 5.50 (5.00 to 6.00) | 11.00 (10.00 to 12.00) |"), "{table}");
    #[cfg(feature = "plots")]
    {
        let path = place.path().join("plot.png");
        plot(&path, &record).unwrap();
        assert!(fs::read(&path).unwrap().starts_with(b"\x89PNG"));
    }
}

/// The page with the results that come with the library.
fn page() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/studies.md")
}

#[test]
fn recorded_results_are_whole_and_the_page_shows_them() {
    for study in &STUDIES {
        let Some(record) = recorded(study).unwrap() else { continue };
        assert!(record.is_complete() && record.study == study.name, "{}", study.name);
        assert!(!record.data.contains(['/', '\\']), "{}: a name, no path: {}", study.name, record.data);
        assert!(page().parent().unwrap().join(format!("studies/{}.png", study.name)).is_file());
    }
    let expected = "make it again: cargo test -p convnet write_studies_page -- --ignored";
    assert_eq!(fs::read_to_string(page()).unwrap(), document().unwrap(), "{expected}");
}

/// Makes `docs/studies.md` and its plots: `cargo test -p convnet write_studies_page -- --ignored`.
#[test]
#[ignore = "writes the page and the plots of the documentation"]
fn write_studies_page() {
    fs::write(page(), document().unwrap()).unwrap();
    let folder = page().parent().unwrap().join("studies");
    fs::create_dir_all(&folder).unwrap();
    for study in &STUDIES {
        let Some(record) = recorded(study).unwrap() else { continue };
        #[cfg(feature = "plots")]
        plot(&folder.join(format!("{}.png", study.name)), &record).unwrap();
        let _ = record;
    }
}
