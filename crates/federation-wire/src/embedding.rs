//! Vectors that are shipped with a record.

use std::sync::Arc;

use federation_core::embedding::{Embedding, Normalisation};
use federation_core::limits::{EMBEDDING_DIM_MAX, EMBEDDING_MODEL_BYTES_MAX};

/// How far a vector's L2 norm may be from 1 for it to be kept byte for byte.
pub const SHIPPED_VECTOR_NORM_TOLERANCE: f64 = 1e-3;

/// A vector as a client ships it: made by a model, not looked at yet.
#[derive(Clone, Debug, PartialEq)]
pub struct ShippedEmbedding {
    /// Name of the model, 1 to [`EMBEDDING_MODEL_BYTES_MAX`] bytes.
    pub model: String,
    /// The components.
    pub vector: Vec<f32>,
}

/// Why a vector is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VectorFault {
    /// It has no component.
    #[error("the vector is empty")]
    Empty,
    /// It has more components than are carried.
    #[error("the vector has {dim} components, the limit is {limit}")]
    TooLong {
        /// How many it has.
        dim: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A component is NaN or infinite.
    #[error("component {index} of the vector is not a finite number")]
    NotFinite {
        /// The first such component.
        index: usize,
    },
    /// All components are zero: it has no direction.
    #[error("the vector is zero")]
    Zero,
    /// It is said to have unit norm and does not.
    #[error("the vector is said to be of unit norm and is not")]
    NotUnit,
    /// The model's name is empty or too long.
    #[error("the name of the model takes {bytes} bytes, allowed are 1 to {limit_bytes}")]
    Model {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit_bytes: usize,
    },
}

impl VectorFault {
    /// Stable, machine-readable.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Empty => "vector_empty",
            Self::TooLong { .. } => "vector_too_long",
            Self::NotFinite { .. } => "vector_not_finite",
            Self::Zero => "vector_zero",
            Self::NotUnit => "vector_not_unit",
            Self::Model { .. } => "vector_model_invalid",
        }
    }
}

impl ShippedEmbedding {
    /// The embedding that its origin signs: finite, of unit norm, and saying how it came to that.
    ///
    /// # Errors
    /// [`VectorFault`] if the vector or the model's name is of no use.
    pub fn sanitize(self) -> Result<Embedding, VectorFault> {
        check_model(&self.model)?;
        let normalisation = match check_shipped_vector(&self.vector)? {
            norm if is_unit(norm) => Normalisation::UnitL2,
            _ => Normalisation::UnitL2Scaled,
        };
        let vector = sanitize_shipped_vector(self.vector)?;
        Ok(Embedding { model: Arc::from(self.model), normalisation, vector: Arc::from(vector) })
    }
}

/// Checks an embedding that another node has signed. Nothing is mended here: the vector is what the origin says that it
/// is, or of no use.
///
/// # Errors
/// [`VectorFault`]. The record is not the worse for it.
pub fn check_signed(embedding: &Embedding) -> Result<(), VectorFault> {
    check_model(&embedding.model)?;
    let norm = check_shipped_vector(&embedding.vector)?;
    if is_unit(norm) { Ok(()) } else { Err(VectorFault::NotUnit) }
}

fn check_model(model: &str) -> Result<(), VectorFault> {
    match model.len() {
        1..=EMBEDDING_MODEL_BYTES_MAX => Ok(()),
        bytes => Err(VectorFault::Model { bytes, limit_bytes: EMBEDDING_MODEL_BYTES_MAX }),
    }
}

/// `vector` with unit L2 norm: byte for byte as it came if its norm is within
/// [`SHIPPED_VECTOR_NORM_TOLERANCE`] of 1, else divided by its norm.
///
/// The norm is computed in f64, where the square of no f32 overflows or becomes zero, and in a fixed
/// order, so that each node gets the same bits.
///
/// # Errors
/// [`VectorFault`] if it is empty, longer than [`EMBEDDING_DIM_MAX`], zero, or has a component that is not finite.
pub fn sanitize_shipped_vector(mut vector: Vec<f32>) -> Result<Vec<f32>, VectorFault> {
    let norm = check_shipped_vector(&vector)?;
    if !is_unit(norm) {
        for component in &mut vector {
            #[expect(clippy::cast_possible_truncation, reason = "the quotient is within -1 to 1")]
            let scaled = (f64::from(*component) / norm) as f32;
            *component = scaled;
        }
    }
    Ok(vector)
}

fn is_unit(norm: f64) -> bool {
    (norm - 1.0).abs() <= SHIPPED_VECTOR_NORM_TOLERANCE
}

/// The L2 norm of a vector that has one of use.
fn check_shipped_vector(vector: &[f32]) -> Result<f64, VectorFault> {
    if vector.is_empty() {
        return Err(VectorFault::Empty);
    }
    if vector.len() > EMBEDDING_DIM_MAX {
        return Err(VectorFault::TooLong { dim: vector.len(), limit: EMBEDDING_DIM_MAX });
    }
    if let Some(index) = vector.iter().position(|component| !component.is_finite()) {
        return Err(VectorFault::NotFinite { index });
    }
    let norm = l2_norm(vector);
    if norm == 0.0 { Err(VectorFault::Zero) } else { Ok(norm) }
}

