//! Vectors, and the space that each belongs to.

use std::sync::Arc;

/// A vector, what made it, and what was done to it: all of it part of what the origin signs.
///
/// Vectors of two spaces have nothing to do with each other, whatever their lengths: a distance between them means
/// nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Name of the model, 1 to [`crate::limits::EMBEDDING_MODEL_BYTES_MAX`] bytes.
    pub model: Arc<str>,
    /// How it came to its length.
    pub normalisation: Normalisation,
    /// 1 to [`crate::limits::EMBEDDING_DIM_MAX`] components, finite, of unit L2 norm within the shipped tolerance.
    pub vector: Arc<[f32]>,
}

/// How a vector came to unit L2 norm. Either way it has it: both are of one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalisation {
    /// The model gave it so: kept byte for byte.
    UnitL2,
    /// The origin divided it by its norm: the model's own length is lost.
    UnitL2Scaled,
}

impl Normalisation {
    /// Stable, for machines.
    pub fn slug(self) -> &'static str {
        match self {
            Self::UnitL2 => "unit_l2",
            Self::UnitL2Scaled => "unit_l2_scaled",
        }
    }
}

/// The space whose vectors a node indexes, by its operator's settings: one model, one dimension, unit L2 norm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingSpace {
    /// Name of the model.
    pub model: Arc<str>,
    /// Components of its vectors.
    pub dim: usize,
}

/// Whether a vector belongs in a node's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceMatch {
    /// It is of the node's own space.
    Indexed,
    /// It is of another one: kept with its record, sent on, and never in the index.
    OtherSpace,
    /// The node has no space of its own and so no index.
    NoIndex,
}

/// Whether `embedding` belongs in the index of a node whose own space is `own`.
///
/// The one place where this is decided, for a client's write and an op from elsewhere alike, when it is applied
/// and when it is shown. The answer is stored nowhere: what an index holds follows from the signed op and the present
/// settings, so that another setting finds no stale entry.
pub fn space_match(own: Option<&EmbeddingSpace>, embedding: &Embedding) -> SpaceMatch {
    match own {
        None => SpaceMatch::NoIndex,
        Some(own) if own.model == embedding.model && own.dim == embedding.vector.len() => SpaceMatch::Indexed,
        Some(_) => SpaceMatch::OtherSpace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_of_another_model_or_dimension_is_of_another_space() {
        let own = EmbeddingSpace { model: Arc::from("mini-lm"), dim: 2 };
        let check = |model: &str, vector: &[f32], normalisation, expect| {
            let embedding = Embedding { model: Arc::from(model), normalisation, vector: Arc::from(vector) };
            assert_eq!(space_match(Some(&own), &embedding), expect, "{embedding:?}");
            assert_eq!(space_match(None, &embedding), SpaceMatch::NoIndex);
        };
        check("mini-lm", &[1.0, 0.0], Normalisation::UnitL2, SpaceMatch::Indexed);
        check("mini-lm", &[1.0, 0.0], Normalisation::UnitL2Scaled, SpaceMatch::Indexed);
        check("mini-lm", &[1.0], Normalisation::UnitL2, SpaceMatch::OtherSpace);
        check("mini-lm", &[1.0, 0.0, 0.0], Normalisation::UnitL2, SpaceMatch::OtherSpace);
        check("Mini-lm", &[1.0, 0.0], Normalisation::UnitL2, SpaceMatch::OtherSpace);
        check("mini", &[1.0, 0.0], Normalisation::UnitL2, SpaceMatch::OtherSpace);
    }
}
