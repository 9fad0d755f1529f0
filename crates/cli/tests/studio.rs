//! `convnet studio`, as a user starts it.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, ends, send};
use serde_json::Value;

struct Studio(Child, String);

/// The command with data from which it begins a training that lasts until it is told to leave.
fn with_data(place: &Place) -> Command {
    let mut command =
        place.command(&["studio", "data", "--no-browser", "--port", "0", "--threads", "1", "--drain-grace", "0"]);
    command.env("CONVNET_EPOCHS", "1000000").stderr(Stdio::null());
    command
}

impl Studio {
    fn start(place: &Place) -> Studio {
        let mut process = with_data(place).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Studio(process, address.trim().trim_start_matches("http://").to_owned())
    }

    fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.1).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.1).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn data_begin_a_run_that_ends_with_the_page() {
    let place = Place::with_data();
    let mut studio = Studio::start(&place);
    let end = Instant::now() + PATIENCE;
    let epochs = || studio.get("/v1/runs/data-1")["epochs"].as_array().unwrap().len();
    while epochs() == 0 {
        assert!(Instant::now() < end, "no epoch has ended");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(studio.get("/v1/runs")["runs"][0]["name"], "data-1");
    send("-TERM", &studio.0);
    assert!(ends(&mut studio.0).success());
    nobody_trains(&place);
}

/// The training leaves as it does on a signal: with a checkpoint, and nobody has the folder.
fn nobody_trains(place: &Place) {
    let end = Instant::now() + PATIENCE;
    while common::works_in(place) {
        assert!(Instant::now() < end, "the training goes on");
        thread::sleep(Duration::from_millis(10));
    }
    if place.path("runs/data-1/config.toml").exists() {
        let again = place.run(&["train", "--resume", "runs/data-1", "--max-steps", "1", "--json"]).json();
        assert!(!again["weights_sha256"].as_str().unwrap().is_empty());
    }
}

/// Whatever it is at: its own start, the training's, that of the server.
#[cfg(unix)]
#[test]
fn a_signal_leaves_no_training_behind() {
    use std::os::unix::process::ExitStatusExt;
    for milliseconds in [0, 5, 10, 20, 40, 80, 160, 320] {
        let place = Place::with_data();
        let mut process = with_data(&place).spawn().unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        send("-TERM", &process);
        let status = ends(&mut process);
        let by_itself = matches!(status.code(), Some(0 | 130));
        assert!(by_itself || status.signal() == Some(15), "{milliseconds} ms: {status}");
        nobody_trains(&place);
    }
}

/// Whoever is killed tells nobody.
#[test]
fn a_kill_leaves_no_training_behind() {
    let place = Place::with_data();
    let mut studio = Studio::start(&place);
    studio.0.kill().unwrap();
    studio.0.wait().unwrap();
    nobody_trains(&place);
}

#[test]
fn what_is_neither_a_run_nor_data_is_told() {
    let place = Place::with_data();
    let studio = |arguments: &[&str]| place.run(&[&["studio", "--no-browser", "--port", "0"], arguments].concat());
    studio(&["nothing"]).fails_with(1, "nothing");
    studio(&["data", "data"]).fails_with(2, "data: no folder of a run: expected runs, or data alone to begin one");
    std::fs::create_dir(place.path("empty")).unwrap();
    let empty = studio(&["empty"]);
    assert_eq!(empty.code, Some(1));
    assert!(empty.stderr.contains("empty: no training could be begun: see above"), "{}", empty.stderr);
}
