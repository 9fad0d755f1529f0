//! The settings of a run as flags: one for each of [`SETTINGS`], so that name, value and meaning are said there alone.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use convnet::Result;
use convnet::train::{Kind, SETTINGS, Setting, Settings};

/// The flag with which a run goes on.
const RESUME: &str = "resume";

/// A layer of settings from flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingArgs {
    given: Vec<(&'static Setting, String)>,
    set: Vec<String>,
}

impl SettingArgs {
    /// The layer.
    ///
    /// # Errors
    /// A `--set` that cannot be read.
    pub(crate) fn layer(&self) -> Result<Settings> {
        let mut layer = Settings::default();
        for (setting, text) in &self.given {
            layer.set(setting.path, text)?;
        }
        for text in &self.set {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            layer.set(key.trim(), value)?;
        }
        Ok(layer)
    }
}

/// A switch that is on by default is switched off.
fn is_on(setting: &Setting) -> bool {
    setting.kind == Kind::Switch && setting.default() == "true"
}

fn argument(setting: &'static Setting) -> Arg {
    let long = setting.name.replace('_', "-");
    let help = format!("{} [default: {}]", setting.help, setting.default());
    let heading = match setting.path.split_once('.').map(|(table, _)| table) {
        Some("model") => Some("Network"),
        Some("optimizer" | "schedule") => Some("Optimizer"),
        Some("mixing") => Some("Augmentation"),
        _ if setting.kind == Kind::Augmentation => Some("Augmentation"),
        _ => None,
    };
    let arg = Arg::new(setting.name).help(help).help_heading(heading);
    let arg = match setting.name {
        "optimizer" => arg.long("opt").visible_alias("optimizer"),
        "batch_size" => arg.short('b').long(long),
        "workers" => arg.short('j').long(long),
        "model" => arg.short('m').long(long),
        _ if is_on(setting) => arg.long(format!("no-{long}")),
        _ => arg.long(long),
    };
    let arg = if setting.may_change { arg } else { arg.conflicts_with(RESUME) };
    let kind = setting.kind;
    match kind {
        Kind::Switch => arg.action(ArgAction::SetTrue),
        Kind::Choice(words) => arg.value_name("NAME").value_parser(PossibleValuesParser::new(words)),
        _ => {
            let check = move |text: &str| kind.parse(text).map(|_| text.to_owned());
            arg.value_name(value_name(kind)).allow_negative_numbers(true).value_parser(check)
        }
    }
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch | Kind::Choice(_) => "NAME",
        Kind::Count => "N",
        Kind::Number => "X",
        Kind::Text => "NAME",
        Kind::File => "FILE",
        Kind::Counts => "N,N,…",
        Kind::Numbers => "X,X,…",
        Kind::Size => "CxHxW",
        Kind::Texts => "NAME,…",
        Kind::Augmentation => "NAME",
        Kind::ClassWeights => "balanced|X,X,…",
        Kind::Shuffle => "all|window=N",
    }
}

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let set = Arg::new("set").long("set").value_name("KEY=VALUE").action(ArgAction::Append).conflicts_with(RESUME);
        let set = set.help("Any setting by its key in a configuration, such as optimizer.lr=0.1");
        let set = set.value_parser(|text: &str| match text.split_once('=') {
            Some(_) => Ok(text.to_owned()),
            None => Err("expected KEY=VALUE".to_owned()),
        });
        command.args(SETTINGS.iter().map(argument)).arg(set)
    }

    fn augment_args_for_update(command: Command) -> Command {
        SettingArgs::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<SettingArgs, clap::Error> {
        let given = |setting: &'static Setting| {
            let text = match setting.kind {
                Kind::Switch => matches.get_flag(setting.name).then(|| (!is_on(setting)).to_string()),
                _ => matches.get_one::<String>(setting.name).cloned(),
            };
            Some((setting, text?))
        };
        let set = matches.get_many::<String>("set").unwrap_or_default().cloned().collect();
        Ok(SettingArgs { given: SETTINGS.iter().filter_map(given).collect(), set })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = SettingArgs::from_arg_matches(matches)?;
        Ok(())
    }
}
