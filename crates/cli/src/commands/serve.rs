//! `convnet serve`: a server for trained networks.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use convnet::Error;
use convnet::classifier::Classifier;
use convnet::train::RunFolder;
use convnet::weights::NetChoice;
use convnet_serve::{Config, Log, Server, Source};

use crate::args::{EngineArgs, FittingArgs, at_least_1, tell_notes};
use crate::console::{Console, print};
use crate::interrupt;
use crate::usage::Usage;

/// Shortest token that is taken.
const SHORTEST_TOKEN: usize = 16;

/// Serve trained networks over HTTP: pictures in, labels out, and a page to use them with
///
/// A model is the folder of a run or a file of weights (safetensors, PyTorch's, ONNX), with a name before it if you like. Requests:
/// POST /v1/models/NAME/predict with a picture's bytes or several as multipart/form-data, the Open Inference Protocol (KServe V2)
/// at /v2, /metrics for Prometheus, /openapi.json for the rest; / is a page for people. The first line on stdout is the address.
/// SIGTERM or Ctrl-C: not ready any more, what is under way is answered, exit code 0. SIGHUP: all models are loaded again.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet serve runs/photos-1\n  \
    convnet serve cats=runs/cats-1 birds=birds.onnx --port 9000\n  \
    convnet serve resnet50.pth --model resnet50 --precision bf16 --max-batch 32\n  \
    convnet serve runs/photos-1 --host 0.0.0.0 --token-file token.txt\n  \
    curl --data-binary @cat.jpg http://127.0.0.1:8080/v1/models/photos-1/predict")]
pub(crate) struct Args {
    /// Folders of runs, or files of weights, each with a name before it if it is to have another one than the file's
    #[arg(value_name = "[NAME=]PATH", required = true)]
    models: Vec<Spec>,

    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    fitting: FittingArgs,
}

/// Where a server listens, and what it may use.
#[derive(clap::Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerArgs {
    /// Address to listen on, or a name of one; another than this machine's own needs --token-file or --no-auth
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_parser = address)]
    host: IpAddr,

    /// Port to listen on, 0 for any that is free
    #[arg(short, long, value_name = "N", default_value_t = 8080)]
    port: u16,

    /// File with the token that requests must bring as "Authorization: Bearer TOKEN"
    #[arg(long, value_name = "FILE", conflicts_with = "no_auth")]
    token_file: Option<PathBuf>,

    /// Answer everybody who can reach the address
    #[arg(long)]
    no_auth: bool,

    /// Name under which the server is reached through a proxy, beside this machine's own names; may be given several times
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// Pictures that go through a network at once, at most
    #[arg(long, value_name = "N", value_parser = at_least_1, default_value_t = 16)]
    max_batch: usize,

    /// Milliseconds that the first picture of a batch waits for others while the engine is free; less than --max-wait
    #[arg(long, value_name = "MS", default_value_t = 0)]
    max_delay: u64,

    /// Milliseconds that a request may wait for the engine; what would wait longer is refused with 503
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    max_wait: u64,

    /// Pictures between admission and answer, at most; others are refused with 503
    #[arg(long, value_name = "N", value_parser = at_least_1, default_value_t = 256)]
    max_queue: usize,

    /// Megabytes of a request's body, at most
    #[arg(long, value_name = "MB", value_parser = at_least_1, default_value_t = 64)]
    max_body: usize,

    /// Open connections, at most; beyond them the one that has been idle longest is closed
    #[arg(long, value_name = "N", value_parser = at_least_1, default_value_t = 1024)]
    max_connections: usize,

    /// Seconds for which requests are still accepted after the server was told to stop
    #[arg(long, value_name = "S", default_value_t = 5)]
    drain_grace: u64,

    /// Serve no explanations, features and arithmetic, which need memory of their own while they are asked for
    #[arg(long)]
    no_explain: bool,

    /// What is written to stderr: nothing, starts, stops and failures as text, or these and every request as JSON
    #[arg(long, value_name = "FORM", default_value = "text")]
    log: LogForm,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogForm {
    Off,
    Text,
    Json,
}

