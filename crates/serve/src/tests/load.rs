//! Many requests, slow ones, clients that go away, and the end of the server.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

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
    let config = Config { max_queue: 3, max_wait: Duration::from_millis(1500), ..quiet() };
    let held = Held::start(config);
    let server = &held.server;
    thread::scope(|scope| {
        let gate = held.gate.lock().unwrap();
        let explained = held.hold(scope, server);
        let waiting: Vec<_> =
            (0..2).map(|_| scope.spawn(|| server.post("/v1/models/small/predict", &png(1)))).collect();
        thread::sleep(Duration::from_millis(300));
        let refused = server.post("/v1/models/small/predict", &png(1));
        refused.fails(503, "3 of 3 pictures are under way");
        assert!(refused.header("retry-after").is_some());
        // They are told in time, though the engine is not free.
        waiting.into_iter().for_each(|late| late.join().unwrap().fails(503, "not free within 1.500 s"));
        let start = Instant::now();
        let hurried = server.post("/v1/models/small/predict?timeout=50", &png(1));
        hurried.fails(408, "could not begin within the request's timeout of 0.050 s");
        assert!(start.elapsed() < Duration::from_secs(2));
        drop(gate);
        assert_eq!(explained.join().unwrap().status, 200);
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
        Held::start(Config { drain_grace: Duration::from_millis(1500), max_wait: Duration::from_secs(20), ..quiet() });
    let Held { server, gate } = held;
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
    assert!(server.handle.give(Order::Stop));
    thread::sleep(Duration::from_millis(150));
    // Not ready, but answering.
    let ready = server.get("/v2/health/ready");
    assert_eq!((ready.status, ready.header("connection")), (503, Some("close")));
    assert_eq!(server.get("/v2/health/live").status, 200);
    thread::sleep(Duration::from_millis(1800));
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

/// A model that takes some milliseconds for a picture, however fast the machine is.
fn slow() -> Source {
    const NET: &str = "name = 'slow'\ninput = [1, 64, 64]\n[[layer]]\nname = 'conv'\nop = 'conv2d'\nout_channels = 24\n\
                       kernel_size = 5\npadding = 2\n[[layer]]\nname = 'again'\nop = 'conv2d'\nout_channels = 24\n\
                       kernel_size = 5\npadding = 2\n[[layer]]\nop = 'flatten'\n[[layer]]\nname = 'head'\nop = 'linear'\n\
                       out_features = 3\n";
    Source::new("slow", || {
        let net = Net::from_toml(NET).unwrap();
        let weights = convnet::weights::init(&net, 1);
        let preprocessing = Preprocessing::new([1, 64, 64], Normalization::unit(1));
        let classes = ["cat", "dog", "bird"].map(str::to_owned).to_vec();
        Ok(Classifier { description: Description::new(net, preprocessing, classes)?, weights })
    })
}

/// A request whose pictures take longer than any may wait is computed when nothing else is.
#[test]
fn a_request_that_has_begun_is_finished() {
    const PICTURES: usize = 200;
    let server = Running::with(Config { max_batch: 1, max_wait: Duration::from_millis(300), ..quiet() }, slow());
    let data = vec![0; PICTURES * 64 * 64];
    let input = json!({ "name": "input", "shape": [PICTURES, 1, 64, 64], "datatype": "FP32", "data": data });
    let asked = json!({ "inputs": [input] }).to_string().into_bytes();
    // Where the machine is busy the first picture may come too late.
    let answered = (0..5).any(|_| server.post("/v2/models/slow/infer", &asked).status == 200);
    assert!(answered, "no request was answered");
}

/// Pictures do not wait for the end of an explanation, and nobody waits for one whose client has gone.
#[test]
fn an_explanation_lets_pictures_pass_and_is_stopped() {
    let config = Config { max_wait: Duration::from_secs(60), max_batch: 1, ..quiet() };
    let server = Running::with(config, slow());
    let path = "/v1/models/slow/explain?method=occlusion";
    // How long it takes by itself.
    let start = Instant::now();
    server.post(path, &png(5)).json();
    let alone = start.elapsed();
    thread::scope(|scope| {
        let explained = scope.spawn(|| server.post(path, &png(5)));
        thread::sleep(alone / 4);
        server.post("/v1/models/slow/predict", &png(1)).json();
        assert!(!explained.is_finished(), "the picture has waited for the end of the explanation");
        explained.join().unwrap().json();
    });
    let mut gone = server.connect();
    gone.write_all(&request("POST", path, &[], &png(5))).unwrap();
    thread::sleep(alone / 4);
    drop(gone);
    let start = Instant::now();
    server.post("/v1/models/slow/features?layer=head", &png(1)).json();
    assert!(start.elapsed() < alone.max(Duration::from_secs(2)) * 2 / 3, "{:?} of {alone:?}", start.elapsed());
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("convnet_task_seconds_count{kind=\"occlusion\"} 3"), "{metrics}");
}

/// The engine is busy with something that does not end, and the server ends all the same.
#[test]
fn the_server_ends_though_the_engine_does_not() {
    let config = Config {
        drain_timeout: Duration::from_millis(200),
        engine_timeout: Duration::from_millis(200),
        max_wait: Duration::from_secs(20),
        ..quiet()
    };
    let Held { server, gate } = Held::start(config);
    let closed = gate.lock().unwrap();
    let mut stream = server.connect();
    stream.write_all(&request("POST", "/v1/models/small/explain", &[], &png(5))).unwrap();
    thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    drop(closed);
}

/// A client that does not read its answer loses it, and the room that it has held is given back.
#[test]
fn an_answer_that_nobody_reads_is_given_up() {
    let config = Config { write_timeout: Duration::from_millis(500), max_queue: 4000, ..quiet() };
    let server = Running::with(
        Config { max_wait: Duration::from_secs(60), ..config },
        Source::new("small", || Ok(classifier(1))),
    );
    let many: Vec<f32> = (0..4000).flat_map(image).collect();
    let body = infer(&many, 4000);
    let lazy: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = server.connect();
            // One that finds no room is answered before it has sent everything.
            let _ = stream.write_all(&request("POST", "/v2/models/small/infer", &[], &body));
            stream
        })
        .collect();
    let metric = |name: &str| {
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let start = Instant::now();
    while metric("convnet_in_flight_pictures") > 0.0 || metric("convnet_batch_pictures_sum") < 4000.0 {
        assert!(start.elapsed() < Duration::from_secs(30), "the room is not given back");
        thread::sleep(Duration::from_millis(100));
    }
    drop(lazy);
}
