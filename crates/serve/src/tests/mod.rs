//! The server as its clients see it: over sockets, with requests that are right, wrong, slow and many.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use convnet::StateDict;
use convnet::classifier::{Classifier, Description};
use convnet::data::{Normalization, Preprocessing};
use convnet::exec::Engine;
use convnet::net::Net;
use convnet::predictor::{Input, Predictor};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::config::{Config, Log};
use crate::{Server, Source};

/// A net of an 8×8 picture with a convolution, so that there are maps and windows.
const NET: &str = "name = 'small'\ninput = [1, 8, 8]\n[[layer]]\nname = 'conv'\nop = 'conv2d'\nout_channels = 4\nkernel_size = 3\n\
                   padding = 1\n[[layer]]\nname = 'relu'\nop = 'relu'\n[[layer]]\nop = 'flatten'\n[[layer]]\nname = 'head'\n\
                   op = 'linear'\nout_features = 3\n";

fn classifier(seed: u64) -> Classifier {
    let net = Net::from_toml(NET).unwrap();
    let weights: StateDict = convnet::weights::init(&net, seed);
    let preprocessing = Preprocessing::new([1, 8, 8], Normalization::unit(1));
    let classes = ["cat", "dog", "bird"].map(str::to_owned).to_vec();
    Classifier { description: Description::new(net, preprocessing, classes).unwrap(), weights }
}

/// A server in this process, until it is dropped.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<convnet::Result<()>>>,
}

impl Running {
    fn start(config: Config) -> Running {
        Running::with(config, Source::new("small", || Ok(classifier(1))))
    }

    fn with(config: Config, source: Source) -> Running {
        Running::of(config, [source])
    }

    fn of(config: Config, sources: impl IntoIterator<Item = Source>) -> Running {
        let mut server = Server::new(config, Engine::new(1).unwrap());
        sources.into_iter().for_each(|source| server.add_model(source).unwrap());
        Running::of_server(server)
    }

    fn of_server(server: Server) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || server.run_until(listener, async { drop(stopped.await) }));
        Running { address, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// A request on a connection of its own, with further headers.
    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(&request(method, path, headers, body)).unwrap();
        Answer::read(&mut stream)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.ask("POST", path, &[], body)
    }

    /// Tells it to stop, and waits until it has.
    fn stop(mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(thread::panicking() || matches!(ended, Ok(Ok(()))));
        }
    }
}

fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let has = |name: &str| headers.iter().any(|header| header.to_ascii_lowercase().starts_with(name));
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !has("host:") {
        head += "Host: localhost\r\n";
    }
    if !has("content-length:") && !has("transfer-encoding:") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    headers.iter().for_each(|header| head += &format!("{header}\r\n"));
    [head.as_bytes(), b"\r\n", body].concat()
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> Answer {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Answer::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_ascii_lowercase(), body: bytes.get(end + 4..).unwrap_or_default().to_vec() }
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    fn fails(&self, status: u16, expected: &str) {
        let document: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let message = document["error"].as_str().unwrap_or_default();
        assert!(
            self.status == status && message.contains(expected),
            "expected {status} {expected}: {} {message}",
            self.status
        );
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn quiet() -> Config {
    Config { log: Log::Off, drain_grace: Duration::ZERO, ..Config::default() }
}

/// A picture of 8×8 pixels as a PNG file.
fn png(seed: u8) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let pixels: Vec<u8> = (0..64_u8).map(|i| i.wrapping_mul(seed).wrapping_add(seed)).collect();
    convnet::data::picture::write_png(&path, [1, 8, 8], &pixels).unwrap();
    std::fs::read(path).unwrap()
}

