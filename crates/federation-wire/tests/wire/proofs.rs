//! Proofs: each op of a group is proven alone, and nothing else is.

use std::sync::Arc;

use federation_core::dot::Dot;
use federation_core::id::{KeyId, OpHash};
use federation_core::limits::{GROUP_OPS_MAX, PROOF_BYTES_MAX};
use federation_core::port::sealer::Sealer;
use federation_wire::identity::KeyRefusal;
use federation_wire::keys::{NodeKey, PublicKey};
use federation_wire::seal::{GroupSealer, Proof, ProofError, ProofVerifier, verify_proof};

use crate::samples::{key, origin};

fn hashes(count: usize) -> Vec<OpHash> {
    (0..count).map(|at| OpHash(*blake3::hash(&at.to_le_bytes()).as_bytes())).collect()
}

fn seal(count: usize) -> Vec<(OpHash, Arc<[u8]>)> {
    let hashes = hashes(count);
    let proofs = GroupSealer::new(Arc::new(key())).seal(&origin("a", 1), &hashes);
    hashes.into_iter().zip(proofs).collect()
}

/// An op of the series of `origin`.
fn dot(node: &str, epoch: u64) -> Dot {
    Dot { origin: origin(node, epoch), seq: 1 }
}

fn lookup(_: &Dot, id: KeyId) -> Result<PublicKey, KeyRefusal> {
    if id == key().id() { Ok(key().public().clone()) } else { Err(KeyRefusal::Unknown) }
}

#[test]
fn each_op_of_a_group_is_proven_alone() {
    for count in [1, 2, 3, 5, 8, 33] {
        for (hash, proof) in seal(count) {
            assert_eq!(verify_proof(&dot("a", 1), &hash, &proof, lookup), Ok(()));
        }
    }
    assert_eq!(seal(1)[0].1.len(), 80, "a group of one has an empty path");
}

#[test]
fn a_flipped_bit_proves_nothing() {
    let sealed = seal(5);
    for (hash, proof) in &sealed {
        for bit in 0..proof.len() * 8 {
            let mut forged = proof.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(verify_proof(&dot("a", 1), hash, &forged, lookup).is_err(), "bit {bit}");
        }
        for bit in [0, 100, 255] {
            let mut other = *hash;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify_proof(&dot("a", 1), &other, proof, lookup), Err(ProofError::Invalid));
        }
        for len in 0..proof.len() {
            assert!(verify_proof(&dot("a", 1), hash, &proof[..len], lookup).is_err());
        }
        let longer = [&**proof, &[0; 32]].concat();
        assert_eq!(Proof::from_bytes(&longer), Err(ProofError::Malformed));
        assert_eq!(Proof::from_bytes(&proof[..proof.len() - 32]), Err(ProofError::Malformed));
    }
}

#[test]
fn a_proof_is_of_one_origin_and_key() {
    let (hash, proof) = seal(3).remove(1);
    for other in [dot("b", 1), dot("a", 2)] {
        assert_eq!(verify_proof(&other, &hash, &proof, lookup), Err(ProofError::Invalid));
    }
    let nobody = |_: &Dot, _| Err(KeyRefusal::Unknown);
    let unknown = ProofError::UnknownKey { key_id: key().id() };
    assert_eq!(verify_proof(&dot("a", 1), &hash, &proof, nobody), Err(unknown));
    let other_key = |_: &Dot, _| Ok(NodeKey::from_seed(&[2; 32]).public().clone());
    assert_eq!(verify_proof(&dot("a", 1), &hash, &proof, other_key), Err(ProofError::Invalid));
}

#[test]
fn a_remembered_root_does_not_prove_another_signature() {
    let sealed = seal(2);
    let mut verifier = ProofVerifier::new(lookup);
    assert_eq!(verifier.verify(&dot("a", 1), &sealed[0].0, &sealed[0].1), Ok(()));
    let mut forged = sealed[1].1.to_vec();
    forged[20] ^= 1;
    assert_eq!(verifier.verify(&dot("a", 1), &sealed[1].0, &forged), Err(ProofError::Invalid));
    assert_eq!(verifier.verify(&dot("b", 1), &sealed[1].0, &sealed[1].1), Err(ProofError::Invalid));
    assert_eq!(verifier.verify(&dot("a", 1), &sealed[1].0, &sealed[1].1), Ok(()));
}

#[test]
fn a_remembered_root_does_not_prove_an_op_that_its_revoked_key_has_no_say_in() {
    let sealed = seal(2);
    let until_one = |dot: &Dot, id| if dot.seq > 1 { Err(KeyRefusal::Revoked) } else { lookup(dot, id) };
    let mut verifier = ProofVerifier::new(until_one);
    assert_eq!(verifier.verify(&dot("a", 1), &sealed[0].0, &sealed[0].1), Ok(()));
    let second = Dot { seq: 2, ..dot("a", 1) };
    let revoked = ProofError::KeyRevoked { key_id: key().id() };
    assert_eq!(verifier.verify(&second, &sealed[1].0, &sealed[1].1), Err(revoked));
}

#[test]
fn a_full_group_verifies_as_one_page() {
    let sealed = seal(GROUP_OPS_MAX);
    let mut verifier = ProofVerifier::new(lookup);
    for (hash, proof) in &sealed {
        assert!(proof.len() <= PROOF_BYTES_MAX);
        assert_eq!(verifier.verify(&dot("a", 1), hash, proof), Ok(()));
    }
    assert_eq!(verifier.roots(), 1, "one signature for all of them");
}

#[test]
fn larger_groups_are_sealed_in_parts_and_refused_whole() {
    for (hash, proof) in seal(GROUP_OPS_MAX + 3) {
        assert_eq!(verify_proof(&dot("a", 1), &hash, &proof, lookup), Ok(()));
    }
    let mut bytes = seal(1).remove(0).1.to_vec();
    let count = GROUP_OPS_MAX + 1;
    bytes[8..12].copy_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
    let expect = ProofError::GroupTooLarge { count, limit: GROUP_OPS_MAX };
    assert_eq!(Proof::from_bytes(&bytes), Err(expect));
    bytes[8..12].copy_from_slice(&0_u32.to_le_bytes());
    assert_eq!(Proof::from_bytes(&bytes), Err(ProofError::Malformed), "a group of none");
}
