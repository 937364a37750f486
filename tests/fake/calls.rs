//! The fake's replies to calls: by path, by credential, and refusals by chance or on request.

use serde_json::json;
use tokio::time::advance;

use super::{
    Reply, call, get, post, raw, request, seconds, stable, token,
    wechat::{APPID, CORPID, Place, RefusalForm, SECRET, Setup, Wechat, picture},
};

#[tokio::test]
async fn a_call_without_a_good_token_is_told_what_is_wrong() {
    let wechat = Wechat::calm().await;
    let path = "/cgi-bin/user/get";
    assert_eq!(get(&wechat, path).await.errcode(), 41001);
    assert_eq!(call(&wechat, "short").await, 40014);
    assert_eq!(call(&wechat, &"x".repeat(150)).await, 40001);
    assert!(!wechat.saw_placeholder());
    let good = wechat.token();
    let twice = format!("{path}?access_token={good}&access%5Ftoken={good}");
    assert_eq!(get(&wechat, &twice).await.errcode(), 40001);
    assert!(wechat.saw_placeholder());
    wechat.clear();
    assert_eq!(call(&wechat, &format!("sidecar-{APPID}")).await, 40001);
    assert!(wechat.saw_placeholder());
}

#[tokio::test]
async fn chance_never_hits_the_second_send() {
    let wechat = Wechat::with(Setup {
        refusal_chance: 0.5,
        seed: Some(7),
        ..Setup::default()
    })
    .await;
    let good = wechat.token();
    let mut refused = 0;
    for number in 0..200 {
        let target = format!("/cgi-bin/user/info?openid=o{number}&access_token={good}");
        if get(&wechat, &target).await.errcode() == 40001 {
            refused += 1;
            assert_eq!(get(&wechat, &target).await.errcode(), 0);
        }
    }
    assert!((60..140).contains(&refused), "{refused} of 200");
}

#[tokio::test]
async fn a_call_refused_for_its_token_is_not_refused_by_chance_with_a_good_one() {
    let wechat = Wechat::with(Setup {
        refusal_chance: 1.0,
        ..Setup::default()
    })
    .await;
    assert_eq!(call(&wechat, &"x".repeat(150)).await, 40001);
    assert_eq!(call(&wechat, &wechat.token()).await, 0);
}

#[tokio::test]
async fn refusals_on_request_hit_as_many_calls_as_configured_and_have_the_configured_form() {
    let wechat = Wechat::calm().await;
    let good = wechat.token();
    wechat.change(|knobs| knobs.refuse_next = 2);
    for expected in [40001, 40001, 0] {
        assert_eq!(call(&wechat, &good).await, expected);
    }
    wechat.change(|knobs| {
        knobs.refuse_always = vec!["/cgi-bin/user/get".to_owned()];
        knobs.refusal = RefusalForm {
            code: Some(42001),
            as_string: true,
            place: Place::Last,
            prefix: b"\xef\xbb\xbf \r\n".to_vec(),
            broken: true,
            content_type: Some("text/plain".to_owned()),
        };
    });
    let reply = get(&wechat, &format!("/cgi-bin/user/get?access_token={good}")).await;
    assert!(reply.is_text());
    assert!(
        reply
            .body
            .starts_with(b"\xef\xbb\xbf \r\n{\"errmsg\":\"\x01\xff")
    );
    assert!(reply.body.ends_with(b",\"errcode\":\"42001\"}"));
    let device = format!("/device/getqrcode?access_token={}", "x".repeat(150));
    wechat.change(|knobs| knobs.refusal = RefusalForm::default());
    let reply = get(&wechat, &device).await.json();
    assert_eq!(reply["base_resp"]["errcode"], 40001);
}

