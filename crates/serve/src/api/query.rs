//! What a request says after the `?` of its address: parameters that are known, each once, and of the kind that is expected.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::problem::Problem;

/// The parameters of a request, as far as they have not been taken.
pub(crate) struct Parameters {
    left: Vec<(String, String)>,
    known: Vec<&'static str>,
    /// Why they cannot be read at all.
    broken: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Parameters, Infallible> {
        let found = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        Ok(match found {
            Ok(Query(left)) => Parameters { left, known: Vec::new(), broken: None },
            Err(rejection) => Parameters { left: Vec::new(), known: Vec::new(), broken: Some(rejection.body_text()) },
        })
    }
}

impl Parameters {
    /// What a parameter says, where there is one.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        self.known.push(name);
        let of_name = self.left.extract_if(.., |(other, _)| other == name);
        let mut values: Vec<String> = of_name.map(|(_, value)| value).collect();
        match values.len() {
            0 | 1 => Ok(values.pop()),
            count => Err(Problem::request(format!("{name}: expected it once, got it {count} times"))),
        }
    }

    /// A whole number of at least that.
    pub(crate) fn number(&mut self, name: &'static str, least: usize) -> Result<Option<usize>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse() {
            Ok(number) if number >= least && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(number)),
            _ => {
                let expected = format!("a whole number of at least {least}");
                Err(Problem::request(format!("{name}: expected {expected}, got '{}'", text.escape_debug())))
            }
        }
    }

    /// `true` or `false`, which it is where nothing is said.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        match self.text(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                Err(Problem::request(format!("{name}: expected true or false, got '{}'", other.escape_debug())))
            }
        }
    }

    /// Refuses what nobody has asked for.
    pub(crate) fn end(self) -> Result<(), Problem> {
        if let Some(problem) = self.broken {
            return Err(Problem::request(problem));
        }
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => {
                let known = self.known.join(", ");
                Err(Problem::request(format!("unknown parameter '{}': expected {known}", name.escape_debug())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(left: &[(&str, &str)]) -> Parameters {
        let left = left.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Parameters { left, known: Vec::new(), broken: None }
    }

    #[test]
    fn what_is_wrong_with_a_parameter_is_said() {
        let mut parameters = of(&[("top", "3"), ("logits", "true"), ("class", "a b")]);
        assert_eq!(parameters.number("top", 1).unwrap(), Some(3));
        assert!(parameters.flag("logits").unwrap() && !parameters.flag("strict").unwrap());
        assert_eq!(parameters.text("class").unwrap().as_deref(), Some("a b"));
        assert!(parameters.end().is_ok());
        let number = |text| of(&[("top", text)]).number("top", 1).unwrap_err().message().to_owned();
        for text in ["-1", "0", "", "x", "+1", "1.5", "99999999999999999999999"] {
            assert_eq!(number(text), format!("top: expected a whole number of at least 1, got '{text}'"));
        }
        assert_eq!(
            of(&[("a", "1"), ("a", "2")]).text("a").unwrap_err().message(),
            "a: expected it once, got it 2 times"
        );
        assert_eq!(of(&[("a", "1")]).flag("a").unwrap_err().message(), "a: expected true or false, got '1'");
        let mut parameters = of(&[("tpo", "3")]);
        assert_eq!(parameters.number("top", 1).unwrap(), None);
        assert_eq!(parameters.end().unwrap_err().message(), "unknown parameter 'tpo': expected top");
    }
}
