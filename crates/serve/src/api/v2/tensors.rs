//! The bodies of `infer`: JSON alone, or JSON and after it the bytes of tensors, little-endian, in the order in which they are
//! named (Triton's binary tensor data extension).

use std::collections::HashSet;
use std::fmt;

use axum::http::{HeaderMap, StatusCode};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{INPUT, LOGITS, PROBABILITIES};
use crate::api::problem::Problem;

/// The header that says where JSON ends and bytes begin.
pub(super) const HEADER_LENGTH: &str = "inference-header-content-length";
/// Deepest nesting of a tensor's numbers.
const DEEPEST: usize = 8;

/// What a request may hold.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Channels, height and width of a picture.
    pub(super) input: [usize; 3],
    pub(super) classes: usize,
    /// Most pictures.
    pub(super) pictures: usize,
}

/// A request to infer.
pub(super) struct Inference {
    pub(super) id: Option<String>,
    pub(super) pictures: Vec<Vec<f32>>,
    pub(super) outputs: Vec<Wanted>,
    /// Microseconds within which computing must begin.
    pub(super) timeout: Option<u64>,
}

/// An output that is asked for.
pub(super) struct Wanted {
    pub(super) is_probabilities: bool,
    /// The best of so many classes as texts, in place of all numbers; 0 for the numbers.
    pub(super) classes: usize,
    is_binary: bool,
}

impl Wanted {
    fn name(&self) -> &'static str {
        if self.is_probabilities { PROBABILITIES } else { LOGITS }
    }
}

/// What an output holds.
pub(super) enum Output {
    Numbers { shape: [usize; 2], values: Vec<f32> },
    Texts { shape: [usize; 2], texts: Vec<String> },
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(borrow)]
    inputs: Vec<RequestInput<'a>>,
    #[serde(default)]
    outputs: Vec<RequestOutput>,
}

#[derive(Deserialize)]
struct RequestInput<'a> {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    /// Read once it is known how many numbers there may be.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RequestOutput {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// The numbers of nested lists, or of one list, in their order: so many at most.
fn flat(data: &RawValue, most: usize) -> Result<Vec<f32>, serde_json::Error> {
    let mut numbers = Vec::new();
    let list = List { into: &mut numbers, most, depth: 0 };
    serde_json::Deserializer::from_str(data.get()).deserialize_seq(list)?;
    Ok(numbers)
}

/// Reads a list into what there is already.
struct List<'a> {
    into: &'a mut Vec<f32>,
    most: usize,
    depth: usize,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or lists of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let List { into, most, depth } = self;
        while list.next_element_seed(Element(List { into: &mut *into, most, depth }))?.is_some() {}
        Ok(())
    }
}

/// A number, or a list of them, within a list.
struct Element<'a>(List<'a>);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a list of numbers")
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        let List { into, most, .. } = self.0;
        if into.len() == most {
            return Err(E::custom(format_args!("expected at most {most} numbers, which the shape says")));
        }
        into.push(number as f32);
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.visit_f64(number as f64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        let List { into, most, depth } = self.0;
        if depth == DEEPEST {
            return Err(serde::de::Error::custom(format_args!("expected at most {DEEPEST} lists within one another")));
        }
        List { into, most, depth: depth + 1 }.visit_seq(list)
    }
}

/// Checks that a request to load a model says nothing that would change what is loaded.
pub(super) fn without_parameters(body: &[u8]) -> Result<(), Problem> {
    #[derive(Deserialize)]
    struct Load {
        #[serde(default)]
        parameters: Map<String, Value>,
    }
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    let request: Load = serde_json::from_slice(body)
        .map_err(|error| Problem::request(format!("the body is no request to load: {error}")))?;
    match request.parameters.keys().next() {
        None => Ok(()),
        Some(name) => {
            let name = name.escape_debug();
            Err(Problem::request(format!(
                "parameters: expected none, for the model's own files are loaded, got '{name}'"
            )))
        }
    }
}

/// How many bytes of the body are JSON, where the headers say it.
pub(super) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let Some(length) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let found = length.to_str().unwrap_or_default();
    let parsed = found.parse().map(Some);
    parsed.map_err(|_| {
        Problem::request(format!("{HEADER_LENGTH}: expected a number of bytes, got '{}'", found.escape_debug()))
    })
}

