//! Which namespaces a node keeps, gives out or takes: globs.
