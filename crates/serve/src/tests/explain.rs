//! Explanations, and models that are loaded again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;

#[test]
fn explanations_features_and_arithmetic_are_served() {
    let server = Running::start(quiet());
    let found = server.post("/v1/models/small/explain?class=dog&layer=conv", &png(5)).json();
    assert_eq!(
        (&found["method"], &found["label"], &found["size"]),
        (&json!("grad-cam"), &json!("dog"), &json!([8, 8]))
    );
    assert_eq!(found["values"].as_array().unwrap().len(), 64);
    server.post("/v1/models/small/explain?method=grad", &png(5)).fails(400, "unknown method 'grad'");
    server.post("/v1/models/small/explain?class=cow", &png(5)).fails(400, "unknown class 'cow'");
    server.post("/v1/models/small/explain?class=cat&class_index=1", &png(5)).fails(400, "class or class_index");
    server.post("/v1/models/small/explain?class_index=3", &png(5)).fails(400, "below 3");
    server.post("/v1/models/small/unit?layer=conv&channel=-1", &png(5)).fails(400, "channel: expected a whole number");
    server.post("/v1/models/small/features", &png(5)).fails(400, "layer: expected the name of one");
    server.post("/v1/models/small/explain?layer=cnv", &png(5)).fails(400, "did you mean 'conv'");
    let found = server.post("/v1/models/small/features?layer=relu", &png(5)).json();
    assert_eq!((&found["shape"], found["ranges"].as_array().unwrap().len()), (&json!([4, 8, 8]), 4));
    let numbers = BASE64_STANDARD.decode(found["numbers"].as_str().unwrap()).unwrap();
    let least = numbers.as_chunks::<4>().0[..64].iter().map(|bytes| f32::from_le_bytes(*bytes)).reduce(f32::min);
    assert_eq!(f64::from(least.unwrap()), found["ranges"][0][0].as_f64().unwrap());
    let found = server.post("/v1/models/small/features?layer=head", &png(5)).json();
    assert_eq!(floats(&found["values"]), logits(Input::bytes(png(5))));
    let unit = server.post("/v1/models/small/unit?layer=conv&channel=2&row=0&column=3", &png(5)).json();
    let group = &unit["groups"][0];
    assert_eq!(group["values"][0], Value::Null, "padding");
    let products = (0..9).map(|i| group["values"][i].as_f64().unwrap_or(0.0) * group["weights"][i].as_f64().unwrap());
    let result = products.sum::<f64>() + unit["constants"][0]["value"].as_f64().unwrap();
    assert!((result - unit["value"].as_f64().unwrap()).abs() < 1e-5, "{unit}");
    assert_eq!(unit["field"], json!({ "rows": [0, 2], "columns": [2, 5] }));
    server.post("/v1/models/small/unit?layer=conv&channel=9", &png(5)).fails(400, "channel: expected below 4, got 9");
    server.post("/v1/models/small/unit?layer=conv&channel=1&row=1", &png(5)).fails(400, "row and column, or neither");
    let found = server.post("/v1/models/small/preprocess", &png(5)).json();
    assert_eq!((&found["size"], found["rgb"].as_str().unwrap().len()), (&json!([8, 8]), 256));
    assert_eq!((&found["source"], &found["resize"]), (&json!([8, 8]), &Value::Null), "it has the network's size");
    let folder = tempfile::tempdir().unwrap();
    let wide = folder.path().join("a.png");
    convnet::data::picture::write_png(&wide, [1, 10, 20], &[7; 200]).unwrap();
    let found = server.post("/v1/models/small/preprocess", &std::fs::read(wide).unwrap()).json();
    let facts = [&found["source"], &found["resize"], &found["interpolation"]];
    assert_eq!(facts, [&json!([10, 20]), &json!(9), &json!("bilinear")]);
    let model = server.get("/v1/models/small").json();
    assert_eq!((&model["classes"], model["layers"].as_array().unwrap().len()), (&json!(["cat", "dog", "bird"]), 5));
    assert!(String::from_utf8(server.get("/v1/models/small/graph.svg").body).unwrap().contains("data-layer=\"conv\""));
    assert!(server.get("/v1/lecture?lang=ko").json()["rows"].as_array().unwrap().len() >= 15);
    assert_eq!(server.get("/v1/runs").json(), json!({ "runs": [] }));
    server.get("/v1/runs/x").fails(404, "no run is shown");
    let without = Running::start(Config { explain: false, ..quiet() });
    without.post("/v1/models/small/explain", &png(5)).fails(404, "switched off");
}

