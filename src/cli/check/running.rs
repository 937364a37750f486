//! What a running sidecar says about the tokens that it holds.

use serde_json::Value;

use crate::{
    account::{self, SourceOptions},
    token::source::wechat::TokenApi,
};

/// Why no token is requested without `--mint`, if there is a reason.
pub(super) fn reason_not_to_request(account: &account::Options, running: &Value) -> Option<String> {
    let classic = "no token was requested: with the classic API each request ends the token of \
        everybody else; --mint requests one all the same";
    let mints = account.source == SourceOptions::Wechat && account.token_api == TokenApi::Classic;
    let classic = mints.then(|| classic.to_owned());
    holds_token(running, &account.appid, account.name.as_deref()).or(classic)
}

/// The sentence about the token for `appid` that the running sidecar holds, if it holds one. `name` distinguishes
/// accounts of one corp.
fn holds_token(running: &Value, appid: &str, name: Option<&str>) -> Option<String> {
    let accounts = running.get("accounts").unwrap_or(running).as_array()?;
    let account = accounts
        .iter()
        .filter(|account| account.get("appid").is_some_and(|id| id == appid))
        .find(|account| account.get("name").and_then(Value::as_str) == name)?;
    let seconds = account
        .get("token_expires_seconds")?
        .as_f64()
        .filter(|seconds| *seconds > 0.0)?;
    let trouble = account.get("last_error").and_then(Value::as_str);
    let trouble = trouble
        .map(|error| format!(" (its last error: {error})"))
        .unwrap_or_default();
    Some(format!(
        "the running sidecar holds a token for {appid} for another {seconds:.0} s{trouble}; none was requested"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_running_sidecar_is_believed_about_its_own_account_only() {
        let account = json!({"appid": "wx1", "token_expires_seconds": 6400, "last_error": null});
        for running in [json!({"accounts": [account]}), json!([account])] {
            let held = holds_token(&running, "wx1", None).unwrap();
            assert!(held.contains("6400 s;"), "{held}");
            assert_eq!(holds_token(&running, "wx2", None), None);
        }
        for running in [
            Value::Null,
            json!({"accounts": 1}),
            json!([{"appid": "wx1"}]),
            json!([{"appid": "wx1", "token_expires_seconds": null}]),
            json!([{"appid": "wx1", "token_expires_seconds": 0}]),
        ] {
            assert_eq!(holds_token(&running, "wx1", None), None, "{running}");
        }
    }
}
