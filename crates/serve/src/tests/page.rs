//! The page, the description of the interface, and the runs that are shown.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;

#[test]
fn the_description_has_every_route_and_no_other() {
    let document: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())))
        .collect();
    let routes = include_str!("../api/mod.rs").split(".route(\"").skip(1).map(|rest| {
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

/// The page of a run has a script, which its own policy names; the server's does not forbid it.
#[test]
fn runs_are_shown_and_their_reports_are_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run-1");
    std::fs::create_dir(&run).unwrap();
    std::fs::write(run.join("config.toml"), "epochs = 3\n").unwrap();
    std::fs::write(run.join("metrics.jsonl"), "{\"epoch\": 1}\n{\"epoch\": 2}\n{\"ep").unwrap();
    let mut server = Server::new(quiet(), Engine::new(1).unwrap());
    server.add_run("run-1", &run).unwrap();
    assert!(server.add_run("run-2", &run).is_ok());
    assert!(server.add_run("run-1", &run).unwrap_err().to_string().contains("two runs are called 'run-1'"));
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