/// What a predictor says.
fn logits(input: Input) -> Vec<f32> {
    let predictor = Predictor::with_engine(classifier(1), &Engine::new(1).unwrap()).unwrap();
    predictor.logits(true).predict(input).unwrap().logits.unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

#[test]
fn pictures_are_answered_with_labels() {
    let server = Running::start(quiet());
    let found = server.post("/v1/models/small/predict?top=2&logits=true", &png(7)).json();
    let expected = logits(Input::bytes(png(7)));
    assert_eq!(floats(&found["predictions"][0]["logits"]), expected);
    let best = (0..3).max_by(|&a, &b| expected[a].total_cmp(&expected[b])).unwrap();
    assert_eq!(found["predictions"][0]["top"][0]["label"], ["cat", "dog", "bird"][best]);
    assert_eq!(found["predictions"][0]["top"].as_array().unwrap().len(), 2);
    assert!(found["seconds"]["total"].as_f64().unwrap() >= found["seconds"]["compute"].as_f64().unwrap());
    // Several, of which one is none.
    let part = |name: &str, content: &[u8]| {
        let head = format!("--xyz\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    let body = [part("a.png", &png(7)), part("b.png", b"no picture"), part("c.png", &png(9)), b"--xyz--\r\n".to_vec()]
        .concat();
    let kind = ["Content-Type: multipart/form-data; boundary=xyz"];
    let found = server.ask("POST", "/v1/models/small/predict?logits=true", &kind, &body).json();
    let names: Vec<&str> = (0..3).map(|i| found["predictions"][i]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a.png", "b.png", "c.png"]);
    assert!(found["predictions"][1]["error"].as_str().unwrap().contains("not a PNG"));
    assert_eq!(floats(&found["predictions"][2]["logits"]), logits(Input::bytes(png(9))));
    let none = [part("b.png", b"no picture"), b"--xyz--\r\n".to_vec()].concat();
    server.ask("POST", "/v1/models/small/predict", &kind, &none).fails(400, "b.png: not a PNG");
    server.ask("POST", "/v1/models/small/predict", &kind, b"--xyz--\r\n").fails(400, "no part");
    server.ask("POST", "/v1/models/small/predict", &kind, b"junk").fails(400, "multipart/form-data");
}

#[test]
fn what_is_wrong_has_its_status() {
    let server = Running::start(Config { max_body: 10_000, max_pixels: 100, ..quiet() });
    let path = "/v1/models/small/predict";
    server.post(path, b"").fails(400, "the body is empty");
    server.post(path, b"no picture").fails(400, "not a PNG");
    server.post("/v1/models/other/predict", &png(1)).fails(404, "no model 'other': expected one of small");
    server.post("/v1/models/%FF/predict", &png(1)).fails(400, "UTF-8");
    server.get("/nothing").fails(404, "no such path");
    server.get(path).fails(405, "GET is not allowed");
    server.post(&format!("{path}?top=0"), &png(1)).fails(400, "expected at least 1");
    server.post(&format!("{path}?tpo=3"), &png(1)).fails(400, "tpo");
    server.ask("POST", path, &["Content-Type: application/json"], b"{}").fails(415, "expected a picture");
    server.ask("POST", path, &["Content-Encoding: gzip"], &png(1)).fails(415, "Content-Encoding");
    server
        .ask("POST", path, &["Content-Length: 1000000000"], b"")
        .fails(413, "1000000000 bytes: expected at most 10000");
    let chunk = format!("{:x}\r\n{}\r\n", 20_000, "x".repeat(20_000));
    server.ask("POST", path, &["Transfer-Encoding: chunked"], chunk.as_bytes()).fails(413, "more bytes");
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("a.png");
    convnet::data::picture::write_png(&large, [1, 11, 10], &[0; 110]).unwrap();
    server.post(path, &std::fs::read(large).unwrap()).fails(413, "10x11 pixels: expected at most 100");
    server.ask("GET", "/v1/models", &["Host: example.org"], b"").fails(403, "Host: expected this machine");
    let foreign = ["Origin: http://example.org"];
    server.ask("POST", path, &foreign, &png(1)).fails(403, "another origin");
    assert_eq!(server.ask("POST", path, &["Origin: http://localhost"], &png(1)).status, 200);
    assert_eq!(server.get("/v1/models").header("x-content-type-options"), Some("nosniff"));
    assert_eq!(server.ask("GET", "/v1/models", &["X-Request-Id: abc"], b"").header("x-request-id"), Some("abc"));
}

#[test]
fn a_token_is_asked_for() {
    let token = "0123456789abcdef".to_owned();
    let server = Running::start(Config { token: Some(token.clone()), ..quiet() });
    for path in ["/v1/models", "/v2", "/metrics", "/openapi.json", "/nothing"] {
        let answer = server.get(path);
        answer.fails(401, "expected the server's token");
        assert_eq!(answer.header("www-authenticate"), Some("bearer"));
        let right = format!("Authorization: Bearer {token}");
        assert_ne!(server.ask("GET", path, &[&right], b"").status, 401);
        server.ask("GET", path, &["Authorization: Bearer 0123456789abcdeg"], b"").fails(401, "token");
    }
    for path in ["/", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
}

fn infer(values: &[f32], count: usize) -> Vec<u8> {
    let input = json!({ "name": "input", "shape": [count, 1, 8, 8], "datatype": "FP32", "data": values });
    json!({ "inputs": [input] }).to_string().into_bytes()
}

fn image(seed: usize) -> Vec<f32> {
    (0..64).map(|i| ((i * 37 + seed * 101) % 97) as f32 / 97.0 - 0.5).collect()
}

#[test]
fn the_inference_protocol_gives_the_predictors_bits() {
    let server = Running::start(quiet());
    let metadata = server.get("/v2/models/small").json();
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 1, 8, 8]));
    assert_eq!(server.get("/v2/models/small/versions/1").json(), metadata);
    server.get("/v2/models/small/versions/2").fails(404, "version 1 answers");
    assert_eq!(server.get("/v2/models/small/ready").json()["ready"], true);
    assert_eq!(server.get("/v2/health/live").json()["live"], true);
    assert_eq!(server.get("/v2").json()["name"], "convnet");
    // As JSON.
    let both = [image(1), image(2)].concat();
    let found = server.post("/v2/models/small/infer", &infer(&both, 2)).json();
    let expected = [logits(Input::array(image(1))), logits(Input::array(image(2)))].concat();
    assert_eq!(found["outputs"][0]["shape"], json!([2, 3]));
    assert_eq!(floats(&found["outputs"][0]["data"]), expected);
    // As bytes.
    let input = json!({ "name": "input", "shape": [2, 1, 8, 8], "datatype": "FP32", "parameters": { "binary_data_size": 512 } });
    let head = json!({ "inputs": [input], "outputs": [{ "name": "logits", "parameters": { "binary_data": true } }] })
        .to_string();
    let body = [head.as_bytes(), &both.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()].concat();
    let length = format!("Inference-Header-Content-Length: {}", head.len());
    let answer = server.ask("POST", "/v2/models/small/infer", &[&length], &body);
    let json_length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let bytes = answer.body[json_length..].as_chunks::<4>().0;
    assert_eq!(bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<f32>>(), expected);
    server.post("/v2/models/small/infer", b"{\"inputs\": []}").fails(400, "expected one, 'input'");
}

#[test]
fn many_at_once_are_answered_with_the_same_bits() {
    let server =
        Running::start(Config { max_delay: Duration::from_millis(2), max_wait: Duration::from_secs(60), ..quiet() });
    let expected: Vec<Vec<f32>> = (0..8).map(|seed| logits(Input::array(image(seed)))).collect();
    thread::scope(|scope| {
        for worker in 0..16 {
            let (server, expected) = (&server, &expected);
            scope.spawn(move || {
                for turn in 0..20 {
                    let seed = (worker + turn) % 8;
                    let found = server.post("/v2/models/small/infer", &infer(&image(seed), 1)).json();
                    assert_eq!(floats(&found["outputs"][0]["data"]), expected[seed]);
                }
            });
        }
    });
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("convnet_batch_pictures_sum"), 320.0);
    assert!(value("convnet_batch_pictures_count") < 320.0, "some went together");
    assert_eq!(value("convnet_in_flight_pictures"), 0.0);
    assert!(
        metrics.contains("convnet_requests_total{route=\"/v2/models/{model}/infer\",method=\"POST\",code=\"200\"} 320")
    );
    assert!(metrics.ends_with("# EOF\n"));
}

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
    server.post("/v1/models/small/explain?layer=cnv", &png(5)).fails(400, "did you mean 'conv'");
    let found = server.post("/v1/models/small/features?layer=relu", &png(5)).json();
    assert_eq!((&found["shape"], found["ranges"].as_array().unwrap().len()), (&json!([4, 8, 8]), 4));
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
    server.post("/v1/models/small/explain", &png(5)).fails(400, "has changed since it was loaded");
}

