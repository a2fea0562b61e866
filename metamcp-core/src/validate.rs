//! From a definition as written to one that is known to be good: [`validate()`].
//!
//! *Invariant:* pure. No I/O, clock, environment or randomness; every problem is reported at once.

mod errors;
mod valid;

pub use errors::{Problem, ValidationErrors};
pub use valid::{
    EffectiveLimits, EgressRule, ResourceAddress, ValidDefinition, ValidPrompt, ValidPromptSource, ValidResource,
    ValidTool,
};
