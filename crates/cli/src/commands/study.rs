//! `convnet study`: the lecture's experiments, each a set of runs side by side.

use std::path::{self, Path, PathBuf};

use anyhow::Context;
use convnet::columns::{Columns, Style, duration};
use convnet::data::Source;
use convnet::roofline;
use convnet::study::{Budget, Plan, Record, STUDIES, Session, Study, Verdict};
use serde::Serialize;

use crate::args::{ThreadArgs, at_least_1, source};
use crate::console::{Console, print, print_json};
use crate::interrupt::{self, Interrupted};
use crate::progress::Narrator;
use crate::usage::OrUsage;

/// Do one of the lecture's experiments: variants of a network trained alike, with a table and a plot
///
/// Without a name: the list of studies. Each variant is an ordinary run in a folder of its own. The study's folder holds study.toml
/// (every number), study.md, study.png, and study.html with the runs beside one another. Ctrl-C stops with a checkpoint; the
/// same command goes on. Each table says what a paper or the lecture notes expect and whether it was seen.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet study\n  \
    convnet study activation\n  \
    convnet study depth --data cifar-10.tar.gz\n  \
    convnet study pooling --data cifar-10-batches-bin --budget hour --seeds 5 --out pooling\n  \
    convnet study kernels --budget seconds --json")]
pub(crate) struct Args {
    /// The study [default: list them]
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Pictures, as for `convnet train`: built-in digits, a folder, an archive [default: those that the study in --out was begun with,
    /// else digits]
    #[arg(long, value_name = "SET", requires = "name")]
    data: Option<String>,

    /// Fetch the pictures into the cache folder where they are missing; for mnist [default: stay offline]
    #[arg(long, requires = "name")]
    download: bool,

    /// How much is computed: seconds (a try-out, whose results mean little), minutes, hour, or paper (all pictures, as many epochs
    /// as the paper) [default: that of the study in --out, else minutes]
    #[arg(long, value_name = "HOW", requires = "name")]
    budget: Option<String>,

    /// Runs of each variant, with seeds 0, 1 and so on; more can be added later [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_1, requires = "name")]
    seeds: Option<usize>,

    /// Folder of the study: a new or an empty one, or one in which it was begun [default: runs/study-NAME]
    #[arg(long, value_name = "DIR", requires = "name")]
    out: Option<PathBuf>,

    #[command(flatten)]
    threads: ThreadArgs,

    /// Print one JSON document and nothing else on stdout [default: tables]
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// A study as the list has it in JSON.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    title: &'static str,
    question: &'static str,
    rows: &'static [&'static str],
    source: &'static str,
    data: &'static str,
    variants: Vec<&'static str>,
}

/// What `--json` prints of a study.
#[derive(Serialize)]
struct Report<'a> {
    folder: &'a Path,
    complete: bool,
    results: &'a Record,
    expectations: Vec<Verdict>,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let Some(name) = &self.name else { return self.list(console) };
        let study = Study::find(name).or_usage()?;
        let out = self.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("study-{}", study.name)));
        let plan = self.plan(study, &out)?;
        source(&plan.data, self.download, console)?;
        let mut session = Session::open(plan, &out)?;
        self.introduce(study, &session, console)?;
        interrupt::tell();
        let mut stopped = false;
        while let (Some(task), false) = (session.next_task(), stopped) {
            let (trainer, problem) = session.resume(&task)?;
            if let Some(problem) = problem {
                console.warn(&format!("{problem}. Going on from the checkpoint before it."));
            }
            let about = format!("{} ({}), seed {}", task.variant.name, task.variant.about, task.seed);
            console.note(&format!("Run {} of {}: {about}", task.number, task.of));
            let mut narrator = Narrator::new(console, &trainer);
            let ended = trainer.fit(&mut narrator);
            drop(narrator);
            if let Err(error @ convnet::Error::Diverged { .. }) = &ended {
                console.note(&format!("{about}: {error}. It counts as diverged."));
            }
            stopped = !session.record(&task, ended)?;
        }
        session.finish()?;
        self.tell(&session, console)?;
        if stopped { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// What the flags say, and where they are silent what the study in the folder was begun with.
    fn plan(&self, study: &'static Study, out: &Path) -> anyhow::Result<Plan> {
        let earlier = Plan::of_folder(out)?.filter(|earlier| earlier.study.name == study.name);
        let mut plan = earlier.unwrap_or_else(|| Plan::new(study));
        if let Some(data) = &self.data {
            let source = Source::parse(data)?;
            plan.data = match source.path() {
                Some(found) => {
                    let absolute = path::absolute(found).with_context(|| format!("finding {}", found.display()))?;
                    absolute.to_str().context("expected data whose path is UTF-8")?.to_owned()
                }
                None => data.clone(),
            };
        }
        if let Some(budget) = &self.budget {
            plan.budget = budget.parse::<Budget>().or_usage()?;
        }
        if let Some(seeds) = self.seeds {
            plan.seeds = seeds as u64;
        }
        plan.threads = self.threads.threads.unwrap_or(0);
        Ok(plan)
    }

    fn introduce(&self, study: &Study, session: &Session, console: &Console) -> anyhow::Result<()> {
        let results = session.results();
        let [train, held_out] = results.pictures;
        console.note(&format!(
            "{}: {} variants, {} epochs each on {train} pictures of {}, {held_out} for {}. Folder {}",
            study.title,
            results.variants.len(),
            results.epochs,
            results.data,
            results.part,
            session.folder().display(),
        ));
        console.note(study.data);
        if session.next_task().is_some() {
            let least = session.least_seconds(&roofline::cached(session.engine()))?;
            console.note(&format!(
                "The runs that are left take at least {} on this machine at its peak rate; small networks take several times as long.",
                duration(least)
            ));
        }
        Ok(())
    }

    fn tell(&self, session: &Session, console: &Console) -> anyhow::Result<()> {
        let results = session.results();
        if self.json {
            let expectations = results.verdicts()?;
            let complete = results.is_complete();
            return print_json(&Report { folder: session.folder(), complete, results, expectations });
        }
        print(&results.table(Style::Plain)?)?;
        print("\n")?;
        for verdict in results.verdicts()? {
            let (seen, Verdict { says, source, measured, .. }) = (verdict.seen(), &verdict);
            print(&format!(" {says}\n   expected by {source}\n   seen: {seen}; {measured}\n"))?;
        }
        print(&format!("\n {}\n", results.provenance()))?;
        console.note(&format!("{0}/study.png has the plot, {0}/study.md the table", session.folder().display()));
        Ok(())
    }

    fn list(&self, console: &Console) -> anyhow::Result<()> {
        if self.json {
            let listed = STUDIES.iter().map(|study| Listed {
                name: study.name,
                title: study.title,
                question: study.question,
                rows: study.rows,
                source: study.source,
                data: study.data,
                variants: study.variants.iter().map(|variant| variant.name).collect(),
            });
            return print_json(&std::collections::BTreeMap::from([("studies", listed.collect::<Vec<_>>())]));
        }
        let mut columns = Columns::new(4, &["study", "rows", "variants", "what it compares"]);
        for study in &STUDIES {
            let variants: Vec<&str> = study.variants.iter().map(|variant| variant.name).collect();
            columns.row([study.name.into(), study.rows.join(","), variants.len().to_string(), study.title.into()]);
        }
        print(&columns.render(Style::Plain))?;
        console.note("\nDo one with `convnet study NAME`; rows are those of `convnet lecture`.");
        Ok(())
    }
}
