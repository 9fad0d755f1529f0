//! `convnet pack`: shards of a data set.

use std::path::PathBuf;

use convnet::Error;
use convnet::columns::{bytes, counted};
use convnet::data::{Packing, Source};

use crate::console::{Console, print, print_json};
use crate::interrupt::{self, Interrupted};
use crate::progress::Pictures;

/// Write the pictures of a data set into shards in WebDataset's form
///
/// Shards are tars of samples: a picture, the number of its class (.cls) and its name (.json), called as the picture's file. They
/// are read in place (`convnet train --data DIR`, or --data 'photos-train-{000000..000146}.tar'), which suits disks and network file
/// systems that are slow to open many files. Pictures are kept as they are, or with --resize made smaller once.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  convnet pack photos -o 'photos-{}.tar'\n  convnet pack photos -o 'small-{}.tar' --resize 256"
)]
pub(crate) struct Args {
    /// Folder, archive, shards or list of pictures, as for `convnet train --data`
    #[arg(value_name = "SET")]
    data: String,

    /// Path of the shards, with {} for part and number: photos-{}.tar becomes photos-train-000000.tar
    #[arg(short, long, value_name = "PATTERN")]
    output: PathBuf,

    /// Resize pictures whose shorter side is longer to so many pixels [default: as they are]
    #[arg(long, value_name = "N", value_parser = crate::args::at_least_1)]
    resize: Option<usize>,

    /// A shard is full beyond so many MiB
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = crate::args::at_least_1)]
    shard_size: usize,

    /// Decode every picture and leave out those that cannot be [default: one that cannot be read is an error]
    #[arg(long)]
    skip_bad: bool,

    /// Decides the order of the pictures
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Print one JSON document and nothing else on stdout [default: text]
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let source = Source::parse(&self.data)?;
        let packing = Packing {
            output: self.output.clone(),
            resize: self.resize,
            shard_bytes: (self.shard_size as u64).saturating_mul(1 << 20),
            seed: self.seed,
            skip_bad: self.skip_bad,
        };
        interrupt::tell();
        let progress = Pictures::new(console, "packing");
        let mut watch = |done: usize, all: usize| {
            progress.tell(done, all);
            !interrupt::requested()
        };
        let packed = source.pack(&packing, &mut watch).map_err(with_hint)?.ok_or(Interrupted)?;
        drop(progress);
        packed.notes.iter().for_each(|note| console.warn(note));
        if self.json {
            return print_json(&packed);
        }
        let (pictures, shards) = (counted(packed.pictures, "picture"), counted(packed.shards.len(), "shard"));
        print(&format!("{pictures} in {shards}, {}\n", bytes(packed.bytes)))
    }
}

/// Says of a picture that cannot be read how to go on without it.
fn with_hint(error: Error) -> anyhow::Error {
    match error {
        Error::Picture { .. } => anyhow::anyhow!("{error}\n--skip-bad leaves out such pictures"),
        error => error.into(),
    }
}
