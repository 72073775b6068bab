//! Fuzz targets of the decoders. See [`targets`].

pub mod targets;
