//! Apps on real SDKs and clients, which `tests/run` installs, and what holds for all of them.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::{
    Sidecar, Wechat,
    wechat::{RecordedCall, SECRET},
};

/// This is longer than an app takes on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// The folder in which `tests/run` installs the SDKs.
pub fn installed(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let path = target.expect("a target folder").join("sdk").join(path);
    assert!(
        path.exists(),
        "{} is missing: run tests/run, which installs the SDKs",
        path.display()
    );
    path
}

/// Runs an app to its end.
pub async fn finished(mut app: Command) -> Output {
    app.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LONG, app.output()).await.expect("the app hangs");
    output.unwrap_or_else(|error| panic!("the app cannot be started: {error}"))
}

/// Awaits `work` while all tokens end again and again.
pub async fn while_tokens_end<T>(wechat: &Wechat, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = end_tokens(wechat) => match never {},
    }
}

/// Ends all tokens again and again, in both ways that WeChat has by turns. No token ends between the two sends of a
/// call, because such a call cannot be healed. That holds because the app makes one call at a time, and the fake,
/// which runs on this thread, receives no call between the check and the change.
async fn end_tokens(wechat: &Wechat) -> Infallible {
    let mut seen = 0;
    for round in 0_u32.. {
        let accepted = |calls: &[RecordedCall]| calls.last().is_some_and(|call| !call.refused);
        let due = |calls: &[RecordedCall]| calls.len() >= seen + 3 && accepted(calls);
        wechat.wait_until(|wechat| due(&wechat.calls())).await;
        seen = wechat.calls().len();
        if round.is_multiple_of(2) {
            wechat.rotate()
        } else {
            wechat.expire()
        }
    }
    unreachable!("apps end before numbers do");
}

/// Checks that the app saw no error, and WeChat at least so many calls, with no token but its own.
pub async fn check_app(output: &Output, least: usize, wechat: &Wechat, sidecar: &Sidecar) {
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}{err}\n{}", sidecar.log());
    assert!(out.contains("without an error"), "{out}");
    let (calls, tokens) = (wechat.calls(), wechat.all_tokens());
    assert!(calls.len() > least, "{}", calls.len());
    for call in &calls {
        let login = call.path() == "/sns/jscode2session";
        let token = call.token.as_ref();
        let its = token.is_some_and(|token| tokens.contains(token));
        assert!(its != login, "{}", call.target);
    }
    // There is one ticket of each type, however often the app asks and however many tokens end.
    assert!(wechat.all_tickets().len() <= 2);
    let tickets = calls
        .iter()
        .filter(|call| call.path() == "/cgi-bin/ticket/getticket");
    let tickets = tickets.filter(|call| !call.refused).count();
    assert!(tickets <= 2, "{tickets} requests for tickets");
    assert!(!wechat.saw_placeholder());
    assert!(wechat.cut_short().is_empty() && wechat.malformed().is_empty());
    // The app has neither the secret nor a token, and its own word for a secret stays here.
    assert!(!out.contains(SECRET) && !tokens.iter().any(|token| out.contains(token)));
    assert!(
        wechat
            .token_requests()
            .iter()
            .all(|request| request.secret_ok)
    );
    // Each refused call was replayed once, and no other call was.
    let refused = calls.iter().filter(|call| call.refused).count();
    let replays = sidecar.metric("wechat_sidecar_replays_total").await;
    assert!(refused > 0);
    assert_eq!(replays, refused as f64);
}
