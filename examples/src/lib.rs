//! Examples live beside this package.
