//! Builds a multipart/form-data body (RFC 7578) out of fields. Files in it stay files.

use std::collections::VecDeque;

use super::{
    field::{Field, FileLabel},
    input::{InputError, Piece},
};

/// A body with the media type that names its boundary.
#[derive(Debug)]
pub(super) struct Multipart {
    pub(super) media_type: String,
    pub(super) pieces: VecDeque<Piece>,
}

impl Multipart {
    /// Opens the files of `fields`.
    pub(super) fn open(fields: Vec<Field>) -> Result<Self, InputError> {
        let random = fastrand::u128(..);
        Self::with_boundary(fields, &format!("wechat-sidecar-{random:032x}"))
    }

    fn with_boundary(fields: Vec<Field>, boundary: &str) -> Result<Self, InputError> {
        let mut pieces = VecDeque::new();
        for Field {
            name,
            content,
            file,
        } in fields
        {
            let head = head(boundary, &name, file.as_ref());
            pieces.push_back(Piece::Bytes(head.into()));
            pieces.push_back(content.open()?);
            pieces.push_back(Piece::Bytes("\r\n".into()));
        }
        pieces.push_back(Piece::Bytes(format!("--{boundary}--\r\n").into()));
        Ok(Self {
            media_type: format!("multipart/form-data; boundary={boundary}"),
            pieces,
        })
    }
}

fn head(boundary: &str, name: &str, file: Option<&FileLabel>) -> String {
    let name = escaped(name);
    let mut head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"");
    if let Some(FileLabel {
        filename,
        media_type,
    }) = file
    {
        let filename = escaped(filename);
        head += &format!("; filename=\"{filename}\"\r\nContent-Type: {media_type}");
    }
    head + "\r\n\r\n"
}

/// A name as browsers write it between quotes.
fn escaped(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_files_stand_between_boundaries_and_no_name_leaves_its_quotes() {
        let fields = ["a=1", "d\"e\r\nX: y=@Cargo.toml;filename=\"f\".mp4"];
        let fields = fields.map(|text| Field::parse(text).ok().unwrap());
        let multipart = Multipart::with_boundary(fields.into(), "B").unwrap();
        assert_eq!(multipart.media_type, "multipart/form-data; boundary=B");
        let text = |piece: Piece| match piece {
            Piece::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Piece::File { .. } => "(file)".to_owned(),
        };
        let text: String = multipart.pieces.into_iter().map(text).collect();
        assert_eq!(
            text,
            "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
             --B\r\nContent-Disposition: form-data; name=\"d%22e%0D%0AX: y\"; filename=\"%22f%22.mp4\"\r\n\
             Content-Type: video/mp4\r\n\r\n(file)\r\n--B--\r\n"
        );
    }
}
