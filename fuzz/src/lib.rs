//! Fuzz targets of the decoders, by name.

mod targets;

/// Runs the target of that name on `input`.
///
/// # Panics
/// If the target finds a fault, or there is none of that name.
pub fn run(target: &str, input: &[u8]) {
    match targets::TARGETS.iter().find(|(name, _)| *name == target) {
        Some((_, run)) => run(input),
        None => panic!("there is no target {target}"),
    }
}