/// Reads a request within limits.
pub(super) fn read(body: &[u8], json_length: Option<usize>, limits: Limits) -> Result<Inference, Problem> {
    let (json, binary) = match json_length {
        None => (body, &[][..]),
        Some(length) => body.split_at_checked(length).ok_or_else(|| {
            Problem::request(format!(
                "{HEADER_LENGTH}: the body has {} bytes, which are fewer than {length}",
                body.len()
            ))
        })?,
    };
    let request: Request = serde_json::from_slice(json)
        .map_err(|error| Problem::request(format!("the body is no request to infer: {error}")))?;
    let Request { id, parameters, inputs, outputs } = request;
    let found = inputs.len();
    let Ok([tensor]) = <[RequestInput; 1]>::try_from(inputs) else {
        return Err(Problem::request(format!("inputs: expected one, '{INPUT}', got {found}")));
    };
    let pictures = pictures(tensor, binary, limits)?;
    let is_binary = flag(&parameters, "binary_data_output")?.unwrap_or(false);
    let outputs = match outputs.is_empty() {
        true => vec![Wanted { is_probabilities: false, classes: 0, is_binary }],
        false => outputs.iter().map(|output| wanted(output, limits.classes, is_binary)).collect::<Result<_, _>>()?,
    };
    let mut names = HashSet::new();
    if let Some(twice) = outputs.iter().find(|output| !names.insert(output.is_probabilities)) {
        return Err(Problem::request(format!("outputs: expected each output once, got '{}' again", twice.name())));
    }
    let timeout = number(&parameters, "timeout")?;
    if timeout == Some(0) {
        return Err(Problem::request("timeout: expected at least 1 microsecond"));
    }
    Ok(Inference { id, pictures, outputs, timeout })
}

/// The pictures of the input tensor.
fn pictures(tensor: RequestInput<'_>, binary: &[u8], limits: Limits) -> Result<Vec<Vec<f32>>, Problem> {
    let Limits { input, pictures: most, .. } = limits;
    let RequestInput { name, shape, datatype, parameters, data } = tensor;
    if name != INPUT {
        return Err(Problem::request(format!("inputs: expected '{INPUT}', got '{}'", name.escape_debug())));
    }
    if datatype != "FP32" {
        return Err(Problem::request(format!(
            "input '{INPUT}': expected datatype FP32, got '{}'",
            datatype.escape_debug()
        )));
    }
    let [channels, height, width] = input.map(|side| side as u64);
    if shape.len() != 4 || shape[1..] != [channels, height, width] || shape[0] == 0 {
        let message = format!(
            "input '{INPUT}': expected shape [n, {channels}, {height}, {width}] of at least 1 picture, got {shape:?}"
        );
        return Err(Problem::request(message));
    }
    if shape[0] > most as u64 {
        let message = format!("the request has {} pictures: expected at most {most} (--max-queue)", shape[0]);
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let picture: usize = input.iter().product();
    let expected = (shape[0] as usize).saturating_mul(picture);
    let values = match (number(&parameters, "binary_data_size")?, data) {
        (None, Some(data)) => {
            flat(data, expected).map_err(|error| Problem::request(format!("input '{INPUT}': data: {error}")))?
        }
        (Some(size), None) => numbers(binary, size)?,
        (None, None) => {
            return Err(Problem::request(format!(
                "input '{INPUT}': expected data, or binary_data_size and bytes after the JSON"
            )));
        }
        (Some(_), Some(_)) => {
            return Err(Problem::request(format!("input '{INPUT}': expected data or binary_data_size, got both")));
        }
    };
    if expected != values.len() {
        let message = format!("input '{INPUT}': shape {shape:?} does not fit {} numbers", values.len());
        return Err(Problem::request(message));
    }
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(Problem::request(format!(
            "input '{INPUT}': number {index} is {}: expected finite numbers",
            values[index]
        )));
    }
    Ok(values.chunks_exact(picture).map(<[f32]>::to_vec).collect())
}

/// Little-endian numbers, which are all the bytes that there are.
fn numbers(binary: &[u8], size: u64) -> Result<Vec<f32>, Problem> {
    if size != binary.len() as u64 {
        let message =
            format!("input '{INPUT}': binary_data_size is {size}, but {} bytes follow the JSON", binary.len());
        return Err(Problem::request(message));
    }
    let (numbers, rest) = binary.as_chunks::<4>();
    match rest.is_empty() {
        true => Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        false => Err(Problem::request(format!("input '{INPUT}': expected 4 bytes for each number, got {size} bytes"))),
    }
}

