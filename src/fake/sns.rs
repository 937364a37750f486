//! User logins: `/sns`, whose replies are all `text/plain`.

use serde_json::{Value, json};

use super::{call::RecordedCall, reply::WechatReply, state::WechatState, tokens::random_token};

/// `GET /sns/jscode2session`
pub(super) fn session(state: &mut WechatState, call: &RecordedCall) -> WechatReply {
    text(redeem(state, call, "js_code").map(|openid| {
        let key = random_token(&mut state.rng, "");
        json!({ "session_key": format!("{}==", &key[..22]), "openid": openid })
    }))
}

/// `GET /sns/oauth2/access_token`
pub(super) fn login(state: &mut WechatState, call: &RecordedCall) -> WechatReply {
    text(redeem(state, call, "code").map(|openid| state.logins.user_tokens(openid, &mut state.rng)))
}

/// `GET /sns/oauth2/refresh_token`
pub(super) fn refresh(state: &mut WechatState, call: &RecordedCall) -> WechatReply {
    text(
        openid_of_refresh_token(state, call)
            .map(|openid| state.logins.user_tokens(openid, &mut state.rng)),
    )
}

/// `GET /sns/userinfo` and `GET /sns/auth`: they accept a user's own token only.
pub(super) fn with_user_token(state: &WechatState, path: &str, call: &RecordedCall) -> WechatReply {
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

/// The openid of a code, which works once.
fn redeem(state: &mut WechatState, call: &RecordedCall, parameter: &str) -> Result<String, i64> {
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

fn openid_of_refresh_token(state: &WechatState, call: &RecordedCall) -> Result<String, i64> {
    let appid = call.parameter("appid").ok_or(41002)?;
    state.tokens.find(&appid).ok_or(40013)?;
    if call.parameter("grant_type").as_deref() != Some("refresh_token") {
        return Err(40002);
    }
    let token = call.parameter("refresh_token").ok_or(41003)?;
    let openid = state.logins.refresh_tokens.get(&token).ok_or(40030)?;
    Ok(openid.clone())
}

fn text(outcome: Result<Value, i64>) -> WechatReply {
    match outcome {
        Ok(value) => WechatReply::json(&value).into_text(),
        Err(errcode) => WechatReply::error(errcode).into_text(),
    }
}
