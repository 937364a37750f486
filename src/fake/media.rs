//! Temporary media. An upload is multipart, and a download returns the same bytes.

use std::collections::HashMap;

use bytes::Bytes;
use fastrand::Rng;
use serde_json::json;

use super::{call::RecordedCall, reply::WechatReply, tokens::random_token};

/// The uploads, by media_id.
#[derive(Debug, Default)]
pub(super) struct Media {
    stored: HashMap<String, Part>,
}

/// A part of a multipart body.
#[derive(Clone, Debug)]
struct Part {
    filename: Option<String>,
    content_type: String,
    data: Bytes,
}

/// `POST /cgi-bin/media/upload`: 41005 unless there is a part `media` that is a file.
pub(super) fn upload(media: &mut Media, rng: &mut Rng, call: &RecordedCall) -> WechatReply {
    let kind = call.parameter("type").unwrap_or_else(|| "image".to_owned());
    match file(call) {
        Ok(part) => WechatReply::json(
            &json!({ "type": kind, "media_id": media.store(rng, part), "created_at": 1_380_000_000 }),
        ),
        Err(errcode) => WechatReply::error(errcode).into_text(),
    }
}

/// `POST /cgi-bin/material/add_material`: the same for material that stays.
pub(super) fn add_material(media: &mut Media, rng: &mut Rng, call: &RecordedCall) -> WechatReply {
    match file(call) {
        Ok(part) => WechatReply::json(&json!({ "media_id": media.store(rng, part) })),
        Err(errcode) => WechatReply::error(errcode).into_text(),
    }
}

/// `POST /cgi-bin/media/uploadimg`: a picture that has a URL and no media_id.
pub(super) fn upload_image(call: &RecordedCall) -> WechatReply {
    match file(call) {
        Ok(_) => WechatReply::json(&json!({ "url": "http://mmbiz.qpic.cn/mmbiz/fake/0" })),
        Err(errcode) => WechatReply::error(errcode).into_text(),
    }
}

/// `GET /cgi-bin/media/get`: the uploaded bytes, or 40007.
pub(super) fn get(media: &Media, call: &RecordedCall) -> WechatReply {
    stored(media, call.parameter("media_id").as_deref())
}

/// The uploaded bytes, or 40007.
pub(super) fn stored(media: &Media, media_id: Option<&str>) -> WechatReply {
    let Some(part) = media.stored.get(media_id.unwrap_or_default()) else {
        return WechatReply::error(40007).into_text();
    };
    let mut reply = WechatReply::bytes(&part.content_type, part.data.clone());
    let name = part.filename.as_deref().unwrap_or("media");
    let disposition = format!("attachment; filename=\"{name}\"");
    reply
        .headers
        .push(("Content-disposition".to_owned(), disposition));
    reply
}

impl Media {
    /// Keeps a file, and returns its media_id.
    fn store(&mut self, rng: &mut Rng, part: Part) -> String {
        let mut media_id = random_token(rng, "MEDIA-");
        media_id.truncate(64);
        self.stored.insert(media_id.clone(), part);
        media_id
    }
}

/// The file of an upload, or the errcode that says what is wrong.
fn file(call: &RecordedCall) -> Result<Part, i64> {
    if call.method != "POST" {
        return Err(43002);
    }
    let part = media_part(call).filter(|part| part.filename.is_some());
    part.ok_or(41005)
}

/// The part named `media`, if the body is well-formed multipart up to it.
fn media_part(call: &RecordedCall) -> Option<Part> {
    let content_type = call.header("content-type")?;
    if !content_type.starts_with("multipart/form-data") {
        return None;
    }
    let boundary = attribute(content_type, "boundary")?;
    let opening = format!("--{boundary}\r\n");
    let between = format!("\r\n--{boundary}");
    let mut at = find(&call.body, opening.as_bytes(), 0)? + opening.len();
    loop {
        let head_end = find(&call.body, b"\r\n\r\n", at)?;
        let data = head_end + 4;
        let data_end = find(&call.body, between.as_bytes(), data)?;
        let head = String::from_utf8_lossy(&call.body[at..head_end]);
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let disposition = header("content-disposition")?;
        if attribute(&disposition, "name").as_deref() == Some("media") {
            return Some(Part {
                filename: attribute(&disposition, "filename"),
                content_type: header("content-type")
                    .unwrap_or_else(|| "application/octet-stream".to_owned()),
                data: call.body.slice(data..data_end),
            });
        }
        // Skip the delimiter and its line end. After the last one, no head is found.
        at = data_end + between.len() + 2;
    }
}

/// The value of `name=value` or `name="value"` behind a semicolon.
fn attribute(header: &str, name: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|attribute| {
        let (key, value) = attribute.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim_matches('"').to_owned())
    })
}

fn find(body: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let rest = body.get(from..)?;
    let at = rest
        .windows(wanted.len())
        .position(|bytes| bytes == wanted)?;
    Some(from + at)
}
