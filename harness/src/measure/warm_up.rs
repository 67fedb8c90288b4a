//! What goes before the window.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a load runs before what it does is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarmUp {
    /// Until the rate holds still, and not longer than this.
    UpTo(Duration),
    /// All of this time: others begin at the same moment, and all windows must be one.
    Whole(Duration),
}

impl WarmUp {
    /// The longest it can take.
    #[must_use]
    pub fn longest(self) -> Duration {
        let (Self::UpTo(time) | Self::Whole(time)) = self;
        time
    }
}
