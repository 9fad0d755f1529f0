//! Downloads of data sets: over HTTPS, checked by size and SHA-256, from several mirrors, resumed where they broke off.
//!
//! A file grows under the name `FILE.part` beside its place, is checked, flushed to disk and then renamed, so that a
//! half-written file never has the real name. A broken connection leaves the part, and the next mirror or the next call
//! goes on from there; a wrong checksum or a full disk removes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use crate::{Error, Result, files};

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Name of the file.
    pub file: &'static str,
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes of the whole.
    pub total: u64,
}

/// A file that is published and will not change.
struct Published {
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const MNIST_MIRRORS: [&str; 2] =
    ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"];

#[rustfmt::skip]
static MNIST: [Published; 4] = [
    Published { name: "train-images-idx3-ubyte.gz", bytes: 9_912_422, sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609" },
    Published { name: "train-labels-idx1-ubyte.gz", bytes: 28_881, sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c" },
    Published { name: "t10k-images-idx3-ubyte.gz", bytes: 1_648_877, sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6" },
    Published { name: "t10k-labels-idx1-ubyte.gz", bytes: 4_542, sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6" },
];

/// Fetches the four files of MNIST (11.6 MB) into `folder`, which is made. Files that are there are left as they are.
///
/// # Errors
/// No mirror answers with the right bytes, another process is downloading the same file, or the disk does not take it.
pub fn mnist(folder: &Path, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    let agent = agent(|config| config.https_only(true));
    MNIST.iter().try_for_each(|file| fetch(&agent, &MNIST_MIRRORS, file, folder, progress))
}

type AgentConfig = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

fn agent(finish: impl FnOnce(AgentConfig) -> AgentConfig) -> Agent {
    let config = Agent::config_builder()
        .user_agent(concat!("convnet/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(30)));
    finish(config).build().new_agent()
}

/// Why one mirror did not do.
enum Failure {
    /// It does not answer, or breaks off: another may.
    Mirror(String),
    /// The disk: no mirror helps.
    Disk(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Disk(error)
    }
}

/// Makes sure that `folder` holds `file`, from the first mirror that has it.
fn fetch(
    agent: &Agent,
    mirrors: &[&str],
    file: &Published,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let (target, part) = (folder.join(file.name), folder.join(format!("{}.part", file.name)));
    if target.is_file() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(Error::io("making the folder", folder))?;
    let mut growing = Part::open(&part)?;
    // Another process may have finished it before the lock was ours.
    if target.is_file() {
        return fs::remove_file(&part).map_err(Error::io("removing", &part));
    }
    let mut failures = Vec::new();
    for mirror in mirrors {
        match growing.complete(agent, mirror, file, progress) {
            Ok(()) => return publish(&growing.file, &part, &target),
            Err(Failure::Mirror(problem)) => failures.push(format!("{mirror}: {problem}")),
            Err(Failure::Disk(error)) => {
                let _ = fs::remove_file(&part);
                return Err(Error::io("writing", part)(error));
            }
        }
    }
    if growing.file.metadata().is_ok_and(|meta| meta.len() == 0) {
        let _ = fs::remove_file(&part);
    }
    let problem =
        format!("cannot be downloaded: {}. Check the network, or put the file here by hand", failures.join("; "));
    Err(Error::file(target, problem))
}

/// Gives a complete file its name, durably.
fn publish(file: &File, part: &Path, target: &Path) -> Result<()> {
    file.sync_all().map_err(Error::io("flushing", part))?;
    fs::rename(part, target).map_err(Error::io("renaming", part))?;
    files::sync_folder(target).map_err(Error::io("flushing", target))
}

/// A file that is being downloaded, locked against other processes.
struct Part {
    file: File,
}

impl Part {
    fn open(path: &Path) -> Result<Part> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = options.map_err(Error::io("opening", path))?;
        match file.try_lock() {
            Ok(()) => Ok(Part { file }),
            Err(fs::TryLockError::WouldBlock) => Err(Error::file(path, "another process is downloading it")),
            Err(fs::TryLockError::Error(error)) => Err(Error::io("locking", path)(error)),
        }
    }

    /// Fetches what is missing from one mirror, and checks the whole. A part that turns out to be wrong is emptied.
    fn complete(
        &mut self,
        agent: &Agent,
        mirror: &str,
        file: &Published,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        let (mut have, mut hash) = self.resume(file.bytes)?;
        let mut body = None;
        if have < file.bytes {
            let response = request(agent, &format!("{mirror}{}", file.name), have)?;
            if have > 0 && !continues(&response, have) {
                (have, hash) = self.empty()?;
            }
            body = Some(response.into_body().into_reader().take(file.bytes - have + 1));
        }
        let mut buffer = vec![0; 64 << 10];
        while let Some(body) = &mut body {
            progress(Progress { file: file.name, bytes: have, total: file.bytes });
            let read = body.read(&mut buffer).map_err(|error| Failure::Mirror(error.to_string()))?;
            if read == 0 {
                break;
            }
            self.file.write_all(&buffer[..read])?;
            hash.update(&buffer[..read]);
            have += read as u64;
        }
        if have < file.bytes {
            return Err(Failure::Mirror(format!("broke off after {have} of {} bytes", file.bytes)));
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if have > file.bytes || found != file.sha256 {
            self.empty()?;
            return Err(Failure::Mirror(format!("the file has SHA-256 {found}, expected {}", file.sha256)));
        }
        Ok(())
    }

    /// How many bytes an earlier attempt left, and their hash; the file is at its end then.
    fn resume(&mut self, total: u64) -> io::Result<(u64, Sha256)> {
        if self.file.metadata()?.len() > total {
            return self.empty();
        }
        self.file.seek(SeekFrom::Start(0))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        let mut have = 0;
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok((have, hash)),
                read => hash.update(&buffer[..read]),
            }
            have = self.file.stream_position()?;
        }
    }

    fn empty(&mut self) -> io::Result<(u64, Sha256)> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        Ok((0, Sha256::new()))
    }
}

fn request(agent: &Agent, url: &str, have: u64) -> Result<Response<ureq::Body>, Failure> {
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    request.call().map_err(|error| Failure::Mirror(error.to_string()))
}

/// Whether a response goes on after `have` bytes, as it was asked to, instead of beginning anew.
fn continues(response: &Response<ureq::Body>, have: u64) -> bool {
    let range = response.headers().get("Content-Range").and_then(|value| value.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;

    const CONTENT: &[u8] = b"abc";
    const FILE: Published = Published {
        name: "file.gz",
        bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };

    /// What a server on the loopback does with a request.
    #[derive(Clone, Copy)]
    enum Manner {
        Serve,
        IgnoreRange,
        BreakOff,
        Refuse,
        Lie,
        SendTooMuch,
    }

    /// Starts a server; gives its address and the ranges that it was asked for.
    fn server(manner: Manner) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|stream| answer(stream, manner, &log));
            }
        });
        (address, asked)
    }

