//! Pictures that several processes look at: each has some of them, and all hear all answers in their order.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Answer, Guess, Input, Prediction, Predictions, Predictor};
use crate::distributed::Processes;
use crate::{Error, Result, Tensor};

/// Batches that a process computes before all of them exchange their answers.
const BATCHES: usize = 4;

impl Predictor {
    /// As [`Predictor::predict_all`] with other processes, each of which calls this with the same pictures and draws all answers. They are
    /// those of one process, to the bit. What does not concern one picture fails in all of them.
    ///
    /// # Errors
    /// As [`Predictor::predict_all`].
    pub fn predict_all_among<I>(
        &mut self,
        processes: &Processes,
        inputs: I,
    ) -> Result<PredictionsAmong<'_, I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Into<Input>,
    {
        Ok(PredictionsAmong(match processes.size() {
            1 => Way::Alone(self.predict_all(inputs)?),
            _ => Way::Together(Together {
                predictor: self,
                inputs: inputs.into_iter(),
                processes: processes.clone(),
                drawn: 0,
                answers: VecDeque::new(),
                ended: false,
            }),
        }))
    }
}

/// The answers for many pictures, in their order: an iterator.
#[derive(Debug)]
pub struct PredictionsAmong<'a, I>(Way<'a, I>);

#[derive(Debug)]
enum Way<'a, I> {
    Alone(Predictions<'a, I>),
    Together(Together<'a, I>),
}

struct Together<'a, I> {
    predictor: &'a mut Predictor,
    inputs: I,
    processes: Processes,
    /// Pictures that have been drawn.
    drawn: usize,
    answers: VecDeque<Answer>,
    ended: bool,
}

impl<I> fmt::Debug for Together<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together")
            .field("processes", &self.processes)
            .field("drawn", &self.drawn)
            .finish_non_exhaustive()
    }
}

impl<I> Iterator for PredictionsAmong<'_, I>
where
    I: Iterator,
    I::Item: Into<Input>,
{
    type Item = Answer;

    fn next(&mut self) -> Option<Answer> {
        match &mut self.0 {
            Way::Alone(predictions) => predictions.next(),
            Way::Together(together) => together.next(),
        }
    }
}

impl<I> Together<'_, I>
where
    I: Iterator,
    I::Item: Into<Input>,
{
    fn next(&mut self) -> Option<Answer> {
        if self.answers.is_empty() && !self.ended {
            let (size, share) = (self.processes.size(), self.predictor.batch * BATCHES);
            let first = self.drawn;
            let drawn = self.inputs.by_ref().take(share * size).zip(first..);
            let round: Vec<(String, Input)> = drawn.map(|(input, index)| named(input.into(), index)).collect();
            self.drawn += round.len();
            self.ended = round.len() < share * size;
            match self.round(round) {
                Ok(answers) => self.answers = answers,
                Err(error) => {
                    self.ended = true;
                    return Some(Answer { name: String::new(), result: Err(error) });
                }
            }
        }
        self.answers.pop_front()
    }

    /// The answers for some pictures, of which each process has an even part.
    fn round(&mut self, pictures: Vec<(String, Input)>) -> Result<VecDeque<Answer>> {
        let (rank, size) = (self.processes.rank(), self.processes.size());
        let (names, inputs): (Vec<String>, Vec<Input>) = pictures.into_iter().unzip();
        let begin = |rank: usize| rank * names.len() / size;
        let own = inputs.into_iter().skip(begin(rank)).take(begin(rank + 1) - begin(rank));
        let sent =
            self.predictor.predict_all(own).and_then(|answers| answers.map(Sent::of).collect::<Result<Vec<_>>>());
        let all = self.processes.exchange(sent)?;
        for (other, answers) in all.iter().enumerate() {
            let expected = &names[begin(other)..begin(other + 1)];
            if !answers.iter().map(|answer| &answer.name).eq(expected) {
                let problem = "has other pictures: all processes need the same";
                return Err(Error::invalid(format!("process {other} of {size} {problem}")));
            }
        }
        let classes = self.predictor.description.classes();
        Ok(all.into_iter().flatten().map(|sent| sent.answer(classes)).collect())
    }
}

/// A picture with the name that it has among all.
fn named(input: Input, index: usize) -> (String, Input) {
    let name = input.name(index);
    (name.clone(), input.named(name))
}

/// An answer as it is sent: floats by their bits.
#[derive(Serialize, Deserialize)]
struct Sent {
    name: String,
    result: std::result::Result<SentPrediction, String>,
}

#[derive(Serialize, Deserialize)]
struct SentPrediction {
    top: Vec<(usize, u64)>,
    logits: Option<Vec<u32>>,
    features: Vec<(String, Vec<usize>, Vec<u32>)>,
    planes: Option<Vec<u8>>,
    warnings: Vec<String>,
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|float| float.to_bits()).collect()
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|&bits| f32::from_bits(bits)).collect()
}

impl Sent {
    /// # Errors
    /// What does not concern this picture alone.
    fn of(Answer { name, result }: Answer) -> Result<Sent> {
        let result = match result {
            Ok(Prediction { top, logits, features, planes, warnings }) => Ok(SentPrediction {
                top: top.iter().map(|guess| (guess.class, guess.probability.to_bits())).collect(),
                logits: logits.as_deref().map(bits),
                features: features
                    .into_iter()
                    .map(|(layer, values)| (layer, values.shape().to_vec(), bits(values.data())))
                    .collect(),
                planes,
                warnings,
            }),
            Err(error) if error.is_of_a_picture() => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        Ok(Sent { name, result })
    }

    fn answer(self, classes: &[String]) -> Answer {
        let guess = |(class, probability): (usize, u64)| Guess {
            class,
            label: classes[class].clone(),
            probability: f64::from_bits(probability),
        };
        let result = match self.result {
            Ok(SentPrediction { top, logits, features, planes, warnings }) => Ok(Prediction {
                top: top.into_iter().map(guess).collect(),
                logits: logits.as_deref().map(floats),
                features: features
                    .into_iter()
                    .map(|(layer, shape, bits)| (layer, Tensor::new(shape, floats(&bits))))
                    .collect::<BTreeMap<_, _>>(),
                planes,
                warnings,
            }),
            Err(problem) => Err(Error::PictureElsewhere(problem)),
        };
        Answer { name: self.name, result }
    }
}