fn wanted(output: &RequestOutput, classes: usize, is_binary: bool) -> Result<Wanted, Problem> {
    let is_probabilities = match output.name.as_str() {
        LOGITS => false,
        PROBABILITIES => true,
        other => {
            let found = other.escape_debug();
            return Err(Problem::request(format!("outputs: expected '{LOGITS}' or '{PROBABILITIES}', got '{found}'")));
        }
    };
    let best =
        number(&output.parameters, "classification")?.map_or(0, |best| usize::try_from(best).unwrap_or(usize::MAX));
    let is_binary = flag(&output.parameters, "binary_data")?.unwrap_or(is_binary);
    Ok(Wanted { is_probabilities, classes: best.min(classes), is_binary })
}

fn number(parameters: &Map<String, Value>, name: &str) -> Result<Option<u64>, Problem> {
    let of = |value: &Value| {
        value.as_u64().ok_or_else(|| Problem::request(format!("{name}: expected a whole number, got {value}")))
    };
    parameters.get(name).map(of).transpose()
}

fn flag(parameters: &Map<String, Value>, name: &str) -> Result<Option<bool>, Problem> {
    let of = |value: &Value| {
        value.as_bool().ok_or_else(|| Problem::request(format!("{name}: expected true or false, got {value}")))
    };
    parameters.get(name).map(of).transpose()
}

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<AnswerOutput>,
}

#[derive(Serialize)]
struct AnswerOutput {
    name: &'static str,
    shape: [usize; 2],
    datatype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Numbers(Vec<f32>),
    Texts(Vec<String>),
}

