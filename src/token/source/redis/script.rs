//! The scripts that Redis runs, and the commands that a user of Redis must be allowed for them.

use std::sync::OnceLock;

use redis::Script;

/// A script from a file. Its hash is computed once.
pub(super) struct StoreScript {
    /// Calls at most one command in a line, because some errors of Redis name only the line.
    pub(super) text: &'static str,
    script: OnceLock<Script>,
}

impl StoreScript {
    const fn new(text: &'static str) -> Self {
        Self {
            text,
            script: OnceLock::new(),
        }
    }

    /// The script itself.
    pub(super) fn get(&self) -> &Script {
        self.script.get_or_init(|| Script::new(self.text))
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)+) => {
        $(pub(super) static $name: StoreScript = StoreScript::new(include_str!($file));)+

        #[cfg(test)]
        static ALL: &[&StoreScript] = &[$(&$name),+];
    };
}

scripts! {
    READ = "read.lua";
    ACQUIRE = "acquire.lua";
    BEGIN_FETCH = "begin_fetch.lua";
    REFUND = "refund.lua";
    COMPARE_AND_SET = "compare_and_set.lua";
    PUBLISH = "publish.lua";
    RELEASE = "release.lua";
    HEARTBEAT = "heartbeat.lua";
    COUNT_FORCED = "count_forced.lua";
}

/// All commands that are sent to Redis, by themselves or in a script. An ACL must allow them. AUTH is allowed to
/// everybody.
pub const COMMANDS: [&str; 16] = [
    "evalsha",
    "script|load",
    "select",
    "exists",
    "type",
    "get",
    "set",
    "del",
    "incr",
    "decr",
    "pexpire",
    "pttl",
    "time",
    "zadd",
    "zcard",
    "zremrangebyscore",
];

/// The command that a line of a script calls, in upper case.
pub(super) fn command_in(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("redis.call('")?;
    rest.split('\'').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These are sent outside of scripts.
    const SENT: [&str; 4] = ["evalsha", "script|load", "select", "exists"];

    #[test]
    fn the_commands_are_those_of_the_scripts_and_the_few_sent_alone() {
        let lines = || ALL.iter().flat_map(|script| script.text.lines());
        for line in lines() {
            let calls = line.matches("redis.call(").count() + line.matches("redis.pcall").count();
            assert!(calls <= 1, "{line}");
            assert_eq!(command_in(line).is_some(), calls == 1, "{line}");
        }
        let called = lines().filter_map(command_in).map(str::to_ascii_lowercase);
        let mut used: Vec<String> = called.chain(SENT.map(str::to_owned)).collect();
        let mut listed = COMMANDS.map(str::to_owned).to_vec();
        used.sort();
        used.dedup();
        listed.sort();
        assert_eq!(listed, used);
    }
}
