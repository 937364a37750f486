//! Limits of the container that do not fit what the sidecar needs, without being too low for it to run.

use super::{names::Prefix, setting::SettingId, settings::SidecarSettings};

/// The default of `replay-limit`, in bytes.
const REPLAY_LIMIT: f64 = 16.0 * 1024.0 * 1024.0;

/// What part of the memory limit is for held bodies by default.
const HELD_PART: f64 = 0.25;

/// Warnings about the limits of `settings`.
pub(super) fn unfit(settings: &SidecarSettings, prefix: &Prefix) -> Vec<String> {
    let Some(memory) = &settings.limits.memory else {
        return Vec::new();
    };
    let held = memory.value * HELD_PART;
    if held >= REPLAY_LIMIT {
        return Vec::new();
    }
    let (key, held) = (
        prefix.key(SettingId::MemoryLimit.setting().name),
        held / f64::from(1 << 20),
    );
    vec![format!(
        "{key} is {}: {held:.0} MiB of it are for held bodies, and a larger one is not sent again after a refusal; \
         64Mi is enough for any up to replay-limit",
        memory.text
    )]
}