#[tokio::test]
async fn uploads_come_down_byte_for_byte() {
    let wechat = Wechat::calm().await;
    let good = wechat.token();
    let data = b"\x89PNG\r\n\r\n--not the end\x00\xff";
    let part = |name: &str| {
        let head = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n"
        );
        [head.as_bytes(), data, b"\r\n--XX--\r\n"].concat()
    };
    let upload = format!("/cgi-bin/media/upload?type=image&access_token={good}");
    let header = "Content-Type: multipart/form-data; boundary=XX\r\n";
    let wrong = raw(&wechat, &request("POST", &upload, header, &part("file"))).await;
    let wrong = Reply::parse(&wrong);
    assert_eq!((wrong.errcode(), wrong.is_text()), (41005, true));
    let right = raw(&wechat, &request("POST", &upload, header, &part("media"))).await;
    let media_id = Reply::parse(&right).json()["media_id"]
        .as_str()
        .unwrap()
        .to_owned();

    let target = format!("/cgi-bin/media/get?access_token={good}&media_id={media_id}");
    let down = get(&wechat, &target).await;
    assert!(down.head.contains("Content-Type: image/png"));
    assert_eq!(down.body, data);
    let unknown = get(
        &wechat,
        &format!("/cgi-bin/media/get?access_token={good}&media_id=x"),
    )
    .await;
    assert_eq!((unknown.errcode(), unknown.is_text()), (40007, true));
}