/// A model by name.
#[derive(Clone, Debug)]
struct Spec {
    name: String,
    path: PathBuf,
}

impl std::str::FromStr for Spec {
    type Err = String;

    /// `cats=runs/cats-1`, or a path alone; a path with a `=` in it is one where there is such a file.
    fn from_str(text: &str) -> Result<Spec, String> {
        match text.split_once('=') {
            Some((name, path)) if !Path::new(text).exists() => match name.is_empty() || name.contains('/') {
                true => Err("expected a name without '/' before the '='".into()),
                false => Ok(Spec { name: name.to_owned(), path: path.into() }),
            },
            _ => Ok(Spec { name: own_name(Path::new(text)), path: text.into() }),
        }
    }
}

/// What a model is called that nobody has named: its folder, or its file without the extension.
fn own_name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
    name.unwrap_or(whole.as_os_str()).to_string_lossy().into_owned()
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let listening = self.server.listen()?;
        let mut server = self.server.server(&self.engine, console)?;
        for Spec { name, path } in &self.models {
            if path.is_dir() {
                let run = RunFolder::open(path)?;
                server.add_model(Source::new(name, move || Classifier::of_run(&run)))?;
                server.add_run(name, path)?;
            } else {
                server.add_model(self.of_file(name, path, console)?)?;
            }
            console.detail(|| format!("model '{name}': {}", path.display()));
        }
        let names: Vec<&str> = self.models.iter().map(|spec| spec.name.as_str()).collect();
        self.server.run(server, listening, &format!("Serving {}", names.join(", ")), console, |_| Ok(()))
    }

    /// A model of a file of weights. What is to be said of how they were read is said once.
    fn of_file(&self, name: &str, path: &Path, console: &Console) -> anyhow::Result<Source> {
        if !path.exists() && convnet::zoo::find(&path.to_string_lossy()).is_ok() {
            let net = path.display();
            let problem = format!(
                "'{net}' is the name of a network, and there is no such file: expected a file of weights, as in convnet serve \
                 {net}.pth --model {net}"
            );
            return Err(Usage::new(problem).into());
        }
        let (choice, fitting, path) = (self.fitting.choice()?, self.fitting.fitting()?, path.to_owned());
        let open = move || match Classifier::open(&path, &NetChoice::Own, &fitting) {
            // A network is named for the files that do not know theirs.
            Err(error) if knows_no_net(&error) => Classifier::open(&path, &choice, &fitting),
            found => found,
        };
        let (first, notes) = open()?;
        // A log of JSON documents has nothing else in it.
        if !self.server.logs_json() {
            tell_notes(Path::new(name), &notes, console);
        }
        let first = std::sync::Mutex::new(Some(first));
        let take = move || first.lock().ok().and_then(|mut first| first.take());
        Ok(Source::new(name, move || take().map_or_else(|| Ok(open()?.0), Ok)))
    }
}

fn knows_no_net(error: &Error) -> bool {
    use convnet::weights::Problem;
    matches!(error, Error::Weights { problem, .. } if matches!(**problem, Problem::UnknownNet { .. }))
}

impl ServerArgs {
    /// A server without models.
    pub(super) fn server(&self, engine: &EngineArgs, console: &Console) -> anyhow::Result<Server> {
        let token = self.token()?;
        if self.max_delay >= self.max_wait {
            let problem = format!(
                "--max-delay {}: expected less than --max-wait, {} ms, within which computing must begin",
                self.max_delay, self.max_wait
            );
            return Err(Usage::new(problem).into());
        }
        if !self.host.is_loopback() && token.is_none() && !self.no_auth {
            let problem = format!(
                "--host {}: others can reach it: expected --token-file FILE, or --no-auth to answer everybody",
                self.host
            );
            return Err(Usage::new(problem).into());
        }
        let mut config = Config::default();
        config.max_batch = self.max_batch;
        config.max_delay = Duration::from_millis(self.max_delay);
        config.max_wait = Duration::from_millis(self.max_wait);
        config.max_queue = self.max_queue;
        config.max_body = self.max_body.saturating_mul(1 << 20);
        config.max_pending = config.max_pending.max(config.max_body);
        config.max_connections = self.max_connections;
        config.drain_grace = Duration::from_secs(self.drain_grace);
        config.token = token;
        config.allow_hosts.clone_from(&self.allow_host);
        config.explain = !self.no_explain;
        config.log = self.log(console);
        Ok(Server::new(config, engine.engine(console)?))
    }

