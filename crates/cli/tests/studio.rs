//! `convnet studio`, as a user starts it.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::Place;
use serde_json::Value;

struct Studio(Child, String);

impl Studio {
    fn start(place: &Place, arguments: &[&str]) -> Studio {
        let mut command = place.command(&["studio", "--no-browser", "--port", "0", "--threads", "1"]);
        // What is begun lasts until it is told to leave.
        command.args(arguments).env("CONVNET_EPOCHS", "1000000").stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Studio(process, address.trim().trim_start_matches("http://").to_owned())
    }

    fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.1).unwrap();
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
    let mut studio = Studio::start(&place, &["data"]);
    let end = Instant::now() + Duration::from_secs(120);
    let epochs = || studio.get("/v1/runs/data-1")["epochs"].as_array().unwrap().len();
    while epochs() == 0 {
        assert!(Instant::now() < end, "no epoch has ended");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(studio.get("/v1/runs")["runs"][0]["name"], "data-1");
    let told = Command::new("kill").arg(studio.0.id().to_string()).status().unwrap();
    assert!(told.success() && studio.0.wait().unwrap().success());
    // The training has left as it does on a signal: with a checkpoint, and nobody has the folder.
    let again = place.run(&["train", "--resume", "runs/data-1", "--max-steps", "1", "--json"]).json();
    assert!(!again["weights_sha256"].as_str().unwrap().is_empty());
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