#[tokio::test]
async fn logins_take_appid_and_secret_and_users_have_tokens_of_their_own() {
    let wechat = Wechat::calm().await;
    let who = format!("appid={APPID}&secret={SECRET}&grant_type=authorization_code");
    let session = format!("/sns/jscode2session?{who}&js_code=c1");
    let reply = get(&wechat, &session).await;
    assert!(reply.is_text() && reply.json()["session_key"].is_string());
    assert_eq!(get(&wechat, &session).await.errcode(), 40163);
    let wrong = session.replace(SECRET, "wrong");
    assert_eq!(get(&wechat, &wrong).await.errcode(), 40125);

    let login = get(&wechat, &format!("/sns/oauth2/access_token?{who}&code=c2")).await;
    let user = token(&login);
    let info = |token: &str| format!("/sns/userinfo?access_token={token}&openid=o");
    assert!(get(&wechat, &info(&user)).await.json()["nickname"].is_string());
    assert_eq!(get(&wechat, &info(&wechat.token())).await.errcode(), 40001);
    assert_eq!(call(&wechat, &user).await, 40001);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_says_7200_however_old_it_is_and_outlives_the_token() {
    let wechat = Wechat::calm().await;
    let ask = async || {
        let target = format!(
            "/cgi-bin/ticket/getticket?type=jsapi&access_token={}",
            wechat.token()
        );
        get(&wechat, &target).await.json()
    };
    let first = ask().await;
    advance(seconds(3600)).await;
    wechat.rotate();
    assert_eq!(ask().await, first);
    assert_eq!(first["expires_in"], 7200);
    advance(seconds(3600)).await;
    assert_ne!(ask().await["ticket"], first["ticket"]);
}

#[tokio::test]
async fn pictures_and_big_replies_have_their_size() {
    let wechat = Wechat::calm().await;
    let good = wechat.token();
    let target = format!("/wxa/getwxacode?access_token={good}");
    let code = post(&wechat, &target, &json!({ "path": "index" })).await;
    assert!(code.head.contains("image/jpeg"));
    assert_eq!(code.body, picture());
    let big = get(
        &wechat,
        &format!("/big?size=70000&json=1&access_token={good}"),
    )
    .await;
    assert_eq!((big.body.len(), big.body[0]), (70_000, b'{'));
}

#[tokio::test]
async fn the_control_calls_turn_knobs_and_count() {
    let wechat = Wechat::calm().await;
    let changed = post(
        &wechat,
        "/_fake/change",
        &json!({ "refuse_next": 1, "status": 404 }),
    )
    .await;
    assert_eq!(changed.status, 200);
    let unknown = post(
        &wechat,
        "/_fake/change",
        &json!({ "status": null, "typo": 1 }),
    )
    .await;
    assert_eq!(
        (unknown.status, unknown.json()["error"].clone()),
        (400, json!("there is no knob typo"))
    );
    let good = wechat.token();
    assert_eq!(call(&wechat, &good).await, 40001);
    let target = format!("/cgi-bin/user/get?access_token={good}");
    assert_eq!(get(&wechat, &target).await.status, 404);
    post(&wechat, "/_fake/rotate", &json!({})).await;
    assert_eq!(call(&wechat, &good).await, 40001);
    let stats = get(&wechat, "/_fake/stats").await.json();
    assert_eq!((&stats["calls"], &stats["refused"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn the_control_calls_give_an_errcode_a_page_another_secret_and_an_ip_that_is_not_listed() {
    let wechat = Wechat::calm().await;
    let good = wechat.token();
    let target = format!("/cgi-bin/user/get?access_token={good}");
    let change = async |knobs| post(&wechat, "/_fake/change", &knobs).await.status;
    assert_eq!(change(json!({ "errcode": 45009 })).await, 200);
    assert_eq!(call(&wechat, &good).await, 45009);
    assert_eq!(
        change(json!({ "errcode": null, "page": true, "status": 502 })).await,
        200
    );
    let page = get(&wechat, &target).await;
    assert_eq!(page.status, 502);
    assert!(page.head.contains("text/html") && page.body.starts_with(b"<html>"));
    assert_eq!(change(json!({ "page": false, "status": null })).await, 200);
    assert_eq!(call(&wechat, &good).await, 0);
    assert_eq!(change(json!({ "wecom_unlisted_ip": "1.2.3.4" })).await, 400);

    let reset = json!({ "appid": APPID, "secret": "another" });
    assert_eq!(post(&wechat, "/_fake/secret", &reset).await.status, 200);
    assert_eq!(stable(&wechat, false).await.errcode(), 40125);
    assert_eq!(
        post(&wechat, "/_fake/secret", &json!({ "appid": APPID }))
            .await
            .status,
        400
    );

    let wecom = Wechat::with(Setup {
        refusal_chance: 0.0,
        ..Setup::wecom(&[SECRET])
    })
    .await;
    let target = format!("/cgi-bin/gettoken?corpid={CORPID}&corpsecret={SECRET}");
    let token = token(&get(&wecom, &target).await);
    assert_eq!(call(&wecom, &token).await, 0);
    for (ip, errcode) in [(json!("1.2.3.4"), 60020), (json!(null), 0)] {
        let knobs = json!({ "wecom_unlisted_ip": ip });
        assert_eq!(post(&wecom, "/_fake/change", &knobs).await.status, 200);
        assert_eq!(call(&wecom, &token).await, errcode);
    }
}

#[tokio::test]
async fn material_and_samples_have_the_shapes_that_sdks_read() {
    let wechat = Wechat::calm().await;
    let good = wechat.token();
    let headers = "Content-Type: multipart/form-data; boundary=B\r\n";
    let body = "--B\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a.jpg\"\r\nContent-Type: image/jpeg\r\n\r\nBYTES\r\n--B--\r\n";
    let upload = async |path: &str| {
        let target = format!("{path}?access_token={good}&type=image");
        let request = request("POST", &target, headers, body.as_bytes());
        Reply::parse(&raw(&wechat, &request).await).json()
    };
    let added = upload("/cgi-bin/material/add_material").await;
    let target = format!("/cgi-bin/material/get_material?access_token={good}");
    let wanted = json!({ "media_id": added["media_id"] });
    assert_eq!(post(&wechat, &target, &wanted).await.body, b"BYTES");
    assert!(upload("/cgi-bin/media/uploadimg").await["url"].is_string());
    let target = format!("/cgi-bin/media/uploadimg?access_token={good}");
    assert_eq!(post(&wechat, &target, &wanted).await.errcode(), 41005);

    let target = format!("/cgi-bin/user/info/batchget?access_token={good}");
    let wanted = json!({ "user_list": [{ "openid": "a" }, { "openid": "b" }] });
    let followers = post(&wechat, &target, &wanted).await.json();
    assert_eq!(followers["user_info_list"][1]["openid"], "b");
    assert_eq!(post(&wechat, &target, &json!({})).await.errcode(), 40003);
    let menu = get(&wechat, &format!("/cgi-bin/menu/get?access_token={good}")).await;
    assert!(menu.json()["menu"]["button"].is_array());
}
