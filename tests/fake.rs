//! The fake WeChat keeps WeChat's rules, and breaks where it is told to.
#![allow(clippy::unwrap_used)]

#[path = "support/wechat/mod.rs"]
mod wechat;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, Instant, advance},
};
use wechat::{APPID, EarlyReply, HangUp, Place, Quotas, Refusal, SECRET, Setup, Wechat, picture};

/// A reply, taken apart.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn parse(raw: &[u8]) -> Self {
        let end = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(raw)));
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = raw[end + 4..].to_vec();
        Self { status, head, body }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn errcode(&self) -> i64 {
        self.json()["errcode"].as_i64().unwrap_or(0)
    }

    fn is_text(&self) -> bool {
        self.head.contains("Content-Type: text/plain")
    }
}

/// Sends these bytes on a connection of their own and returns what comes back until it ends.
async fn raw(wechat: &Wechat, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut reply = Vec::new();
    // A reset is one of the ways in which a connection ends.
    let _ = stream.read_to_end(&mut reply).await;
    reply
}

fn request(method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = match (method, body.len()) {
        ("GET" | "HEAD", 0) => String::new(),
        (_, length) => format!("Content-Length: {length}\r\n"),
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: api.weixin.qq.com\r\nConnection: close\r\n{headers}{length}\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn get(wechat: &Wechat, target: &str) -> Reply {
    Reply::parse(&raw(wechat, &request("GET", target, "", b"")).await)
}

async fn post(wechat: &Wechat, target: &str, body: &Value) -> Reply {
    let body = body.to_string();
    Reply::parse(&raw(wechat, &request("POST", target, "", body.as_bytes())).await)
}

async fn classic(wechat: &Wechat) -> Reply {
    let target =
        format!("/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={SECRET}");
    get(wechat, &target).await
}

fn credentials(force: bool) -> Value {
    json!({
        "grant_type": "client_credential",
        "appid": APPID,
        "secret": SECRET,
        "force_refresh": force,
    })
}

async fn stable(wechat: &Wechat, force: bool) -> Reply {
    post(wechat, "/cgi-bin/stable_token", &credentials(force)).await
}

fn token(reply: &Reply) -> String {
    let token = reply.json()["access_token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("no token in {reply:?}"))
}

/// The errcode that an API call with this token gets.
async fn call(wechat: &Wechat, token: &str) -> i64 {
    get(wechat, &format!("/cgi-bin/user/get?access_token={token}"))
        .await
        .errcode()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_classic_token_is_new_each_time_and_the_one_before_works_for_five_minutes() {
    let wechat = Wechat::calm().await;
    let first = classic(&wechat).await;
    assert_eq!(first.json()["expires_in"], 7200);
    let second = token(&classic(&wechat).await);
    let first = token(&first);
    assert_ne!(first, second);
    advance(seconds(299)).await;
    assert_eq!(call(&wechat, &first).await, 0);
    advance(seconds(2)).await;
    assert_eq!(call(&wechat, &first).await, 40001);
    assert_eq!(call(&wechat, &second).await, 0);
    advance(seconds(6900)).await;
    assert_eq!(call(&wechat, &second).await, 42001);
}

#[tokio::test(start_paused = true)]
async fn a_stable_token_stays_until_its_last_five_minutes_and_then_both_work() {
    let wechat = Wechat::calm().await;
    let first = token(&stable(&wechat, false).await);
    advance(seconds(6900)).await;
    let again = stable(&wechat, false).await;
    assert_eq!(
        (token(&again), 300),
        (first.clone(), again.json()["expires_in"].as_i64().unwrap())
    );
    advance(seconds(1)).await;
    let renewed = stable(&wechat, false).await;
    assert_ne!(token(&renewed), first);
    assert_eq!(renewed.json()["expires_in"], 7200);
    advance(seconds(299)).await;
    assert_eq!(call(&wechat, &first).await, 0);
    advance(seconds(2)).await;
    assert_eq!(call(&wechat, &first).await, 42001);
    assert_eq!(call(&wechat, &token(&renewed)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_needs_thirty_seconds_and_two_kill_the_first_token() {
    let wechat = Wechat::calm().await;
    let leaked = token(&stable(&wechat, false).await);
    let second = token(&stable(&wechat, true).await);
    assert_ne!(leaked, second);
    assert_eq!(call(&wechat, &leaked).await, 0);
    advance(seconds(29)).await;
    assert_eq!(token(&stable(&wechat, true).await), second);
    advance(seconds(1)).await;
    assert_ne!(token(&stable(&wechat, true).await), second);
    assert_eq!(call(&wechat, &leaked).await, 40001);
    assert_eq!(call(&wechat, &second).await, 0);
    for _ in 2..20 {
        advance(seconds(30)).await;
        assert_eq!(stable(&wechat, true).await.errcode(), 0);
    }
    advance(seconds(30)).await;
    assert_eq!(stable(&wechat, true).await.errcode(), 45009);
}

#[tokio::test(start_paused = true)]
async fn the_two_token_apis_do_not_kick_each_other() {
    let wechat = Wechat::calm().await;
    let kept = token(&stable(&wechat, false).await);
    let classic_token = token(&classic(&wechat).await);
    advance(seconds(60)).await;
    stable(&wechat, true).await;
    advance(seconds(60)).await;
    stable(&wechat, true).await;
    advance(seconds(400)).await;
    assert_eq!(call(&wechat, &classic_token).await, 0);

    let current = token(&stable(&wechat, false).await);
    assert_ne!(kept, current);
    classic(&wechat).await;
    advance(seconds(400)).await;
    assert_eq!(call(&wechat, &current).await, 0);
}

#[tokio::test(start_paused = true)]
async fn quotas_end_and_come_back() {
    let wechat = Wechat::with(Setup {
        refusal_chance: 0.0,
        quotas: Quotas {
            classic_a_day: 2,
            stable_a_minute: 3,
            stable_a_day: 5,
            ..Quotas::default()
        },
        ..Setup::default()
    })
    .await;
    for expected in [0, 0, 45009] {
        assert_eq!(classic(&wechat).await.errcode(), expected);
    }
    for expected in [0, 0, 0, 45011] {
        assert_eq!(stable(&wechat, false).await.errcode(), expected);
    }
    advance(seconds(60)).await;
    for expected in [0, 0, 45009] {
        assert_eq!(stable(&wechat, false).await.errcode(), expected);
    }
    advance(seconds(24 * 60 * 60)).await;
    assert_eq!(stable(&wechat, false).await.errcode(), 0);
    assert_eq!(classic(&wechat).await.errcode(), 0);
    let quotas = Quotas::default();
    assert_eq!(
        (quotas.classic_a_day, quotas.stable_a_minute),
        (2_000, 10_000)
    );
    assert_eq!((quotas.stable_a_day, quotas.forced_a_day), (500_000, 20));
}

#[tokio::test]
async fn a_wrong_token_request_gets_the_code_that_says_why() {
    let wechat = Wechat::calm().await;
    let start = "/cgi-bin/token?grant_type=client_credential";
    let wrong = [
        ("/cgi-bin/token?appid=a&secret=b".to_owned(), 40002),
        (start.to_owned(), 41002),
        (format!("{start}&appid={APPID}"), 41004),
        (format!("{start}&appid=wx1&secret={SECRET}"), 40013),
        (format!("{start}&appid={APPID}&secret=wrong"), 40125),
        ("/cgi-bin/stable_token".to_owned(), 43002),
    ];
    for (target, errcode) in &wrong {
        let reply = get(&wechat, target).await;
        assert_eq!((reply.status, reply.errcode()), (200, *errcode), "{target}");
    }
    let not_json = request("POST", "/cgi-bin/stable_token", "", b"appid");
    assert_eq!(
        Reply::parse(&raw(&wechat, &not_json).await).errcode(),
        47001
    );

    let requests = wechat.token_requests();
    assert_eq!(requests.len(), wrong.len() + 1);
    assert_eq!(requests[4].errcode, Some(40125));
    assert!(!requests[4].secret_ok);
    assert!(wechat.all_tokens().is_empty());
}

#[tokio::test]
async fn the_token_endpoints_fail_as_told() {
    let wechat = Wechat::calm().await;
    wechat.change(|knobs| knobs.token_errcode = Some(40164));
    let reply = stable(&wechat, false).await;
    let message = reply.json()["errmsg"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("invalid ip 114.221.21.30 ipv6"),
        "{message}"
    );
    wechat.change(|knobs| knobs.token_status = Some(502));
    assert_eq!(classic(&wechat).await.status, 502);
    wechat.change(|knobs| knobs.token_hangup = true);
    assert!(
        raw(&wechat, &request("GET", "/cgi-bin/token", "", b""))
            .await
            .is_empty()
    );
    assert_eq!(wechat.token_requests().len(), 3);
}

#[tokio::test]
async fn rotating_refuses_every_token_and_expiring_says_so() {
    let wechat = Wechat::calm().await;
    let first = token(&stable(&wechat, false).await);
    let by_classic = token(&classic(&wechat).await);
    assert_eq!(wechat.token(), first);
    wechat.rotate();
    assert_eq!(call(&wechat, &first).await, 40001);
    assert_eq!(call(&wechat, &by_classic).await, 40001);
    let second = token(&stable(&wechat, false).await);
    assert_ne!(first, second);
    wechat.expire();
    assert_eq!(call(&wechat, &second).await, 42001);
    let third = token(&stable(&wechat, false).await);
    assert_eq!(call(&wechat, &third).await, 0);
    assert_eq!(wechat.all_tokens(), [first, by_classic, second, third]);
}

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
async fn chunked_or_without_length_is_412_with_an_empty_body() {
    let wechat = Wechat::calm().await;
    let target = format!(
        "/cgi-bin/message/custom/send?access_token={}",
        wechat.token()
    );
    let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    let deleting = chunked.replacen("POST", "DELETE", 1);
    for request in [chunked, deleting, format!("{head}\r\n")] {
        let reply = Reply::parse(&raw(&wechat, request.as_bytes()).await);
        assert_eq!((reply.status, reply.body.len()), (412, 0));
    }
    assert_eq!(wechat.calls()[0].body, "{}");
    assert_eq!(post(&wechat, &target, &json!({})).await.errcode(), 0);
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
async fn refusals_on_request_hit_as_many_calls_as_asked_and_look_as_asked() {
    let wechat = Wechat::calm().await;
    let good = wechat.token();
    wechat.change(|knobs| knobs.refuse_next = 2);
    for expected in [40001, 40001, 0] {
        assert_eq!(call(&wechat, &good).await, expected);
    }
    wechat.change(|knobs| {
        knobs.refuse_always = vec!["/cgi-bin/user/get".to_owned()];
        knobs.refusal = Refusal {
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
    wechat.change(|knobs| knobs.refusal = Refusal::default());
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
async fn split_and_chunked_replies_say_the_same() {
    let wechat = Wechat::calm().await;
    let target = format!("/cgi-bin/user/get?access_token={}", wechat.token());
    let whole = get(&wechat, &target).await;
    wechat.change(|knobs| knobs.split_writes = true);
    let split = get(&wechat, &target).await;
    assert_eq!((split.head, split.body), (whole.head, whole.body));
    wechat.change(|knobs| knobs.chunked_replies = true);
    let chunked = get(&wechat, &target).await;
    assert!(chunked.head.contains("Transfer-Encoding: chunked"));
    assert!(
        chunked.body.starts_with(b"10\r\n{\"total\":2") && chunked.body.ends_with(b"0\r\n\r\n")
    );
}

#[tokio::test]
async fn it_hangs_up_where_it_is_told_and_as_often() {
    let wechat = Wechat::calm().await;
    let target = format!("/cgi-bin/user/get?access_token={}", wechat.token());
    let asked = request("GET", &target, "", b"");
    let whole = raw(&wechat, &asked).await;
    let head = whole
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap()
        + 4;
    for (hang_up, length) in [
        (HangUp::BeforeReading, 0),
        (HangUp::AfterRequest, 0),
        (HangUp::MidHead, head / 2),
        (HangUp::MidBody, head + (whole.len() - head) / 2),
    ] {
        wechat.clear();
        wechat.change(|knobs| (knobs.hang_up, knobs.hang_up_next) = (hang_up, 1));
        assert_eq!(raw(&wechat, &asked).await.len(), length, "{hang_up:?}");
        let recorded = usize::from(hang_up != HangUp::BeforeReading);
        assert_eq!(wechat.calls().len(), recorded, "{hang_up:?}");
        assert_eq!(raw(&wechat, &asked).await, whole);
    }
}

#[tokio::test]
async fn a_stalled_call_is_recorded_and_ends_with_its_caller() {
    let wechat = Wechat::calm().await;
    wechat.change(|knobs| knobs.stall = true);
    let target = format!("/cgi-bin/user/get?access_token={}", wechat.token());
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    stream
        .write_all(&request("GET", &target, "", b""))
        .await
        .unwrap();
    wechat.wait_for_calls(1).await;
    assert_eq!(wechat.connections(), 1);
    drop(stream);
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
}

#[tokio::test]
async fn idle_connections_are_closed_without_a_word() {
    let wechat = Wechat::calm().await;
    let target = format!("/cgi-bin/user/get?access_token={}", wechat.token());
    let asked = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    let mut bytes = vec![0; 4096];
    for _ in 0..2 {
        stream.write_all(asked.as_bytes()).await.unwrap();
        let read = stream.read(&mut bytes).await.unwrap();
        assert!(Reply::parse(&bytes[..read]).head.contains("keep-alive"));
    }
    assert_eq!(wechat.accepted(), 1);
    wechat.close_idle();
    assert_eq!(stream.read(&mut bytes).await.unwrap(), 0);
    wechat.change(|knobs| knobs.close_after_reply = true);
    assert!(
        String::from_utf8(raw(&wechat, asked.as_bytes()).await)
            .unwrap()
            .contains("keep-alive")
    );
}

#[tokio::test]
async fn an_early_reply_comes_before_the_body() {
    let wechat = Wechat::calm().await;
    wechat.change(|knobs| {
        knobs.early_reply = EarlyReply::ThenRead;
        knobs.status = Some(413);
    });
    let target = format!("/cgi-bin/menu/create?access_token={}", wechat.token());
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 4096];
    let read = stream.read(&mut bytes).await.unwrap();
    assert_eq!(Reply::parse(&bytes[..read]).status, 413);
    stream.write_all(b"{}").await.unwrap();
    wechat
        .wait_until(|wechat| wechat.calls()[0].body == "{}")
        .await;
}

#[tokio::test]
async fn a_caller_who_waits_for_100_continue_gets_it_and_so_does_one_who_did_not_ask() {
    let wechat = Wechat::calm().await;
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    let target = format!("/cgi-bin/menu/create?access_token={}", wechat.token());
    let asked = request("POST", &target, "Expect: 100-continue\r\n", b"{}");
    assert!(raw(&wechat, &asked).await.starts_with(interim));
    let plain = request("POST", &target, "", b"{}");
    assert!(raw(&wechat, &plain).await.starts_with(b"HTTP/1.1 200 OK"));
    wechat.change(|knobs| knobs.interim_100 = true);
    assert!(raw(&wechat, &plain).await.starts_with(interim));
}

#[tokio::test(start_paused = true)]
async fn replies_wait_as_long_as_they_are_told() {
    let wechat = Wechat::calm().await;
    let good = wechat.token();
    wechat.change(|knobs| {
        knobs.reply_delay = seconds(5);
        knobs.delay_at.insert("/slow".to_owned(), seconds(50));
        knobs.token_delay = seconds(500);
    });
    for (target, delay) in [
        ("/cgi-bin/user/get", 5),
        ("/slow", 50),
        ("/cgi-bin/token", 500),
    ] {
        let start = Instant::now();
        get(&wechat, &format!("{target}?access_token={good}")).await;
        assert_eq!(start.elapsed().as_secs(), delay, "{target}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_recorded_and_rejected() {
    let wechat = Wechat::calm().await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n";
    let wrong = [
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{{}}"),
        format!("{head}Content-Length: 2\r\n\r\n{{}}"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\n".to_owned(),
    ];
    for request in &wrong {
        let reply = raw(&wechat, request.as_bytes()).await;
        assert_eq!(Reply::parse(&reply).status, 400, "{request}");
    }
    assert_eq!(wechat.malformed().len(), wrong.len());
    assert!(wechat.calls().is_empty());
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_call() {
    let wechat = Wechat::calm().await;
    let mut stream = TcpStream::connect(wechat.addr()).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    drop(stream);
    wechat
        .wait_until(|wechat| wechat.cut_short().len() == 1)
        .await;
    assert!(wechat.calls().is_empty());
}

#[tokio::test]
async fn targets_and_heads_are_kept_byte_for_byte() {
    let wechat = Wechat::calm().await;
    let target = format!(
        "//cgi-bin/user/get?a=%20%2f&&b&a=+&access_token={}",
        wechat.token()
    );
    let asked = request("GET", &target, "x-OdD:  two\r\n", b"");
    assert_eq!(Reply::parse(&raw(&wechat, &asked).await).errcode(), 0);
    let call = wechat.calls().remove(0);
    assert_eq!((call.target.as_str(), call.head), (target.as_str(), asked));
    assert_eq!(wechat.calls()[0].path(), "/cgi-bin/user/get");
    assert_eq!(wechat.calls()[0].header("X-Odd"), Some("two"));
    let parameters = wechat.calls()[0].query();
    assert_eq!(parameters[0], ("a".to_owned(), " /".to_owned()));
    assert_eq!(
        wechat.calls()[0].target_without_token(),
        "//cgi-bin/user/get?a=%20%2f&&b&a=+"
    );
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
async fn it_ends_when_the_last_clone_is_dropped() {
    let wechat = Wechat::calm().await;
    let addr = wechat.addr();
    let clone = wechat.clone();
    drop(wechat);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    clone.wait_until(|wechat| wechat.connections() == 1).await;
    drop(clone);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn tls_clients_that_trust_its_root_get_in_by_name() {
    use rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    };
    let wechat = Wechat::start_tls().await;
    let pem = wechat.ca_pem().unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    for name in [
        "localhost",
        "127.0.0.1",
        "api.weixin.qq.com",
        "api2.weixin.qq.com",
    ] {
        let stream = TcpStream::connect(wechat.addr()).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let asked = request("GET", "/_fake/stats", "", b"");
        stream.write_all(&asked).await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        assert_eq!(Reply::parse(&reply).status, 200);
    }
    let stream = TcpStream::connect(wechat.addr()).await.unwrap();
    let stranger = ServerName::try_from("example.com").unwrap();
    assert!(connector.connect(stranger, stream).await.is_err());
}
