//! Who holds one write, and whether that is enough.
