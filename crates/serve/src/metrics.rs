//! What `/metrics` says, in the OpenMetrics text form.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Names and values of a metric's labels.
type Labels = Vec<(&'static str, String)>;

/// Counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram>,
    queue_seconds: Histogram,
    compute_seconds: Histogram,
    task_seconds: Family<Labels, Histogram>,
    batch_pictures: Histogram,
    shed: Family<Labels, Counter>,
    versions: Family<Labels, Gauge>,
    in_flight: Gauge,
    queued: Gauge,
    pub(crate) connections: Gauge,
    ready: Gauge,
    registry: Registry,
}

/// Buckets from a tenth of a millisecond to 26 seconds.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 2.0, 19))
}

impl Metrics {
    pub(crate) fn new(isa: &str, threads: usize, max_batch: usize) -> Metrics {
        let (requests, shed, versions) = (Family::default(), Family::default(), Family::default());
        let seconds = Family::<Labels, Histogram>::new_with_constructor(times);
        let task_seconds = Family::<Labels, Histogram>::new_with_constructor(times);
        let (queue_seconds, compute_seconds) = (times(), times());
        let sizes = (0..=max_batch.max(1).ilog2()).map(|exponent| f64::from(1_u32 << exponent.min(31)));
        let batch_pictures = Histogram::new(sizes);
        let [in_flight, queued, connections, ready]: [Gauge; 4] = std::array::from_fn(|_| Gauge::default());
        let mut registry = Registry::with_prefix("convnet");
        registry.register("requests", "Answers by route and status", Family::clone(&requests));
        registry.register("request_seconds", "From a request's headers to its answer, by route", seconds.clone());
        registry.register("queue_seconds", "From the queue to the engine, by picture", queue_seconds.clone());
        registry.register("compute_seconds", "Time of the engine, by batch of pictures", compute_seconds.clone());
        let tasks = "Time of the engine for explanations, features and the arithmetic of units, by kind";
        registry.register("task_seconds", tasks, task_seconds.clone());
        registry.register("batch_pictures", "Pictures of a batch", batch_pictures.clone());
        registry.register("shed", "Requests refused with 503, by reason", Family::clone(&shed));
        registry.register("model_version", "Version of each model that answers", Family::clone(&versions));
        registry.register("in_flight_pictures", "Pictures between admission and answer", in_flight.clone());
        registry.register("queued_jobs", "Pictures and tasks that wait for the engine", queued.clone());
        registry.register("connections", "Open connections", connections.clone());
        registry.register("ready", "1 while the server is ready, 0 while it stops", ready.clone());
        let build = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("isa", isa.to_owned()),
            ("threads", threads.to_string()),
        ];
        registry.register("build", "The server", Info::new(build));
        Metrics {
            requests,
            seconds,
            queue_seconds,
            compute_seconds,
            task_seconds,
            batch_pictures,
            shed,
            versions,
            in_flight,
            queued,
            connections,
            ready,
            registry,
        }
    }

    /// A request that has been answered.
    pub(crate) fn request(&self, route: &str, method: &str, status: u16, taken: Duration) {
        let route = ("route", route.to_owned());
        let labels = vec![route.clone(), ("method", method.to_owned()), ("code", status.to_string())];
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&vec![route]).observe(taken.as_secs_f64());
    }

    /// A batch that the engine has computed.
    pub(crate) fn batch(&self, pictures: usize, taken: Duration) {
        self.batch_pictures.observe(pictures as f64);
        self.compute_seconds.observe(taken.as_secs_f64());
    }

    /// A task that the engine has done, to its end or not.
    pub(crate) fn task(&self, kind: &'static str, taken: Duration) {
        self.task_seconds.get_or_create(&vec![("kind", kind.to_owned())]).observe(taken.as_secs_f64());
    }

    /// A picture that has waited.
    pub(crate) fn queued(&self, waited: Duration) {
        self.queue_seconds.observe(waited.as_secs_f64());
    }

    /// A request that was refused because too much is under way.
    pub(crate) fn shed(&self, reason: &'static str) {
        self.shed.get_or_create(&vec![("reason", reason.to_owned())]).inc();
    }

    /// The version of a model that answers.
    pub(crate) fn version(&self, model: &str, version: u64) {
        self.versions.get_or_create(&vec![("model", model.to_owned())]).set(version as i64);
    }

    /// All of it as text.
    pub(crate) fn text(&self, in_flight: usize, queued: usize, ready: bool) -> String {
        self.in_flight.set(in_flight as i64);
        self.queued.set(queued as i64);
        self.ready.set(ready.into());
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