/// The answer's JSON and the bytes after it, of a model and its version.
pub(super) fn write(
    (model_name, version): (&str, u64),
    id: Option<&str>,
    wanted: &[Wanted],
    of_output: impl Fn(&Wanted) -> Output,
) -> (Vec<u8>, Vec<u8>) {
    let mut binary = Vec::new();
    let outputs = wanted.iter().map(|wanted| {
        let name = wanted.name();
        let (shape, datatype, data) = match of_output(wanted) {
            Output::Numbers { shape, values } => (shape, "FP32", Data::Numbers(values)),
            Output::Texts { shape, texts } => (shape, "BYTES", Data::Texts(texts)),
        };
        if !wanted.is_binary {
            return AnswerOutput { name, shape, datatype, parameters: None, data: Some(data) };
        }
        let before = binary.len();
        match data {
            Data::Numbers(values) => binary.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Data::Texts(texts) => texts.iter().for_each(|text| {
                binary.extend((text.len() as u32).to_le_bytes());
                binary.extend(text.as_bytes());
            }),
        }
        let parameters = Some(Size { binary_data_size: binary.len() - before });
        AnswerOutput { name, shape, datatype, parameters, data: None }
    });
    let outputs = outputs.collect();
    let answer = Answer { model_name, model_version: version.to_string(), id, outputs };
    // Numbers, texts and names always are JSON.
    (serde_json::to_vec(&answer).unwrap_or_default(), binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(input: &str) -> Vec<u8> {
        format!("{{\"inputs\": [{input}]}}").into_bytes()
    }

    fn tensor(shape: &str, rest: &str) -> Vec<u8> {
        body(&format!("{{\"name\": \"input\", \"datatype\": \"FP32\", \"shape\": {shape}, {rest}}}"))
    }

    fn read(body: &[u8], json: Option<usize>) -> Result<Inference, String> {
        super::read(body, json, Limits { input: [1, 2, 2], classes: 3, pictures: 4 })
            .map_err(|problem| problem.message().to_owned())
    }

    #[test]
    fn numbers_come_flat_nested_or_as_bytes() {
        let expected = vec![vec![1.0, 2.5, -3.0, 4.0], vec![5.0, 6.0, 7.0, 8.0]];
        let flat = tensor("[2, 1, 2, 2]", "\"data\": [1, 2.5, -3, 4, 5, 6, 7, 8]");
        assert_eq!(read(&flat, None).unwrap().pictures, expected);
        let nested = tensor("[2, 1, 2, 2]", "\"data\": [[[[1, 2.5], [-3, 4]]], [[[5, 6], [7, 8]]]]");
        assert_eq!(read(&nested, None).unwrap().pictures, expected);
        let mut binary = tensor("[2, 1, 2, 2]", "\"parameters\": {\"binary_data_size\": 32}");
        let json = binary.len();
        binary.extend(expected.concat().iter().flat_map(|number: &f32| number.to_le_bytes()));
        assert_eq!(read(&binary, Some(json)).unwrap().pictures, expected);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let deep = format!("\"data\": {}1{}", "[".repeat(20), "]".repeat(20));
        let data = "\"data\": [1, 2, 3, 4]";
        for (body, expected) in [
            (b"{".to_vec(), "no request to infer"),
            (b"[]".to_vec(), "no request to infer"),
            (body(""), "expected one, 'input', got 0"),
            (
                body("{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1, 1, 2, 2], \"data\": []}"),
                "expected 'input', got 'x'",
            ),
            (
                body("{\"name\": \"input\", \"datatype\": \"INT8\", \"shape\": [1, 1, 2, 2], \"data\": []}"),
                "expected datatype FP32",
            ),
            (tensor("[1, 2, 2]", data), "expected shape [n, 1, 2, 2]"),
            (tensor("[0, 1, 2, 2]", "\"data\": []"), "at least 1 picture"),
            (tensor("[2, 1, 2, 2]", data), "does not fit 4 numbers"),
            (
                tensor("[1, 1, 2, 2]", "\"data\": [[1, 2], [3, 4, 5]]"),
                "expected at most 4 numbers, which the shape says",
            ),
            (tensor("[5, 1, 2, 2]", data), "5 pictures: expected at most 4"),
            (tensor("[18446744073709551615, 1, 2, 2]", data), "pictures: expected at most 4"),
            (tensor("[1, 1, 2, 2]", "\"data\": [1, 2, 3, 1e39]"), "number 3 is inf"),
            (tensor("[1, 1, 2, 2]", "\"data\": [1, 2, 3, \"4\"]"), "a number, or a list of numbers"),
            (tensor("[1, 1, 2, 2]", &deep), "lists within one another"),
            (tensor("[1, 1, 2, 2]", "\"parameters\": {}"), "expected data"),
            (tensor("[1, 1, 2, 2]", "\"parameters\": {\"binary_data_size\": 16}"), "but 0 bytes follow"),
            (tensor("[1, 1, 2, 2]", "\"parameters\": {\"binary_data_size\": \"16\"}"), "expected a whole number"),
        ] {
            let found = read(&body, None).err().unwrap_or_default();
            assert!(found.contains(expected), "{expected}: {found}");
        }
        assert!(read(b"{}", Some(3)).err().unwrap().contains("fewer than 3"));
    }

    #[test]
    fn outputs_are_what_was_asked_for() {
        let asked = br#"{"id": "7", "parameters": {"timeout": 5}, "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1, 2, 2],
            "data": [1, 2, 3, 4]}], "outputs": [{"name": "probabilities", "parameters": {"binary_data": true}},
            {"name": "logits", "parameters": {"classification": 9}}]}"#;
        let found = read(asked, None).unwrap();
        assert_eq!((found.id.as_deref(), found.timeout), (Some("7"), Some(5)));
        let (json, binary) = write(("m", 2), found.id.as_deref(), &found.outputs, |wanted| match wanted.classes {
            0 => Output::Numbers { shape: [1, 3], values: vec![0.25, 0.5, 0.25] },
            best => Output::Texts { shape: [1, best], texts: vec!["0.5:1:cat".to_owned(); best] },
        });
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&json["model_version"], &json["id"]), (&"2".into(), &"7".into()));
        assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 12);
        assert_eq!(json["outputs"][1]["data"].as_array().unwrap().len(), 3);
        assert_eq!(binary, [0.25_f32, 0.5, 0.25].map(f32::to_le_bytes).concat());
        let unknown =
            br#"{"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [1, 2, 3, 4]}],
            "outputs": [{"name": "x"}]}"#;
        assert!(read(unknown, None).err().unwrap().contains("expected 'logits' or 'probabilities'"));
        let twice = String::from_utf8(asked.to_vec()).unwrap().replace("probabilities", "logits");
        let found = read(twice.as_bytes(), None).err().unwrap();
        assert!(found.contains("expected each output once, got 'logits' again"), "{found}");
    }

    #[test]
    fn a_request_to_load_has_no_parameters() {
        for sound in ["", " ", "{}", r#"{"parameters": {}}"#] {
            assert!(without_parameters(sound.as_bytes()).is_ok(), "{sound}");
        }
        let problem = |body: &str| without_parameters(body.as_bytes()).unwrap_err().message().to_owned();
        assert!(problem(r#"{"parameters": {"config": "{}"}}"#).contains("got 'config'"));
        assert!(problem("[").contains("no request to load"));
    }
}