/// Lanes of the sum: the order of additions is part of the result's bits, so the number is fixed.
const LANES: usize = 8;

fn l2_norm(vector: &[f32]) -> f64 {
    let (chunks, rest) = vector.as_chunks::<LANES>();
    let mut sums = [0.0_f64; LANES];
    for chunk in chunks {
        for (sum, component) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*component) * f64::from(*component);
        }
    }
    for (sum, component) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*component) * f64::from(*component);
    }
    sums.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(vector: &[f32], expect: Result<&[f32], VectorFault>) {
        let bits = |vector: &[f32]| vector.iter().map(|component| component.to_bits()).collect::<Vec<_>>();
        let found = sanitize_shipped_vector(vector.to_vec()).map(|vector| bits(&vector));
        assert_eq!(found, expect.map(bits), "{vector:?}");
    }

    #[test]
    fn vectors_of_no_use_are_refused() {
        check(&[], Err(VectorFault::Empty));
        check(&[0.0; 9], Err(VectorFault::Zero));
        check(&[-0.0], Err(VectorFault::Zero));
        check(&[1.0, f32::NAN], Err(VectorFault::NotFinite { index: 1 }));
        check(&[f32::INFINITY, f32::NAN], Err(VectorFault::NotFinite { index: 0 }));
        check(&[1.0, f32::NEG_INFINITY], Err(VectorFault::NotFinite { index: 1 }));
        let (dim, limit) = (EMBEDDING_DIM_MAX + 1, EMBEDDING_DIM_MAX);
        check(&vec![1.0; dim], Err(VectorFault::TooLong { dim, limit }));
    }

    #[test]
    fn squares_that_overflow_or_vanish_in_f32_turn_no_vector_away() {
        check(&[1e30, 0.0], Ok(&[1.0, 0.0]));
        check(&[0.0, -1e-30], Ok(&[0.0, -1.0]));
        check(&[f32::MAX, 0.0], Ok(&[1.0, 0.0]));
        check(&[f32::from_bits(1), 0.0], Ok(&[1.0, 0.0]));
        let (huge, tiny) = (2.0_f32.powi(100), 2.0_f32.powi(-100));
        check(&[3.0 * huge, 4.0 * huge], Ok(&[0.6, 0.8]));
        check(&[3.0 * tiny, -4.0 * tiny], Ok(&[0.6, -0.8]));
        check(&[f32::MAX; 4], Ok(&[0.5; 4]));
    }

    #[test]
    fn within_the_tolerance_every_byte_stays() {
        check(&[1.0], Ok(&[1.0]));
        check(&[1.000_9], Ok(&[1.000_9]));
        check(&[0.999_1], Ok(&[0.999_1]));
        check(&[1.001_1], Ok(&[1.0]));
        check(&[0.998_9], Ok(&[1.0]));
        check(&[2.0, -0.0], Ok(&[1.0, -0.0]));
    }

    proptest! {
        #[test]
        fn what_comes_out_has_unit_norm_and_stays_as_it_is(
            vector in proptest::collection::vec(proptest::num::f32::NORMAL, 1..100),
        ) {
            let once = sanitize_shipped_vector(vector).unwrap();
            prop_assert!((l2_norm(&once) - 1.0).abs() <= SHIPPED_VECTOR_NORM_TOLERANCE);
            prop_assert_eq!(sanitize_shipped_vector(once.clone()), Ok(once));
        }
    }

    #[test]
    fn what_was_done_is_said_and_a_signed_vector_is_held_to_it() {
        let shipped = |vector: &[f32]| ShippedEmbedding { model: "m".to_owned(), vector: vector.to_vec() };
        let kept = shipped(&[1.000_9]).sanitize().unwrap();
        assert_eq!((kept.normalisation, &*kept.vector), (Normalisation::UnitL2, &[1.000_9_f32][..]));
        let scaled = shipped(&[3.0, -4.0]).sanitize().unwrap();
        assert_eq!(
            (scaled.normalisation, &*scaled.vector),
            (Normalisation::UnitL2Scaled, &[0.6_f32, -0.8][..])
        );
        for embedding in [kept, scaled] {
            assert_eq!(check_signed(&embedding), Ok(()));
            let longer = Embedding { vector: Arc::from([1.001_1_f32]), ..embedding };
            assert_eq!(check_signed(&longer), Err(VectorFault::NotUnit));
        }
    }

    #[test]
    fn the_order_of_additions_is_fixed() {
        // With 1, 4 or 16 lanes the last bits differ: nodes of two builds would store different vectors.
        let vector: Vec<f32> = (7_u8..=106).map(|n| 1.0 / f32::from(n)).collect();
        assert_eq!(l2_norm(&vector).to_bits(), 0x3fd8_4ca6_0ba9_b5de);
    }
}