#[test]
fn a_model_is_loaded_again_beside_the_one_that_answers() {
    let next: Arc<Mutex<Option<u64>>> = Arc::new(Mutex::new(Some(1)));
    let source = Arc::clone(&next);
    let load = move || match *source.lock().unwrap() {
        Some(seed) => Ok(classifier(seed)),
        None => Err(convnet::Error::file("weights.safetensors", "damaged")),
    };
    let server = Running::with(quiet(), Source::new("small", load));
    let before = server.post("/v2/models/small/infer", &infer(&image(1), 1)).json();
    *next.lock().unwrap() = None;
    server
        .post("/v2/repository/models/small/load", b"")
        .fails(400, "the old one answers: weights.safetensors: damaged");
    assert_eq!(server.post("/v2/models/small/infer", &infer(&image(1), 1)).json(), before);
    *next.lock().unwrap() = Some(2);
    // Others are answered meanwhile, with one version or the other.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..20).for_each(|_| {
                    server.post("/v2/models/small/infer", &infer(&image(1), 1)).json();
                });
            });
        }
        assert_eq!(server.post("/v2/repository/models/small/load", b"").json()["version"], "2");
    });
    let after = server.post("/v2/models/small/infer", &infer(&image(1), 1)).json();
    assert_eq!(after["model_version"], "2");
    assert_ne!(after["outputs"], before["outputs"]);
    assert_eq!(server.post("/v2/repository/index", b"").json()[0]["version"], "2");
    // Explanations are of the version that answers: the source's weights have changed since.
    *next.lock().unwrap() = Some(3);
    server.post("/v1/models/small/explain", &png(5)).fails(409, "have changed since it was loaded: load it again");
}

/// Classes by name and by number, where names are numbers.
#[test]
fn a_class_is_chosen_by_name_or_by_number() {
    let load = || {
        let Classifier { description, weights } = classifier(1);
        let preprocessing = Preprocessing::new([1, 8, 8], Normalization::unit(1));
        let classes = ["1", "2", "0"].map(str::to_owned).to_vec();
        Ok(Classifier { description: Description::new(description.net().clone(), preprocessing, classes)?, weights })
    };
    let server = Running::with(quiet(), Source::new("small", load));
    let label = |class: &str| {
        let found = server.post(&format!("/v1/models/small/explain?method=saliency&{class}"), &png(5)).json();
        (found["class"].as_u64().unwrap(), found["label"].as_str().unwrap().to_owned())
    };
    assert_eq!(label("class=1"), (0, "1".into()));
    assert_eq!(label("class_index=1"), (1, "2".into()));
    assert_eq!(label("class=%231"), (1, "2".into()));
    assert_eq!(label("class_index=0"), (0, "1".into()));
}

#[test]
fn a_model_follows_its_files() {
    let written = Arc::new(AtomicU64::new(0));
    let [for_load, for_stamp] = [Arc::clone(&written), Arc::clone(&written)];
    let load = move || Ok(classifier(for_load.load(Ordering::SeqCst)));
    let source = Source::new("small", load).following(move || match for_stamp.load(Ordering::SeqCst) {
        0 => None,
        seed => Some(seed),
    });
    let server = Running::with(quiet(), source);
    server.get("/v1/models/small").fails(404, "there is none");
    let wait_for = |version: u64| {
        for _ in 0..100 {
            let found = server.get("/v1/models").json();
            if found["models"][0]["version"] == version {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("version {version} does not answer");
    };
    written.store(1, Ordering::SeqCst);
    wait_for(1);
    assert_eq!(server.post("/v1/models/small/predict", &png(5)).status, 200);
    written.store(2, Ordering::SeqCst);
    // An explanation does not wait until the server looks again.
    let found = server.post("/v1/models/small/explain", &png(5)).json();
    assert!(found["version"] == 2 || found["version"] == 1, "{found}");
    wait_for(2);
    assert_eq!(server.post("/v1/models/small/features?layer=conv", &png(5)).json()["version"], 2);
}

/// A client that goes away while a model is loaded again does not leave it half done.
#[test]
fn a_reload_ends_without_its_client() {
    let (seed, gate) = (Arc::new(AtomicU64::new(1)), Arc::new(Mutex::new(())));
    let (inner, wait) = (Arc::clone(&seed), Arc::clone(&gate));
    let load = move || {
        drop(wait.lock().unwrap());
        Ok(classifier(inner.fetch_add(1, Ordering::SeqCst)))
    };
    let server = Running::with(quiet(), Source::new("small", load));
    let closed = gate.lock().unwrap();
    let mut gone = server.connect();
    gone.write_all(&request("POST", "/v2/repository/models/small/load", &[], b"")).unwrap();
    thread::sleep(Duration::from_millis(200));
    drop(gone);
    thread::sleep(Duration::from_millis(200));
    drop(closed);
    assert_eq!(server.post("/v2/repository/models/small/load", b"").json()["version"], "3");
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("convnet_model_version{model=\"small\"} 3"), "{metrics}");
}

/// As by SIGHUP.
#[test]
fn an_order_loads_models_again() {
    let seed = AtomicU64::new(1);
    let load = move || Ok(classifier(seed.fetch_add(1, Ordering::SeqCst)));
    let server = Running::with(quiet(), Source::new("small", load));
    assert!(server.handle.give(Order::Reload));
    let end = std::time::Instant::now() + Duration::from_secs(120);
    while server.post("/v1/models/small/predict", &png(5)).json()["version"] != 2 {
        assert!(std::time::Instant::now() < end, "it was not loaded again");
        thread::sleep(Duration::from_millis(10));
    }
    server.stop();
}
