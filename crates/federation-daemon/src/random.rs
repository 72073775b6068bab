//! Randomness, all of it from the operating system.

use rand::Rng as _;
use rand::rngs::StdRng;

use federation_core::id::BootId;
use federation_core::time::WallMs;

/// A generator seeded by the operating system.
pub fn system_rng() -> StdRng {
    rand::make_rng()
}

/// The id of a start.
pub fn boot_id() -> BootId {
    BootId(system_rng().next_u64())
}

/// A record id that nobody has used: a UUID of version 7 (RFC 9562), which sorts by the time it was made.
pub fn record_id(now: WallMs) -> String {
    let mut rng = system_rng();
    let (high, low) = (rng.next_u64(), rng.next_u64());
    uuid_v7(now.0, high, low)
}

fn uuid_v7(now_ms: u64, high: u64, low: u64) -> String {
    let time_high = (now_ms >> 16) & 0xffff_ffff;
    let time_low = now_ms & 0xffff;
    let version = 0x7000 | (high & 0x0fff);
    let variant = 0x8000 | ((low >> 48) & 0x3fff);
    format!("{time_high:08x}-{time_low:04x}-{version:04x}-{variant:04x}-{:012x}", low & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_form_of_the_standard() {
        let text = uuid_v7(0x0192_3456_789a, u64::MAX, u64::MAX);
        assert_eq!(text, "01923456-789a-7fff-bfff-ffffffffffff");
        assert_eq!(uuid_v7(0, 0, 0), "00000000-0000-7000-8000-000000000000");
        assert_ne!(record_id(WallMs(1)), record_id(WallMs(1)));
    }
}