    fn log(&self, console: &Console) -> Log {
        match self.log {
            _ if console.is_quiet() => Log::Off,
            LogForm::Off => Log::Off,
            LogForm::Text => Log::Text,
            LogForm::Json => Log::Json,
        }
    }

    fn logs_json(&self) -> bool {
        matches!(self.log, LogForm::Json)
    }

    /// Says something on stderr, in the form that the log has.
    pub(super) fn note(&self, text: &str, console: &Console) {
        match self.logs_json() {
            true => self.log(console).info(text),
            false => console.note(text),
        }
    }

    fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(Error::io("reading", path))?;
        let token = text.trim();
        if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = format!("expected a token of at least {SHORTEST_TOKEN} visible ASCII characters");
            return Err(Error::file(path, problem).into());
        }
        Ok(Some(token.to_owned()))
    }

    /// Takes the address before models are loaded, which may take long.
    pub(super) fn listen(&self) -> anyhow::Result<TcpListener> {
        let address = SocketAddr::new(self.host, self.port);
        TcpListener::bind(address).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => {
                let problem =
                    format!("listening on {address}: another program does so: choose another --port, or 0 for any");
                Error::invalid(problem).into()
            }
            ErrorKind::PermissionDenied => {
                let problem = format!("listening on {address}: not permitted: choose a --port of at least 1024");
                Error::invalid(problem).into()
            }
            _ => Error::io("listening on", address.to_string())(error).into(),
        })
    }

    /// Prints the address, calls with it, and serves until the process is told to stop.
    pub(super) fn run(
        &self,
        server: Server,
        listener: TcpListener,
        what: &str,
        console: &Console,
        listening: impl FnOnce(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let address = listener.local_addr().map_err(Error::io("listening on", self.host.to_string()))?;
        let orders = interrupt::hand_over()?;
        let url = format!("http://{address}");
        print(&format!("{url}\n"))?;
        self.note(&format!("{what} at {url} (Ctrl-C stops)"), console);
        listening(&url)?;
        Ok(server.run_ordered(listener, orders)?)
    }
}

/// An address, or the first one of a name: `127.0.0.1`, `localhost`.
fn address(text: &str) -> Result<IpAddr, String> {
    let mut found =
        (text, 0).to_socket_addrs().map_err(|error| format!("expected an address or a name of one: {error}"))?;
    found.next().map(|address| address.ip()).ok_or_else(|| "the name has no address".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_name() {
        assert_eq!(address("10.1.2.3"), Ok(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3))));
        assert!(address("localhost").unwrap().is_loopback());
        assert!(address("::1").unwrap().is_loopback() && address("a b").is_err());
    }

    #[test]
    fn a_model_has_its_own_name_or_the_one_before_it() {
        let spec = |text: &str| text.parse::<Spec>().map(|Spec { name, path }| (name, path.display().to_string()));
        assert_eq!(spec("cats=runs/cats-1"), Ok(("cats".into(), "runs/cats-1".into())));
        assert_eq!(spec("nets/resnet50.pth"), Ok(("resnet50".into(), "nets/resnet50.pth".into())));
        assert!(spec("=a").is_err() && spec("a/b=c").is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lr=0.1");
        std::fs::create_dir(&path).unwrap();
        assert_eq!(spec(path.to_str().unwrap()).unwrap().0, "lr=0.1");
    }
}
