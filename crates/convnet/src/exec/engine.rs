//! What plans run on: a pool of threads and an instruction set.
//!
//! An engine names the device of the sessions that are built with it, and `exec/cpu` alone knows that device. Another one would
//! stand beside it, with its own lowering, plan and session over the same `Graph` and placement, and `Engine` would choose
//! between them.

use crate::{Error, Result};
use convnet_kernels::caches::Caches;
use convnet_kernels::conv::Choice;
use convnet_kernels::precision;
use convnet_kernels::simd::Isa;
use convnet_kernels::threads::Threads;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// How plans compute 3×3 convolutions of stride 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConvChoice {
    /// Whichever way should be faster for a layer's shape and the batch.
    #[default]
    Auto,
    /// Directly, which rounds least.
    Direct,
    /// By Winograd's algorithm wherever it applies; to compare.
    Winograd,
}

impl FromStr for ConvChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<ConvChoice, String> {
        match text {
            "auto" => Ok(ConvChoice::Auto),
            "direct" => Ok(ConvChoice::Direct),
            "winograd" => Ok(ConvChoice::Winograd),
            _ => Err("expected auto, direct or winograd".to_owned()),
        }
    }
}

/// What the products of convolutions and linear layers are computed with. Gradients, sums, statistics and the optimizer, but for
/// Muon's products, are `f32` in either case, and so are weights and values in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Both sides of a product are rounded to bf16 (8 bits of significand), which a CPU with AVX512-BF16 multiplies twice as
    /// fast; on others it is slower, with the same results. Inference also rounds most values between layers, so that they
    /// take half the memory. Layers that Winograd's algorithm computes multiply in `f32`, and so do the gradient by weights
    /// of a first convolution of up to 4 channels and in training all of such a convolution of few products with a batch
    /// norm after it.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Precision, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err("expected f32 or bf16".to_owned()),
        }
    }
}

/// Threads, the instruction set of this machine's CPU, and how convolutions are computed. Clones share the threads.
#[derive(Clone)]
pub struct Engine {
    threads: Arc<Threads>,
    isa: Isa,
    conv: ConvChoice,
    precision: Precision,
    caches: Caches,
}

impl Engine {
    /// Most threads that an engine has.
    pub const MAX_THREADS: usize = 1024;

    /// An engine of `threads` threads, 0 for one per core, with the fastest instruction set that the CPU has or the one
    /// that the environment variable `CONVNET_ISA` names (`avx512`, `avx2`, `portable`).
    ///
    /// # Errors
    /// [`Error::Setting`] when the variable names a set that is unknown or that this CPU lacks, or when there are more than
    /// 1,024 threads; [`Error::Thread`] when the operating system starts no more.
    pub fn new(threads: usize) -> Result<Engine> {
        let isa = match std::env::var("CONVNET_ISA") {
            Ok(name) if !name.is_empty() => Isa::named(&name).ok_or_else(|| {
                let present: Vec<_> = Isa::NAMES.into_iter().filter(|name| Isa::named(name).is_some()).collect();
                let expected = format!("one of {} on this CPU", present.join(", "));
                Error::setting("CONVNET_ISA", expected, format_args!("'{name}'"))
            })?,
            Ok(_) | Err(_) => Isa::best(),
        };
        Engine::with_isa(threads, isa)
    }

    /// An engine with a given instruction set.
    pub(crate) fn with_isa(threads: usize, isa: Isa) -> Result<Engine> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            given if given > Engine::MAX_THREADS => {
                return Err(Error::setting("threads", format!("at most {}", Engine::MAX_THREADS), given));
            }
            given => given,
        };
        let threads = Threads::new(threads).map_err(Error::thread("computing"))?;
        let (conv, precision, caches) = (ConvChoice::Auto, Precision::F32, Caches::of_this_machine());
        Ok(Engine { threads: Arc::new(threads), isa, conv, precision, caches })
    }

    /// The same engine for plans that assume other caches than this machine's.
    #[cfg(test)]
    pub(crate) fn with_caches(self, caches: Caches) -> Engine {
        Engine { caches, ..self }
    }

    /// The same engine for plans that compute convolutions in a given way; at first it is [`ConvChoice::Auto`].
    ///
    /// ```
    /// use convnet::exec::{ConvChoice, Engine};
    /// let engine = Engine::new(1).unwrap().with_conv(ConvChoice::Direct);
    /// assert_eq!(engine.conv(), ConvChoice::Direct);
    /// ```
    pub fn with_conv(self, conv: ConvChoice) -> Engine {
        Engine { conv, ..self }
    }

    /// The same engine for plans that compute products in a given precision; at first it is [`Precision::F32`].
    pub fn with_precision(self, precision: Precision) -> Engine {
        Engine { precision, ..self }
    }

    /// What its plans compute products with.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether the CPU multiplies bf16 numbers itself, with this instruction set.
    pub fn has_bf16(&self) -> bool {
        self.isa.has_bf16()
    }

    /// How its plans compute convolutions.
    pub fn conv(&self) -> ConvChoice {
        self.conv
    }

    /// Number of threads that compute.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// `avx512`, `avx2` or `portable`.
    pub fn isa(&self) -> &'static str {
        self.isa.name()
    }

    pub(crate) fn pool(&self) -> &Threads {
        &self.threads
    }

    pub(super) fn conv_choice(&self) -> Choice {
        match self.conv {
            ConvChoice::Auto => Choice::Auto,
            ConvChoice::Direct => Choice::Direct,
            ConvChoice::Winograd => Choice::Winograd,
        }
    }

    pub(super) fn product_precision(&self) -> precision::Precision {
        match self.precision {
            Precision::F32 => precision::Precision::F32,
            Precision::Bf16 => precision::Precision::Bf16,
        }
    }

    /// What its plans assume that caches hold.
    pub(crate) fn caches(&self) -> Caches {
        self.caches
    }

    pub(crate) fn set(&self) -> Isa {
        self.isa
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine of {} threads, {}", self.threads(), self.isa())
    }
}