/// A model whose explanations wait until they are let go, so that the engine is busy as long as a test wants.
struct Held {
    server: Running,
    gate: Arc<Mutex<()>>,
}

impl Held {
    fn start(config: Config) -> Held {
        let gate = Arc::new(Mutex::new(()));
        let (inner, first) = (Arc::clone(&gate), Mutex::new(true));
        let load = move || {
            // The first load is the server's own; the next is an explanation's, on the thread that computes.
            if !std::mem::take(&mut *first.lock().unwrap()) {
                drop(inner.lock().unwrap());
            }
            Ok(classifier(1))
        };
        Held { server: Running::with(config, Source::new("small", load)), gate }
    }

    /// An explanation that has come to the gate.
    fn hold<'a>(&self, scope: &'a thread::Scope<'a, '_>, server: &'a Running) -> thread::ScopedJoinHandle<'a, Answer> {
        let explained = scope.spawn(|| server.post("/v1/models/small/explain", &png(5)));
        thread::sleep(Duration::from_millis(300));
        explained
    }
}

#[test]
fn what_does_not_fit_is_refused_and_what_is_late_is_not_computed() {
    let config = Config { max_queue: 3, max_wait: Duration::from_millis(200), ..quiet() };
    let held = Held::start(config);
    let server = &held.server;
    thread::scope(|scope| {
        let gate = held.gate.lock().unwrap();
        let explained = held.hold(scope, server);
        let waiting: Vec<_> =
            (0..2).map(|_| scope.spawn(|| server.post("/v1/models/small/predict", &png(1)))).collect();
        thread::sleep(Duration::from_millis(100));
        let refused = server.post("/v1/models/small/predict", &png(1));
        refused.fails(503, "3 of 3 pictures are under way");
        assert!(refused.header("retry-after").is_some());
        thread::sleep(Duration::from_millis(300));
        drop(gate);
        assert_eq!(explained.join().unwrap().status, 200);
        waiting.into_iter().for_each(|late| late.join().unwrap().fails(503, "not free within 0.200 s"));
    });
    assert_eq!(server.post("/v1/models/small/predict", &png(1)).status, 200);
    let many = infer(&[image(1), image(2), image(3), image(4)].concat(), 4);
    server.post("/v2/models/small/infer", &many).fails(413, "4 pictures: expected at most 3");
}

