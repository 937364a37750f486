//! A field of a form, as curl writes it: `name=value`, or `name=@file;type=image/png;filename=a.png`.

use http::HeaderValue;

use super::input::Input;

/// A field.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) content: Input,
    /// Of a file, as what it is uploaded.
    pub(super) file: Option<FileLabel>,
}

/// As what a file is uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileLabel {
    pub(super) filename: String,
    pub(super) media_type: String,
}

/// Why a field is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It has no name.
    #[error("write name=value or name=@FILE")]
    NoName,
    /// Its media type is none.
    #[error("the type behind ;type= is none; for example image/png")]
    MediaType,
}

/// What may stand behind the path of a file.
const ATTRIBUTES: [&str; 2] = [";type=", ";filename="];

/// The media types of the files that WeChat takes.
const MEDIA_TYPES: [(&str, &str); 13] = [
    ("amr", "audio/amr"),
    ("bmp", "image/bmp"),
    ("gif", "image/gif"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("txt", "text/plain"),
    ("webp", "image/webp"),
    ("zip", "application/zip"),
];

impl Field {
    /// Reads an argument.
    pub(super) fn parse(text: &str) -> Result<Self, FieldError> {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or(FieldError::NoName)?;
        let name = name.to_owned();
        let Some(value) = value.strip_prefix('@') else {
            let content = Input::Text(value.to_owned());
            let file = None;
            return Ok(Self {
                name,
                content,
                file,
            });
        };
        let (path, mut rest) = value.split_at(next_attribute(value));
        let filename = path.rsplit('/').next().unwrap_or(path);
        let mut label = FileLabel {
            filename: filename.to_owned(),
            media_type: media_type(filename).to_owned(),
        };
        let mut given_type = None;
        while let Some((attribute, value)) = rest.split_once('=') {
            let (value, next) = value.split_at(next_attribute(value));
            match attribute {
                ";type" => given_type = Some(value),
                _ => label.filename = value.to_owned(),
            }
            rest = next;
        }
        match given_type {
            Some(text) if text.contains('/') && HeaderValue::from_str(text).is_ok() => {
                label.media_type = text.to_owned();
            }
            Some(_) => return Err(FieldError::MediaType),
            None => label.media_type = media_type(&label.filename).to_owned(),
        }
        Ok(Self {
            name,
            content: Input::of_path(path),
            file: Some(label),
        })
    }
}

/// Where the next attribute begins, or the end.
fn next_attribute(text: &str) -> usize {
    let places = ATTRIBUTES
        .iter()
        .filter_map(|attribute| text.find(attribute));
    places.min().unwrap_or(text.len())
}

/// The media type of a file with this name.
fn media_type(filename: &str) -> &'static str {
    let extension = filename
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension);
    let mut known = MEDIA_TYPES.iter();
    let found = known.find(|(known, _)| known.eq_ignore_ascii_case(extension));
    found.map_or("application/octet-stream", |(_, media_type)| media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_name_and_a_type_which_may_be_given() {
        for (text, path, filename, media_type) in [
            ("m=@a/b.JPG", "a/b.JPG", "b.JPG", "image/jpeg"),
            ("m=@a;b.png", "a;b.png", "a;b.png", "image/png"),
            ("m=@a;type=image/x", "a", "a", "image/x"),
            ("m=@a;filename=b=c.gif", "a", "b=c.gif", "image/gif"),
            (
                "m=@a;filename=b.gif;type=x/y; q=1",
                "a",
                "b.gif",
                "x/y; q=1",
            ),
            ("m=@a;type=x/y;filename=微信.mp4", "a", "微信.mp4", "x/y"),
            ("m=@-;filename=a.mp3", "-", "a.mp3", "audio/mpeg"),
            ("m=@a", "a", "a", "application/octet-stream"),
        ] {
            let Ok(Field {
                name,
                content,
                file,
            }) = Field::parse(text)
            else {
                panic!("{text}")
            };
            let label = FileLabel {
                filename: filename.to_owned(),
                media_type: media_type.to_owned(),
            };
            assert_eq!((&*name, file), ("m", Some(label)), "{text}");
            assert!(content == Input::of_path(path), "{text}");
        }
        let plain = Field::parse("a=b;type=c=d").ok().unwrap();
        assert!(plain.file.is_none() && plain.content == Input::Text("b;type=c=d".to_owned()));
        for (text, error) in [
            ("", FieldError::NoName),
            ("=x", FieldError::NoName),
            ("x", FieldError::NoName),
            ("m=@a;type=png", FieldError::MediaType),
            ("m=@a;type=a/\n", FieldError::MediaType),
        ] {
            assert_eq!(Field::parse(text).err(), Some(error), "{text}");
        }
    }
}
