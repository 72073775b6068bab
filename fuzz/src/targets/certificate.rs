//! The certificate that a caller shows.

use std::sync::{Arc, OnceLock};

use federation_core::id::NodeId;
use federation_net::enrolled::Enrolled;
use federation_net::tls::pem::{CertificateDer, PrivateKeyDer};
use federation_net::tls::{Credentials, PeerTls, PkiMaterial};
use federation_net::transport::ChannelIdentity;
use federation_wire::identity::{Directory, Enrolment};
use federation_wire::keys::NodeKey;

/// PKCS#8 of the Ed25519 key of seed 7, before the seed.
const PKCS8_OF_A_SEED: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const SEED: [u8; 32] = [7; 32];
/// Of the authority that the node of a PKI takes.
const AUTHORITY: &[u8] = include_bytes!("../../corpus/certificate/valid-authority");
/// Of node `a` by that authority, with the key of [`SEED`].
const ISSUED: &[u8] = include_bytes!("../../corpus/certificate/valid-spiffe");

/// Held against a node that takes node keys, and against one of a PKI.
pub(super) fn certificate(input: &[u8]) {
    static NODES: OnceLock<[PeerTls; 2]> = OnceLock::new();
    let [of_keys, of_pki] = NODES.get_or_init(nodes);
    let chain = [CertificateDer::from(input)];
    if let Some(ChannelIdentity::NodeKey { node, .. }) = of_keys.caller_by(&chain) {
        let key = NodeKey::from_seed(&SEED).public().as_bytes().to_vec();
        assert!(input.windows(key.len()).any(|window| window == key), "{node} without its key");
    }
    if of_pki.caller_by(&chain).is_some() {
        assert_eq!(input, ISSUED, "the authority has issued one certificate");
    }
}

fn nodes() -> [PeerTls; 2] {
    let key = Arc::new(NodeKey::from_seed(&SEED));
    let Ok(directory) = Directory::new(&[Enrolment::full("a", "https://127.0.0.1:1", key.public())]) else {
        panic!("a valid entry")
    };
    let enrolled = Enrolled::new(directory);
    let Ok(own) = NodeId::new("n") else { panic!("a valid name") };
    let Ok(of_key) = Credentials::of_node_key(&own, &key) else { panic!("a node key has a certificate") };
    let of_pki = Credentials::of_pki(PkiMaterial {
        chain: vec![CertificateDer::from(ISSUED)],
        key: PrivateKeyDer::Pkcs8([&PKCS8_OF_A_SEED[..], &SEED].concat().into()),
        roots: vec![CertificateDer::from(AUTHORITY)],
        spiffe_domain: Some("mesh.example".to_owned()),
    });
    let of_pki = match of_pki {
        Ok(of_pki) => of_pki,
        Err((file, fault)) => panic!("{file:?} {fault}"),
    };
    let nodes = [of_key, of_pki].map(|credentials| match PeerTls::new(enrolled.clone(), credentials) {
        Ok(tls) => tls,
        Err(error) => panic!("{error}"),
    });
    let sound = [&include_bytes!("../../corpus/certificate/valid-node-key")[..], ISSUED];
    for (node, sound) in nodes.iter().zip(sound) {
        assert!(node.caller_by(&[CertificateDer::from(sound)]).is_some(), "a sound certificate is taken");
    }
    nodes
}
