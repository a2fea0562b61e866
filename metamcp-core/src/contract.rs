//! What every backend and generator is tested with (feature `contract`).

mod definitions;

pub use definitions::{definitions, hostile_text};
