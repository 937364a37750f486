//! Replies whose shape SDKs document, for paths where nothing is remembered. The values are made up.

use serde_json::{Value, json};

use super::reply::WechatReply;

/// The paths of WeChat and their replies.
const SAMPLES: [(&str, &str); 15] = [
    (
        "/cgi-bin/customservice/getkflist",
        r#"{"kf_list":[{"kf_account":"test1@test","kf_nick":"ntest1","kf_id":"1001"}]}"#,
    ),
    (
        "/cgi-bin/customservice/getonlinekflist",
        r#"{"kf_online_list":[{"kf_account":"test1@test","status":1,"kf_id":"1001","auto_accept":0,"accepted_case":1}]}"#,
    ),
    (
        "/cgi-bin/material/batchget_material",
        r#"{"total_count":0,"item_count":0,"item":[]}"#,
    ),
    (
        "/cgi-bin/material/get_materialcount",
        r#"{"voice_count":0,"video_count":0,"image_count":0,"news_count":0}"#,
    ),
    (
        "/cgi-bin/media/uploadnews",
        r#"{"type":"news","media_id":"fake-news","created_at":1391857799}"#,
    ),
    (
        "/cgi-bin/media/uploadvideo",
        r#"{"type":"video","media_id":"fake-video","created_at":1391857799}"#,
    ),
    (
        "/cgi-bin/menu/get",
        r#"{"menu":{"button":[{"type":"click","name":"今日歌曲","key":"V1001_TODAY_MUSIC","sub_button":[]}]}}"#,
    ),
    (
        "/cgi-bin/message/mass/get",
        r#"{"msg_id":201053012,"msg_status":"SEND_SUCCESS"}"#,
    ),
    ("/cgi-bin/message/mass/preview", SUBMITTED),
    ("/cgi-bin/message/mass/send", SUBMITTED),
    ("/cgi-bin/message/mass/sendall", SUBMITTED),
    (
        "/cgi-bin/tags/get",
        r#"{"tags":[{"id":2,"name":"星标组","count":0}]}"#,
    ),
    ("/cgi-bin/tags/getidlist", r#"{"tagid_list":[2]}"#),
    (
        "/cgi-bin/template/get_all_private_template",
        r#"{"template_list":[{"template_id":"fake-template","title":"领取奖金提醒","primary_industry":"IT科技","deputy_industry":"互联网|电子商务","content":"{{result.DATA}}","example":"您已提交领奖申请"}]}"#,
    ),
    (
        "/cgi-bin/template/get_industry",
        r#"{"primary_industry":{"first_class":"运输与仓储","second_class":"快递"},"secondary_industry":{"first_class":"IT科技","second_class":"互联网|电子商务"}}"#,
    ),
];

const SUBMITTED: &str = r#"{"errcode":0,"errmsg":"send job submission success","msg_id":34182}"#;

/// The reply to a call of this path: its sample, or else errcode 0.
pub(super) fn reply(path: &str) -> WechatReply {
    let sample = SAMPLES.iter().find(|(of, _)| *of == path);
    let value = sample.and_then(|(_, text)| serde_json::from_str(text).ok());
    let ok = || json!({ "errcode": 0, "errmsg": "ok" });
    WechatReply::json(&value.unwrap_or_else(ok))
}

/// A follower of an official account.
pub(super) fn follower(openid: &str) -> Value {
    json!({
        "subscribe": 1,
        "openid": openid,
        "language": "zh_CN",
        "subscribe_time": 1_382_694_957,
        "remark": "",
        "groupid": 0,
        "tagid_list": [],
        "subscribe_scene": "ADD_SCENE_QR_CODE",
    })
}

/// The followers that `/cgi-bin/user/info/batchget` asks for.
pub(super) fn followers(body: &Value) -> WechatReply {
    let wanted = body["user_list"].as_array();
    let openids = wanted
        .into_iter()
        .flatten()
        .map(|user| user["openid"].as_str());
    match openids
        .map(|openid| openid.map(follower))
        .collect::<Option<Vec<_>>>()
    {
        Some(followers) if !followers.is_empty() => {
            WechatReply::json(&json!({ "user_info_list": followers }))
        }
        _ => WechatReply::error(40003),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_json_for_a_documented_path() {
        use crate::wechat::{api::Api, endpoint::Endpoint};

        for (path, text) in SAMPLES {
            assert!(serde_json::from_str::<Value>(text).is_ok(), "{path}");
            let endpoint = Endpoint::of(Api::Wechat, path.as_bytes());
            assert!(
                endpoint.is_ok_and(|endpoint| endpoint.row().is_some()),
                "{path}"
            );
        }
    }
}
