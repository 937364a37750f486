//! The fake's quotas of calls, and what it says of a rid.

use serde_json::{Value, json};
use tokio::time::advance;

use super::{
    post, seconds,
    wechat::{APPID, SECRET, Wechat},
};

const PATH: &str = "/cgi-bin/message/custom/send";

async fn ask(wechat: &Wechat, path: &str, body: &Value) -> Value {
    let target = format!("{path}?access_token={}", wechat.token());
    post(wechat, &target, body).await.json()
}

async fn code(wechat: &Wechat, path: &str, body: &Value) -> i64 {
    ask(wechat, path, body).await["errcode"].as_i64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_quota_ends_calls_until_its_time_is_over_or_it_is_reset() {
    let wechat = Wechat::calm().await;
    wechat.limit(PATH, Some(3), Some(2));
    let send = async || code(&wechat, PATH, &json!({})).await;
    assert_eq!([send().await, send().await, send().await], [0, 0, 45011]);
    advance(seconds(60)).await;
    assert_eq!([send().await, send().await], [0, 45009]);
    let quota = json!({ "cgi_path": PATH });
    let said = ask(&wechat, "/cgi-bin/openapi/quota/get", &quota).await;
    assert_eq!(
        said["quota"],
        json!({ "daily_limit": 3, "used": 3, "remain": 0 })
    );
    assert_eq!(
        said["rate_limit"],
        json!({ "call_count": 2, "refresh_second": 60 })
    );
    for (path, body) in [
        ("/cgi-bin/openapi/quota/clear", quota),
        ("/cgi-bin/clear_quota", json!({ "appid": APPID })),
        (
            "/cgi-bin/clear_quota/v2",
            json!({ "appid": APPID, "appsecret": SECRET }),
        ),
    ] {
        assert_eq!(code(&wechat, path, &body).await, 0, "{path}");
        assert_eq!([send().await, send().await], [0, 0], "{path}");
        advance(seconds(60)).await;
        assert_eq!([send().await, send().await], [0, 45009], "{path}");
    }
    for (path, errcode) in [("/nowhere", 76021), ("/sns/jscode2session", 76022)] {
        let body = json!({ "cgi_path": path });
        assert_eq!(
            code(&wechat, "/cgi-bin/openapi/quota/get", &body).await,
            errcode
        );
    }
}

#[tokio::test]
async fn the_rid_of_an_error_tells_what_was_called() {
    let wechat = Wechat::calm().await;
    wechat.limit(PATH, Some(0), None);
    let said = ask(&wechat, PATH, &json!({ "touser": "o" })).await;
    let message = said["errmsg"].as_str().unwrap();
    let (_, rid) = message.split_once("rid: ").unwrap();
    let path = "/cgi-bin/openapi/rid/get";
    let found = ask(&wechat, path, &json!({ "rid": rid })).await;
    assert_eq!(found["request"]["request_body"], "{\"touser\":\"o\"}");
    assert_eq!(found["request"]["response_body"], said.to_string());
    assert_eq!(code(&wechat, path, &json!({ "rid": "1-2-3" })).await, 76001);
    assert_eq!(code(&wechat, path, &json!({ "rid": "1" })).await, 76002);
    wechat.set_secret("wxother", "s");
    let other = format!("{path}?access_token={}", wechat.token_of("wxother"));
    let other = post(&wechat, &other, &json!({ "rid": rid })).await;
    assert_eq!(other.errcode(), 76003);
}
