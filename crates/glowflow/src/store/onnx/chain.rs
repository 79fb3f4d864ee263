//! A model's graph in either direction, written once over the stages that it is a chain of.

use std::f64::consts::TAU;

use super::ends::{LATENTS, LOG_PROB, from_rows, images_in, images_out, labels_in, to_rows};
use super::graph::{Graph, Type, Value};
use super::layers::{LogProb, Shape, concat, halves, step_forward, step_inverse};
use super::priors::{Given, from_noise, to_noise};
use super::{nice, realnvp, rearrange};
use crate::error::Result;
use crate::flow::{Layer, Mode};
use crate::images::ImageShape;
use crate::layers::{AdditiveCoupling, ChannelCoupling, FlowStep, MaskedCoupling, Rearrange, Scaling, Whitening};
use crate::models::{ModelConfig, discrete_log_prob};
use crate::priors::{FoldedNormal, FoldedPrior, Split};

/// A part of a chain, its layer prepared when the graph comes to it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'a> {
    Rearrange(Rearrange),
    Step(&'a FlowStep),
    Logit,
    Masked(&'a MaskedCoupling),
    Channel(&'a ChannelCoupling),
    Whitening(&'a Whitening),
    Additive(&'a AdditiveCoupling),
    Scaling(&'a Scaling),
    /// The second half of the channels leaves; standard normal without parameters.
    Split(Option<&'a Split>),
}

/// A piece, its path in the model's files and the shape behind it.
struct Stage<'a> {
    path: String,
    piece: Piece<'a>,
    shape: Shape,
}

/// Of the coarsest latents.
#[derive(Debug, Clone)]
pub(super) enum Prior {
    Normal(FoldedNormal),
    Logistic,
}

/// A model from image to latents.
pub(super) struct Chain<'a> {
    image: ImageShape,
    bits: u32,
    has_classes: bool,
    stages: Vec<Stage<'a>>,
    top: Prior,
    /// Behind the last stage.
    shape: Shape,
}

impl<'a> Chain<'a> {
    /// Without stages; `top` is a standard normal.
    pub fn new(config: &ModelConfig) -> Self {
        let image @ ImageShape { height, width, channels } = config.image();
        Self {
            image,
            bits: config.bits(),
            has_classes: config.classes().is_some(),
            stages: Vec::new(),
            top: Prior::Normal(FoldedNormal::standard()),
            shape: Shape { channels, height, width },
        }
    }

    /// Adds a stage.
    pub fn push(&mut self, path: impl Into<String>, piece: Piece<'a>) {
        let Shape { channels, height, width } = self.shape;
        self.shape = match piece {
            Piece::Rearrange(Rearrange::Squeeze | Rearrange::OrderedSqueeze) => {
                Shape { channels: 4 * channels, height: height / 2, width: width / 2 }
            }
            Piece::Rearrange(Rearrange::Unsqueeze) => {
                Shape { channels: channels / 4, height: 2 * height, width: 2 * width }
            }
            Piece::Rearrange(Rearrange::Tile(_)) => Shape { channels: channels * height * width, height: 1, width: 1 },
            Piece::Split(_) => Shape { channels: channels / 2, height, width },
            _ => self.shape,
        };
        self.stages.push(Stage { path: path.into(), piece, shape: self.shape });
    }

    /// Ends in this prior.
    pub fn ending_in(self, top: Prior) -> Self {
        Self { top, ..self }
    }

    /// Images to latents, and to their log-probability if it is asked for.
    pub fn encoder(&self, with_log_prob: bool) -> Result<Graph> {
        let mut graph = Graph::new(if with_log_prob { LOG_PROB } else { "encode" });
        let mut x = images_in(&mut graph, self.image);
        let labels = self.has_classes.then(|| labels_in(&mut graph));
        let mut log_prob =
            with_log_prob.then(|| LogProb::starting_at(discrete_log_prob(self.log_norm(), self.image, self.bits)));
        let mut rows = Vec::new();
        for Stage { path, piece, shape } in &self.stages {
            if let Piece::Split(split) = piece {
                let [kept, gone] = halves(&mut graph, path, &x, 2 * shape.channels);
                let given = Given { kept: Some(&kept), labels: labels.as_ref() };
                let prior = split_prior(*split, *shape);
                let noise = to_noise(&mut graph, path, &gone, prior, given, *shape, &mut log_prob);
                rows.push(to_rows(&mut graph, path, &noise, *shape));
                x = kept;
            } else {
                x = forward(&mut graph, path, &x, *piece, *shape, &mut log_prob)?;
            }
        }
        if let Prior::Normal(top) = &self.top {
            let given = Given { kept: None, labels: labels.as_ref() };
            let prior = FoldedPrior::Normal(top.clone());
            x = to_noise(&mut graph, "top", &x, prior, given, self.shape, &mut log_prob);
        }
        rows.push(to_rows(&mut graph, "top", &x, self.shape));
        let latents = concat(&mut graph, LATENTS, &rows.iter().collect::<Vec<_>>());
        graph.output(LATENTS, Type::Float, &[self.image.dims()], &latents);
        if let Some(mut log_prob) = log_prob {
            match self.top {
                Prior::Normal(_) => log_prob.add_energy(&mut graph, LATENTS, &latents),
                Prior::Logistic => log_prob.add_logistic(&mut graph, LATENTS, &latents),
            }
            let total = log_prob.total(&mut graph);
            graph.output(LOG_PROB, Type::Double, &[], &total);
        }
        Ok(graph)
    }

    /// Latents to images.
    pub fn decoder(&self) -> Result<Graph> {
        let mut graph = Graph::new("decode");
        let latents = graph.input(LATENTS, Type::Float, &[self.image.dims()]);
        let labels = self.has_classes.then(|| labels_in(&mut graph));
        let splits = self.stages.iter().filter(|stage| matches!(stage.piece, Piece::Split(_)));
        let shapes: Vec<_> = splits.map(|stage| stage.shape).chain([self.shape]).collect();
        let sizes: Vec<_> = shapes.iter().map(|shape| shape.channels * shape.pixels()).collect();
        let mut rows = graph.split(LATENTS, &latents, 1, &sizes);
        let mut next_row = || rows.pop().expect("one for each split and the top");
        let row = next_row();
        let mut x = from_rows(&mut graph, "top", &row, self.shape);
        if let Prior::Normal(top) = &self.top {
            let given = Given { kept: None, labels: labels.as_ref() };
            x = from_noise(&mut graph, "top", &x, FoldedPrior::Normal(top.clone()), given, self.shape);
        }
        for Stage { path, piece, shape } in self.stages.iter().rev() {
            x = if let Piece::Split(split) = piece {
                let row = next_row();
                let noise = from_rows(&mut graph, path, &row, *shape);
                let given = Given { kept: Some(&x), labels: labels.as_ref() };
                let gone = from_noise(&mut graph, path, &noise, split_prior(*split, *shape), given, *shape);
                concat(&mut graph, path, &[&x, &gone])
            } else {
                inverse(&mut graph, path, &x, *piece, *shape)?
            };
        }
        images_out(&mut graph, &x, self.image);
        Ok(graph)
    }

    /// What normal noise has whatever it is, nats.
    fn log_norm(&self) -> f64 {
        match self.top {
            Prior::Normal(_) => -0.5 * TAU.ln() * self.image.dims() as f64,
            Prior::Logistic => 0.0,
        }
    }
}

fn split_prior(split: Option<&Split>, shape: Shape) -> FoldedPrior {
    split.map_or_else(|| FoldedPrior::Normal(FoldedNormal::standard()), |split| split.prepare(shape.size()).folded())
}

fn forward(
    graph: &mut Graph,
    path: &str,
    x: &Value,
    piece: Piece,
    shape: Shape,
    log_prob: &mut Option<LogProb>,
) -> Result<Value> {
    let pass = Mode::Evaluation.into();
    Ok(match piece {
        Piece::Rearrange(order) => rearrange::forward(graph, path, x, order, shape),
        Piece::Step(step) => step_forward(graph, path, x, &step.prepare(path, pass)?, shape, log_prob),
        Piece::Logit => realnvp::logit(graph, path, x, shape, log_prob),
        Piece::Masked(layer) => {
            realnvp::coupling_forward(graph, path, x, layer.prepare(path, pass)?.folded(), shape, log_prob)
        }
        Piece::Channel(layer) => {
            realnvp::coupling_forward(graph, path, x, layer.prepare(path, pass)?.folded(), shape, log_prob)
        }
        Piece::Whitening(layer) => {
            nice::whitening_forward(graph, path, x, layer.prepare(path, pass)?.folded(), log_prob)
        }
        Piece::Additive(layer) => nice::coupling_forward(graph, path, x, layer, shape),
        Piece::Scaling(layer) => nice::scaling_forward(graph, path, x, &layer.prepare(path, pass)?, log_prob),
        Piece::Split(_) => unreachable!("a split gives two values"),
    })
}

/// Undoes [`forward`]. `shape` is that of `z`.
fn inverse(graph: &mut Graph, path: &str, z: &Value, piece: Piece, shape: Shape) -> Result<Value> {
    let pass = Mode::Evaluation.into();
    Ok(match piece {
        Piece::Rearrange(order) => rearrange::inverse(graph, path, z, order, shape),
        Piece::Step(step) => step_inverse(graph, path, z, &step.prepare(path, pass)?, shape)?,
        Piece::Logit => realnvp::inverse_logit(graph, path, z),
        Piece::Masked(layer) => realnvp::coupling_inverse(graph, path, z, layer.prepare(path, pass)?.folded(), shape),
        Piece::Channel(layer) => realnvp::coupling_inverse(graph, path, z, layer.prepare(path, pass)?.folded(), shape),
        Piece::Whitening(layer) => nice::whitening_inverse(graph, path, z, layer.prepare(path, pass)?.folded()),
        Piece::Additive(layer) => nice::coupling_inverse(graph, path, z, layer, shape),
        Piece::Scaling(layer) => nice::scaling_inverse(graph, path, z, &layer.prepare(path, pass)?),
        Piece::Split(_) => unreachable!("a split takes two values"),
    })
}
