//! How many replicas a write needs.
