//! The Merkle tree over the ops of a group: one signed root proves each of them alone.
//!
//! Leaves and inner nodes are hashed under domains of their own, so that neither passes for the other. A last
//! node without a neighbour moves up as it is: the tree of RFC 9162, section 2.1, with blake3.

use federation_core::id::OpHash;

const LEAF_DOMAIN: &[u8] = b"federation/v1/leaf\0";
const NODE_DOMAIN: &[u8] = b"federation/v1/node\0";

/// A hash in the tree.
pub(crate) type Hash = [u8; 32];

/// A tree, as its levels from the leaves to the root.
pub(crate) struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// The tree over `ops`, which are not empty.
    pub(crate) fn new(ops: &[OpHash]) -> Self {
        let mut level: Vec<Hash> = ops.iter().map(leaf).collect();
        let mut levels = Vec::new();
        while level.len() > 1 {
            let above = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node(left, right),
                    [alone] => *alone,
                    _ => Hash::default(),
                })
                .collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Self { levels }
    }

    /// The root.
    pub(crate) fn root(&self) -> Hash {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or_default()
    }

    /// The neighbours on the way from leaf `index` to the root.
    pub(crate) fn path(&self, index: usize) -> Vec<Hash> {
        let neighbours = self.levels.iter().enumerate().filter_map(|(depth, level)| {
            let at = index >> depth;
            // The root's level has no second node, as the end of an odd level has none.
            level.get(at ^ 1).copied()
        });
        neighbours.collect()
    }
}

/// How many neighbours stand on the way from leaf `index` of `count` to the root.
pub(crate) fn path_len(mut index: usize, mut count: usize) -> usize {
    let mut len = 0;
    while count > 1 {
        len += usize::from(index ^ 1 < count);
        index /= 2;
        count = count.div_ceil(2);
    }
    len
}

/// The root that `op` at `index` of `count` has under `path`; none if the path has another length than that place.
pub(crate) fn root_of(op: &OpHash, mut index: usize, mut count: usize, path: &[Hash]) -> Option<Hash> {
    let mut at = leaf(op);
    let mut path = path.iter();
    while count > 1 {
        if index ^ 1 < count {
            let neighbour = path.next()?;
            at = if index.is_multiple_of(2) { node(&at, neighbour) } else { node(neighbour, &at) };
        }
        index /= 2;
        count = count.div_ceil(2);
    }
    path.next().is_none().then_some(at)
}

fn leaf(op: &OpHash) -> Hash {
    *blake3::Hasher::new().update(LEAF_DOMAIN).update(&op.0).finalize().as_bytes()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    *blake3::Hasher::new().update(NODE_DOMAIN).update(left).update(right).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(count: u32) -> Vec<OpHash> {
        (0..count).map(|i| OpHash(*blake3::hash(&i.to_le_bytes()).as_bytes())).collect()
    }

    #[test]
    fn each_leaf_of_each_tree_reaches_the_root_by_its_own_path_alone() {
        for count in 1..=70 {
            let ops = ops(count);
            let tree = Tree::new(&ops);
            for (index, op) in ops.iter().enumerate() {
                let path = tree.path(index);
                assert_eq!(path.len(), path_len(index, ops.len()));
                assert_eq!(root_of(op, index, ops.len(), &path), Some(tree.root()), "{index} of {count}");
                for other in (0..ops.len()).filter(|other| *other != index) {
                    assert_ne!(root_of(op, other, ops.len(), &path), Some(tree.root()));
                }
                let longer: Vec<Hash> = path.iter().copied().chain([[0; 32]]).collect();
                assert_eq!(root_of(op, index, ops.len(), &longer), None);
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(root_of(op, index, ops.len(), shorter), None);
                }
            }
        }
    }

    #[test]
    fn a_group_of_one_has_an_empty_path() {
        let tree = Tree::new(&ops(1));
        assert!(tree.path(0).is_empty());
        assert_eq!(path_len(0, 1), 0);
    }

    #[test]
    fn an_inner_node_does_not_pass_for_a_leaf() {
        let ops = ops(4);
        let tree = Tree::new(&ops);
        let inner = OpHash(tree.levels[1][0]);
        assert_ne!(root_of(&inner, 0, 2, &tree.path(0)[1..]), Some(tree.root()));
    }
}
