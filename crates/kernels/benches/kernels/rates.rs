//! Times as rates, with their share of what the machine can do at best, which is measured just before.

use convnet_kernels::roofline;
use convnet_kernels::simd::Isa;
use convnet_kernels::threads::Threads;
use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What the machine can do, in 10⁹ a second: operations, at most as many as memory brings numbers for, or bytes. Zero before it is
/// measured.
#[derive(Default)]
pub(crate) struct Peak(Cell<f64>);

impl Peak {
    /// Measures it for work of this amount; `working_set` is how many bytes it goes over again and again.
    pub(crate) fn measure(&self, threads: &Threads, isa: Isa, amount: &Throughput, working_set: usize) {
        let bytes = roofline::gigabytes_per_second(threads, isa, working_set);
        self.0.set(match amount {
            Throughput::Elements(operations) => {
                roofline::gflops(threads, isa).min(bytes * *operations as f64 / working_set as f64)
            }
            _ => bytes,
        });
    }
}

/// Wall time, shown as a rate.
pub(crate) struct Rate {
    formatter: Formatter,
}

impl Rate {
    pub(crate) fn new(peak: Rc<Peak>) -> Rate {
        Rate { formatter: Formatter(peak) }
    }
}

impl Measurement for Rate {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, time: &Duration) -> f64 {
        WallTime.to_f64(time)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &self.formatter
    }
}

struct Formatter(Rc<Peak>);

impl ValueFormatter for Formatter {
    fn format_throughput(&self, throughput: &Throughput, nanoseconds: f64) -> String {
        let mut rate = [nanoseconds];
        let unit = self.scale_throughputs(nanoseconds, throughput, &mut rate);
        let peak = self.0.0.get();
        let share = if peak > 0.0 { format!(", {:.0} %", 100.0 * rate[0] / peak) } else { String::new() };
        format!("{:.1} {unit}{share}", rate[0])
    }

    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, _: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let (amount, unit) = match throughput {
            Throughput::Elements(operations) => (*operations, "GFLOP/s"),
            Throughput::BytesDecimal(bytes) => (*bytes, "GB/s"),
            _ => unreachable!("amounts are operations or bytes"),
        };
        for value in values {
            *value = amount as f64 / *value;
        }
        unit
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
