//! The server as its clients see it: over sockets, with requests that are right, wrong, slow and many.

mod explain;
mod load;
mod page;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use convnet::StateDict;
use convnet::classifier::{Classifier, Description};
use convnet::data::{Normalization, Preprocessing};
use convnet::exec::Engine;
use convnet::net::Net;
use convnet::predictor::{Input, Predictor};
use serde_json::{Value, json};

use crate::config::{Config, Log};
use crate::{Handle, Order, Server, Source, orders};

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
    handle: Handle,
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
        let (handle, orders) = orders();
        let thread = thread::spawn(move || server.run_ordered(listener, orders));
        Running { address, handle, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        // Long, so that a machine that stands still for a while fails no test.
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
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
        self.handle.give(Order::Stop);
        self.thread.take().unwrap().join().unwrap().unwrap();
        assert!(!self.handle.give(Order::Stop), "nobody obeys any more");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.give(Order::Stop);
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
    /// What ended it before its end.
    error: Option<std::io::Error>,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> Answer {
        let mut bytes = Vec::new();
        let error = stream.read_to_end(&mut bytes).err();
        Answer { error, ..Answer::parse(&bytes) }
    }

    fn parse(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = bytes.get(end + 4..).unwrap_or_default().to_vec();
        Answer { status, head: head.to_ascii_lowercase(), body, error: None }
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
            "expected {status} {expected}: {} {message} {:?}",
            self.status,
            self.error
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
    server.post(&format!("{path}?top=0"), &png(1)).fails(400, "top: expected a whole number of at least 1, got '0'");
    server
        .post(&format!("{path}?tpo=3"), &png(1))
        .fails(400, "unknown parameter 'tpo': expected top, logits, strict, timeout");
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
    // A proxy's name, which the server sees as the host, or in the page's origin alone.
    let proxied = Running::start(Config { allow_hosts: vec!["models.example.org".into()], ..quiet() });
    let [host, origin] = ["Host: models.example.org", "Origin: https://models.example.org"];
    assert_eq!(proxied.ask("POST", path, &[host, origin], &png(1)).status, 200);
    assert_eq!(proxied.ask("POST", path, &[origin], &png(1)).status, 200);
    proxied.ask("POST", path, &foreign, &png(1)).fails(403, "another origin");
    proxied.ask("POST", path, &["Host: example.org"], &png(1)).fails(403, "--allow-host");
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
        let lower = format!("authorization: bearer {token}");
        assert_ne!(server.ask("GET", path, &[&lower], b"").status, 401);
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
    server
        .post("/v2/repository/models/small/load", br#"{"parameters": {"config": "{}"}}"#)
        .fails(400, "parameters: expected none");
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

/// Numbers that are finite, but whose sums are not, as `convnet predict --npy` tells of them.
#[test]
fn outputs_that_are_no_numbers_are_told() {
    let server = Running::start(quiet());
    server.post("/v2/models/small/infer", &infer(&[3e38; 64], 1)).fails(400, "the net's output for class 'cat' is ");
    let both = [image(1), vec![3e38; 64]].concat();
    server.post("/v2/models/small/infer", &infer(&both, 2)).fails(400, "the net's output for class");
    assert_eq!(server.post("/v2/models/small/infer", &infer(&image(1), 1)).status, 200);
}

#[test]
fn times_in_which_nothing_could_be_answered_are_refused() {
    let check = |config: Config| config.check().unwrap_err().to_string();
    assert!(check(Config { max_wait: Duration::ZERO, ..quiet() }).contains("max_wait: expected more than 0"));
    let config = Config { max_delay: Duration::from_secs(2), ..quiet() };
    assert!(check(config).contains("max_delay: expected less than max_wait, 1s, got 2s"));
    assert!(quiet().check().is_ok());
}
