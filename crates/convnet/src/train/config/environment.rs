//! Settings from environment variables, and which variables there are.

use super::{SETTINGS, Settings};
use crate::suggest::nearest;
use crate::{Error, Result};

/// Before the name of a setting in the environment.
const PREFIX: &str = "CONVNET_";
/// What follows it in the names of variables that are no settings: the folder for downloads, the instruction set, the language of the
/// lecture, and the call to the disk that a test lets fail.
const OTHERS: [&str; 4] = ["HOME", "ISA", "LANG", "FAIL_AT"];
/// And in those that tests alone read.
const OF_TESTS: &str = "TEST_";

impl Settings {
    /// Reads a layer from environment variables: `CONVNET_BATCH_SIZE=64`, `CONVNET_CDIMS=16,32`, for each setting its name
    /// in capitals. Other variables are left alone, and so are empty ones.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the variable, when a value is of the wrong kind.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Settings> {
        let mut layer = Settings::default();
        for setting in SETTINGS {
            let name = format!("{PREFIX}{}", setting.name.to_uppercase());
            if let Some(text) = variable(&name).filter(|text| !text.is_empty()) {
                let value = setting.kind.parse(&text);
                layer.insert(setting, value.map_err(|problem| Error::invalid(format!("{name}: {problem}")))?);
            }
        }
        Ok(layer)
    }

    /// What is to be told of variables that are called as those of settings are, but that nothing reads: each with the one that
    /// was perhaps meant.
    ///
    /// ```
    /// use convnet::train::Settings;
    /// let told = Settings::unknown_variables(["CONVNET_EPOCS", "CONVNET_LR", "HOME"].map(str::to_owned));
    /// assert_eq!(told, ["CONVNET_EPOCS is no variable of convnet and is ignored: did you mean 'CONVNET_EPOCHS'?"]);
    /// ```
    pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
        let settings = SETTINGS.iter().map(|setting| setting.name.to_uppercase());
        let known: Vec<String> = settings.chain(OTHERS.map(str::to_owned)).collect();
        let unknown = |name: String| {
            let own = name.strip_prefix(PREFIX)?;
            if known.iter().any(|known| known == own) || own.starts_with(OF_TESTS) {
                return None;
            }
            let near = nearest(own, known.iter().map(String::as_str));
            let hint = near.map(|near| format!(": did you mean '{PREFIX}{near}'?")).unwrap_or_default();
            Some(format!("{name} is no variable of convnet and is ignored{hint}"))
        };
        let mut told: Vec<String> = names.into_iter().filter_map(unknown).collect();
        told.sort();
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_a_layer() {
        let layer = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            Settings::from_env(find)
        };
        let all = [
            ("CONVNET_BATCH_SIZE", "32"),
            ("CONVNET_BATCH_NORM", "false"),
            ("CONVNET_HDIMS", "64, 32"),
            ("CONVNET_DATA", "a = 'b\n'"),
            ("CONVNET_LR", ""),
            ("CONVNET_ISA", "portable"),
        ];
        let mut expected = Settings::default();
        for (key, text) in
            [("batch_size", "32"), ("model.batch_norm", "false"), ("hdims", "64,32"), ("data", "a = 'b\n'")]
        {
            expected.set(key, text).unwrap();
        }
        assert_eq!(layer(&all).unwrap(), expected);
        let message = layer(&[("CONVNET_EPOCHS", "-1")]).unwrap_err().to_string();
        assert!(message.starts_with("CONVNET_EPOCHS: expected a whole number from 0"), "{message}");
    }

    #[test]
    fn variables_that_nothing_reads_are_told() {
        let told = |names: &[&str]| Settings::unknown_variables(names.iter().map(|&name| name.to_owned()));
        let known = ["CONVNET_ISA", "CONVNET_HOME", "CONVNET_THREADS", "CONVNET_FAIL_AT", "CONVNET_TEST_DATA", "LANG"];
        assert_eq!(told(&known), Vec::<String>::new());
        let all: Vec<String> =
            SETTINGS.iter().map(|setting| format!("CONVNET_{}", setting.name.to_uppercase())).collect();
        assert_eq!(Settings::unknown_variables(all), Vec::<String>::new());
        assert_eq!(
            told(&["CONVNET_QUUX", "CONVNET_BATCHSIZE"]),
            [
                "CONVNET_BATCHSIZE is no variable of convnet and is ignored: did you mean 'CONVNET_BATCH_SIZE'?",
                "CONVNET_QUUX is no variable of convnet and is ignored",
            ]
        );
    }
}
