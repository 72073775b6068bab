//! Which frames of a sender have been here.

use std::collections::BTreeSet;

use federation_core::limits::FRAME_AGE_MAX;
use federation_core::planted::{Defect, is_planted};
use federation_core::time::WallMs;

use super::error::FrameError;
use super::header::Nonce;

/// The frames of one sender within the window of times that are taken. Bounded; when it is full, frames are
/// refused, not forgotten.
///
/// A frame is named by its time and its nonce, which are both signed. A time is forgotten once it is outside the
/// window; what is not later than a forgotten time is refused from then on, also if this node's clock is set back.
#[derive(Clone, Debug)]
pub struct NonceWindow {
    frames_max: usize,
    seen: BTreeSet<(WallMs, Nonce)>,
    forgotten: Option<WallMs>,
}

impl NonceWindow {
    /// Has seen nothing, and remembers up to so many frames.
    pub const fn new(frames_max: usize) -> Self {
        Self { frames_max, seen: BTreeSet::new(), forgotten: None }
    }

    /// How many frames it remembers.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether it remembers none.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether a frame of this time and nonce may be new. Asked before its signature is verified.
    ///
    /// # Errors
    /// [`FrameError::Replayed`], [`FrameError::Stale`].
    pub fn check(&self, sent_at: WallMs, nonce: Nonce, now: WallMs) -> Result<(), FrameError> {
        if is_planted(Defect::AcceptReplay) {
            return Ok(());
        }
        if self.forgotten.is_some_and(|forgotten| sent_at <= forgotten) {
            return Err(FrameError::Stale { sent_at, now });
        }
        if self.seen.contains(&(sent_at, nonce)) {
            return Err(FrameError::Replayed);
        }
        Ok(())
    }

    /// Remembers a frame whose signature is verified; one that came twice at once is refused here.
    ///
    /// # Errors
    /// As [`NonceWindow::check`], and [`FrameError::NonceWindowFull`].
    pub fn record(&mut self, sent_at: WallMs, nonce: Nonce, now: WallMs) -> Result<(), FrameError> {
        self.forget(now);
        self.check(sent_at, nonce, now)?;
        if self.seen.len() >= self.frames_max {
            return Err(FrameError::NonceWindowFull { limit: self.frames_max });
        }
        self.seen.insert((sent_at, nonce));
        Ok(())
    }

    fn forget(&mut self, now: WallMs) {
        let oldest = WallMs(now.0.saturating_sub(FRAME_AGE_MAX.0));
        while let Some(&(sent_at, _)) = self.seen.first()
            && sent_at < oldest
        {
            self.seen.pop_first();
            self.forgotten = self.forgotten.max(Some(sent_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000;

    #[test]
    fn a_frame_is_taken_once_within_the_window_and_never_after_it() {
        let mut window = NonceWindow::new(10);
        let (at, nonce) = (WallMs(START), Nonce(1));
        assert_eq!(window.record(at, nonce, at), Ok(()));
        assert_eq!(window.check(at, nonce, at), Err(FrameError::Replayed));
        assert_eq!(window.record(at, nonce, at), Err(FrameError::Replayed));
        assert_eq!(window.record(at, Nonce(2), at), Ok(()));

        let later = WallMs(START + FRAME_AGE_MAX.0 + 1);
        assert_eq!(window.record(later, Nonce(3), later), Ok(()));
        assert_eq!(window.len(), 1);
        // The clock is set back: the frame that was forgotten would pass the check of its time.
        assert!(matches!(window.check(at, nonce, at), Err(FrameError::Stale { .. })));
        assert_eq!(window.check(WallMs(START + 1), Nonce(4), at), Ok(()));
    }

    #[test]
    fn a_full_window_refuses_until_time_has_passed() {
        let mut window = NonceWindow::new(3);
        let at = WallMs(START);
        for nonce in 0..3 {
            assert_eq!(window.record(at, Nonce(nonce), at), Ok(()));
        }
        let full = FrameError::NonceWindowFull { limit: 3 };
        assert_eq!(window.record(at, Nonce(u128::MAX), at), Err(full));
        assert_eq!(window.check(at, Nonce(0), at), Err(FrameError::Replayed));
        let later = WallMs(START + FRAME_AGE_MAX.0 + 1);
        assert_eq!(window.record(later, Nonce(u128::MAX), later), Ok(()));
    }
}
