//! How the names of a reply's headers are spelt. They reach the app as WeChat spelt them, for apps that compare them byte
//! by byte.
//!
//! A header map has all names in lower case. Nearly all of WeChat's names are spelt in the usual way, as in
//! `Content-Type`, and every name is written so. A reply with any other spelling, such as `Content-disposition`, keeps
//! its names in its extensions.

use std::sync::Arc;

/// The names of a reply's headers, in the order of its head. At least one is spelt in an unusual way.
#[derive(Clone, Debug)]
pub struct HeaderNames(Arc<[Box<[u8]>]>);

impl HeaderNames {
    /// Keeps `names` if any of them is spelt in an unusual way.
    pub fn unusual<'a>(names: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Self> {
        if names.clone().all(is_usual) {
            return None;
        }
        Some(Self(names.map(Box::from).collect()))
    }

    /// Spells the names in `head`, which is a whole head, as they were.
    pub fn restore(&self, head: &mut [u8]) {
        let mut names: Vec<&[u8]> = self.0.iter().map(AsRef::as_ref).collect();
        // The first line has no name.
        for line in head.split_mut(|byte| *byte == b'\n').skip(1) {
            let Some(end) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let name = &mut line[..end];
            let known = names
                .iter()
                .position(|known| known.eq_ignore_ascii_case(name));
            if let Some(at) = known {
                // Of lines with the same name, each may have a spelling of its own.
                name.copy_from_slice(names.remove(at));
            }
        }
    }
}

/// Appends `name`, which is in lower case, in the usual spelling.
pub fn write_usual(bytes: &mut Vec<u8>, name: &str) {
    let from = bytes.len();
    bytes.extend_from_slice(name.as_bytes());
    let mut begins = true;
    for byte in &mut bytes[from..] {
        if begins {
            byte.make_ascii_uppercase();
        }
        begins = *byte == b'-';
    }
}

/// Whether `name` is spelt in the usual way: each word begins with a capital, which is the only one.
fn is_usual(name: &[u8]) -> bool {
    let mut begins = true;
    name.iter().all(|byte| {
        let usual = match begins {
            true => !byte.is_ascii_lowercase(),
            false => !byte.is_ascii_uppercase(),
        };
        begins = *byte == b'-';
        usual
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_name_is_spelt_anew_and_any_other_is_kept() {
        for (name, usual) in [
            ("Content-Type", true),
            ("X-1-A", true),
            ("Date", true),
            ("Content-disposition", false),
            ("ETag", false),
            ("RetKey", false),
            ("content-type", false),
            ("X-WECHAT", false),
        ] {
            assert_eq!(is_usual(name.as_bytes()), usual, "{name}");
            let mut written = b"before".to_vec();
            write_usual(&mut written, &name.to_ascii_lowercase());
            let again = written == ["before", name].concat().as_bytes();
            assert_eq!(again, usual, "{name}");
        }
    }

    #[test]
    fn each_name_gets_its_own_spelling_back() {
        let names: [&[u8]; 6] = [
            b"RetKey",
            b"Set-Cookie",
            b"set-COOKIE",
            b"Gone",
            b"ETag",
            b"content-length",
        ];
        let names = HeaderNames::unusual(names.into_iter()).unwrap();
        let mut head = b"HTTP/1.1 200 Retkey: OK\r\nRetkey: etag: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nSet-Cookie: c\r\nX-Ours: 1\r\nContent-Length: 2\r\n\r\n".to_vec();
        names.restore(&mut head);
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "HTTP/1.1 200 Retkey: OK\r\nRetKey: etag: 1\r\nSet-Cookie: a\r\nset-COOKIE: b\r\nSet-Cookie: c\r\nX-Ours: 1\r\ncontent-length: 2\r\n\r\n"
        );
        let usual: [&[u8]; 2] = [b"Content-Type", b"Date"];
        assert!(HeaderNames::unusual(usual.into_iter()).is_none());
    }
}