    fn answer(mut stream: TcpStream, manner: Manner, log: &Mutex<Vec<String>>) -> io::Result<()> {
        let mut range = String::new();
        for line in
            BufReader::new(stream.try_clone()?).lines().map_while(Result::ok).take_while(|line| !line.is_empty())
        {
            if let Some((_, value)) = line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("range")) {
                range = value.into();
            }
        }
        log.lock().unwrap().push(range.clone());
        let start = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
        let (status, body, length) = match manner {
            Manner::Serve if start > 0 => {
                (format!("206 Partial\r\nContent-Range: bytes {start}-2/3"), &CONTENT[start..], 3 - start)
            }
            Manner::Serve | Manner::IgnoreRange => ("200 OK".into(), CONTENT, 3),
            Manner::BreakOff => ("200 OK".into(), &CONTENT[..2], 3),
            Manner::Refuse => ("404 Not Found".into(), &b""[..], 0),
            Manner::Lie => ("200 OK".into(), &b"xyz"[..], 3),
            Manner::SendTooMuch => ("200 OK".into(), &b"abcd"[..], 4),
        };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
        stream.write_all(body)
    }

    fn fetch_from(mirrors: &[&str], folder: &Path) -> Result<Vec<Progress>> {
        let agent = agent(|config| config.proxy(None));
        let mut seen = Vec::new();
        fetch(&agent, mirrors, &FILE, folder, &mut |progress| seen.push(progress)).map(|()| seen)
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_arrives_whole_and_is_fetched_once() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("cache/mnist");
        let (mirror, asked) = server(Manner::Serve);
        let seen = fetch_from(&[&mirror], &folder).unwrap();
        assert_eq!(seen.last(), Some(&Progress { file: "file.gz", bytes: 3, total: 3 }));
        assert_eq!(fs::read(folder.join("file.gz")).unwrap(), CONTENT);
        assert_eq!(names(&folder), ["file.gz"]);
        fetch_from(&[&mirror], &folder).unwrap();
        assert_eq!((asked.lock().unwrap().len(), names(&folder).len()), (1, 1));
    }

    #[test]
    fn the_next_mirror_goes_on_where_one_broke_off() {
        let folder = tempfile::tempdir().unwrap();
        let (broken, _) = server(Manner::BreakOff);
        let (refusing, _) = server(Manner::Refuse);
        let message = fetch_from(&[&broken, &refusing], folder.path()).unwrap_err().to_string();
        assert!(message.contains("cannot be downloaded") && message.contains("404"), "{message}");
        assert_eq!(names(folder.path()), ["file.gz.part"]);
        let (mirror, asked) = server(Manner::Serve);
        fetch_from(&[&mirror], folder.path()).unwrap();
        assert_eq!(*asked.lock().unwrap(), ["bytes=2-"]);
        assert_eq!(fs::read(folder.path().join("file.gz")).unwrap(), CONTENT);
    }

    #[test]
    fn a_mirror_without_ranges_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file.gz.part"), "a").unwrap();
        fetch_from(&[&server(Manner::IgnoreRange).0], folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join("file.gz")).unwrap(), CONTENT);
    }

    #[test]
    fn wrong_bytes_leave_nothing_behind() {
        for manner in [Manner::Lie, Manner::SendTooMuch, Manner::Refuse] {
            let folder = tempfile::tempdir().unwrap();
            let error = fetch_from(&[&server(manner).0], folder.path());
            assert!(matches!(error, Err(Error::File { .. })));
            assert!(names(folder.path()).is_empty());
            let (mirror, _) = server(Manner::Serve);
            fetch_from(&[&server(manner).0, &mirror], folder.path()).unwrap();
        }
    }

    #[test]
    fn wrong_parts_are_replaced() {
        for left in ["xyz", "longer than the file", "x"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("file.gz.part"), left).unwrap();
            let (mirror, _) = server(Manner::Serve);
            fetch_from(&[&mirror, &mirror], folder.path()).unwrap();
            assert_eq!(names(folder.path()), ["file.gz"]);
        }
    }

    #[test]
    fn two_downloads_of_a_file_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Part::open(&folder.path().join("file.gz.part")).unwrap();
        let message = fetch_from(&["http://127.0.0.1:1/"], folder.path()).unwrap_err().to_string();
        assert!(message.contains("another process is downloading it"), "{message}");
    }

    #[test]
    fn plain_http_is_refused_for_real() {
        let folder = tempfile::tempdir().unwrap();
        let (mirror, asked) = server(Manner::Serve);
        let agent = agent(|config| config.https_only(true).proxy(None));
        assert!(fetch(&agent, &[&mirror], &FILE, folder.path(), &mut |_| ()).is_err());
        assert!(asked.lock().unwrap().is_empty());
    }
}
