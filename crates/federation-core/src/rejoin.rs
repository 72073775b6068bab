//! Coming back: is a peer the node it was, and when may a node that lost its state serve again.