#[test]
fn who_has_gone_away_is_not_computed_for() {
    let held = Held::start(Config { max_wait: Duration::from_secs(20), ..quiet() });
    let server = &held.server;
    thread::scope(|scope| {
        let gate = held.gate.lock().unwrap();
        let explained = held.hold(scope, server);
        let mut gone = server.connect();
        gone.write_all(&request("POST", "/v1/models/small/predict", &[], &png(1))).unwrap();
        thread::sleep(Duration::from_millis(200));
        drop(gone);
        thread::sleep(Duration::from_millis(200));
        drop(gate);
        explained.join().unwrap();
    });
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("convnet_batch_pictures_sum 0"), "{metrics}");
    assert!(metrics.contains("convnet_in_flight_pictures 0"), "{metrics}");
}

#[test]
fn what_is_under_way_is_answered_when_the_server_stops() {
    let held =
        Held::start(Config { drain_grace: Duration::from_millis(400), max_wait: Duration::from_secs(20), ..quiet() });
    let Held { mut server, gate } = held;
    let address = server.address;
    let ask = move |path: &'static str, body: Vec<u8>| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&request("POST", path, &[], &body)).unwrap();
        thread::spawn(move || Answer::read(&mut stream))
    };
    let closed = gate.lock().unwrap();
    let explained = ask("/v1/models/small/explain", png(5));
    let predicted = ask("/v1/models/small/predict", png(5));
    thread::sleep(Duration::from_millis(200));
    drop(server.stop.take());
    thread::sleep(Duration::from_millis(150));
    // Not ready, but answering.
    let ready = server.get("/v2/health/ready");
    assert_eq!((ready.status, ready.header("connection")), (503, Some("close")));
    assert_eq!(server.get("/v2/health/live").status, 200);
    thread::sleep(Duration::from_millis(500));
    assert!(TcpStream::connect(address).is_err(), "nothing is accepted any more");
    drop(closed);
    assert_eq!(explained.join().unwrap().status, 200);
    assert_eq!(predicted.join().unwrap().status, 200);
    server.stop();
}

