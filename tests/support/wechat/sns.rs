//! User logins: `/sns`, whose replies are all `text/plain`.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::{call::Call, reply::Reply, state::State, tokens::random_token};

/// The state that logins leave behind.
#[derive(Debug, Default)]
pub struct Logins {
    used_codes: HashSet<String>,
    /// The openid of each user's token.
    pub user_tokens: HashMap<String, String>,
    /// The openid of each refresh token.
    refresh_tokens: HashMap<String, String>,
    /// Tokens of third-party platforms.
    pub component_tokens: HashSet<String>,
}

/// `GET /sns/jscode2session`
pub fn session(state: &mut State, call: &Call) -> Reply {
    text(redeem(state, call, "js_code").map(|openid| {
        let key = random_token(&mut state.rng, "");
        json!({ "session_key": format!("{}==", &key[..22]), "openid": openid })
    }))
}

/// `GET /sns/oauth2/access_token`
pub fn login(state: &mut State, call: &Call) -> Reply {
    text(redeem(state, call, "code").map(|openid| user_tokens(state, openid)))
}

/// `GET /sns/oauth2/refresh_token`
pub fn refresh(state: &mut State, call: &Call) -> Reply {
    text(openid_of_refresh_token(state, call).map(|openid| user_tokens(state, openid)))
}

/// `GET /sns/userinfo` and `GET /sns/auth`: they accept a user's own token only.
pub fn with_user_token(state: &State, path: &str, call: &Call) -> Reply {
    let openid = match &call.token {
        None => Err(41001),
        Some(token) => state.logins.user_tokens.get(token).ok_or(40001),
    };
    text(openid.map(|openid| {
        if path == "/sns/auth" {
            return json!({ "errcode": 0, "errmsg": "ok" });
        }
        json!({
            "openid": openid,
            "nickname": "张三",
            "sex": 0,
            "province": "",
            "city": "",
            "country": "",
            "headimgurl": "https://thirdwx.qlogo.cn/mmopen/g3MonUZtNHkdmzicIlibx6iaFqAc56vxLSUfpb6n5WKSYVY0ChQKkiaJSgQ1dZuTOgvLLrhJbERQQ4eMsv84eavHiaiceqxibJxCfHe/46",
            "privilege": [],
        })
    }))
}

/// A user's token, as if from a login.
pub fn user_tokens(state: &mut State, openid: String) -> Value {
    let token = random_token(&mut state.rng, "USER-");
    let refresh_token = random_token(&mut state.rng, "REFRESH-");
    let logins = &mut state.logins;
    logins.user_tokens.insert(token.clone(), openid.clone());
    logins
        .refresh_tokens
        .insert(refresh_token.clone(), openid.clone());
    json!({
        "access_token": token,
        "expires_in": 7200,
        "refresh_token": refresh_token,
        "openid": openid,
        "scope": "snsapi_userinfo",
    })
}

/// The openid of a code, which works once.
fn redeem(state: &mut State, call: &Call, parameter: &str) -> Result<String, i64> {
    let (appid, secret) = (call.parameter("appid"), call.parameter("secret"));
    state.tokens.identify(appid.as_deref(), secret.as_deref())?;
    if call.parameter("grant_type").as_deref() != Some("authorization_code") {
        return Err(40002);
    }
    let code = call.parameter(parameter).filter(|code| !code.is_empty());
    let code = code.ok_or(41008)?;
    if code.starts_with("invalid") {
        return Err(40029);
    }
    if !state.logins.used_codes.insert(code.clone()) {
        return Err(40163);
    }
    Ok(format!("oUser{code:0>23}"))
}

fn openid_of_refresh_token(state: &State, call: &Call) -> Result<String, i64> {
    let appid = call.parameter("appid").ok_or(41002)?;
    state.tokens.find(&appid).ok_or(40013)?;
    if call.parameter("grant_type").as_deref() != Some("refresh_token") {
        return Err(40002);
    }
    let token = call.parameter("refresh_token").ok_or(41003)?;
    let openid = state.logins.refresh_tokens.get(&token).ok_or(40030)?;
    Ok(openid.clone())
}

fn text(outcome: Result<Value, i64>) -> Reply {
    match outcome {
        Ok(value) => Reply::json(&value).into_text(),
        Err(errcode) => Reply::error(errcode).into_text(),
    }
}