#[test]
fn slow_clients_do_not_keep_others_away() {
    let times = Duration::from_millis(700);
    let config = Config { max_connections: 20, header_timeout: times, body_timeout: times, ..quiet() };
    let server = Running::start(config);
    let start = Instant::now();
    let mut slow: Vec<TcpStream> = (0..60).map(|_| server.connect()).collect();
    for (index, stream) in slow.iter_mut().enumerate() {
        let head = match index % 3 {
            0 => "GET /v2 HTTP/1.1\r\nHost: local",
            1 => "POST /v1/models/small/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nabc",
            _ => "",
        };
        // Where it has been closed for another, that is what is expected.
        let _ = stream.write_all(head.as_bytes());
    }
    for _ in 0..20 {
        assert_eq!(server.post("/v1/models/small/predict", &png(1)).status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    let mut slow_body = server.connect();
    slow_body
        .write_all(b"POST /v1/models/small/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nabc")
        .unwrap();
    Answer::read(&mut slow_body).fails(408, "did not arrive within 0.7 s");
    let mut slow_head = server.connect();
    slow_head.write_all(b"GET /v2 HTTP/1.1\r\nHost: local").unwrap();
    let start = Instant::now();
    Answer::read(&mut slow_head);
    assert!(start.elapsed() < Duration::from_secs(5), "it was closed");
    drop(slow);
    assert_eq!(server.get("/v1/models").status, 200);
}

#[test]
fn the_description_has_every_route_and_no_other() {
    let document: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())))
        .collect();
    let routes = include_str!("api/mod.rs").split(".route(\"").skip(1).map(|rest| {
        let (path, rest) = rest.split_once("\", ").unwrap();
        (path.to_owned(), rest.split('(').next().unwrap().to_owned())
    });
    assert_eq!(described, routes.collect());
    let server = Running::start(quiet());
    let served = server.get("/openapi.json").json();
    assert_eq!(served["components"], document["components"]);
    assert_eq!(served["paths"]["/v2/models/{model}"]["get"]["parameters"][0]["schema"]["enum"], json!(["small"]));
    let page = server.get("/");
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    // Every file that the page names is there.
    let html = String::from_utf8(page.body).unwrap();
    let files: Vec<&str> = html.split("assets/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(!files.is_empty());
    files.iter().for_each(|file| assert_eq!(server.get(&format!("/assets/{file}")).status, 200, "{file}"));
    server.get("/assets/..%2Fopenapi.json").fails(404, "no file");
}

#[test]
fn every_file_of_the_page_is_in_the_program() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("page");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != "index.html").collect();
    names.sort();
    assert_eq!(crate::api::page::names(), names);
}

#[test]
fn names_of_models_are_checked() {
    let mut server = Server::new(quiet(), Engine::new(1).unwrap());
    let source = |name: &str| Source::new(name, || Ok(classifier(1)));
    server.add_model(source("a")).unwrap();
    assert!(server.add_model(source("a")).unwrap_err().to_string().contains("two models"));
    for bad in ["", "a/b", "a\nb"] {
        assert!(server.add_model(source(bad)).unwrap_err().to_string().contains("expected a name"), "{bad}");
    }
    let mut broken = classifier(1);
    broken.weights.get_mut("head.bias").unwrap().data_mut()[0] = f32::NAN;
    let error = server.add_model(Source::new("b", move || Ok(broken.clone()))).unwrap_err();
    assert!(error.to_string().contains("is NaN"), "{error}");
}

/// The page of a run has a script, which its own policy names; the server's does not forbid it.
#[test]
fn runs_are_shown_and_their_reports_are_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run-1");
    std::fs::create_dir(&run).unwrap();
    std::fs::write(run.join("config.toml"), "epochs = 3\n").unwrap();
    std::fs::write(run.join("metrics.jsonl"), "{\"epoch\": 1}\n{\"epoch\": 2}\n{\"ep").unwrap();
    let mut server = Server::new(quiet(), Engine::new(1).unwrap());
    server.add_run(&run).unwrap();
    assert!(server.add_run(&run).unwrap_err().to_string().contains("two runs are called 'run-1'"));
    let server = Running::of_server(server);
    assert_eq!(server.get("/v1/runs").json()["runs"][0]["name"], "run-1");
    let shown = server.get("/v1/runs/run-1").json();
    assert_eq!((&shown["config"]["epochs"], &shown["epochs"]), (&json!(3), &json!([{ "epoch": 1 }, { "epoch": 2 }])));
    let events = String::from_utf8(server.get("/v1/runs/run-1/events").body).unwrap();
    assert!(events.contains("event: epoch") && events.contains("event: end"), "{events}");
    server.get("/v1/runs/run-1/report").fails(404, "no report yet");
    std::fs::write(run.join("report.html"), "<html></html>").unwrap();
    let report = server.get("/v1/runs/run-1/report");
    assert_eq!((report.status, report.header("content-security-policy")), (200, Some("frame-ancestors 'self'")));
}
