//! The hash of a certificate's subject, by which OpenSSL finds it in a folder.

use ring::digest;
use x509_parser::{der_parser::asn1_rs::Tag, parse_x509_certificate, x509::AttributeTypeAndValue};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;

/// The hash of the subject of `der`, as `openssl x509 -hash` prints it. `None` if it is no certificate, or its subject
/// has texts that are not ours.
pub(super) fn subject_hash(der: &[u8]) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let mut canonical = Vec::new();
    for name in certificate.subject().iter() {
        let mut attributes = Vec::new();
        for attribute in name.iter() {
            attributes.extend(canonical_attribute(attribute)?);
        }
        canonical.extend(tagged(SET, &attributes));
    }
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &canonical);
    let first: [u8; 4] = digest.as_ref().get(..4)?.try_into().ok()?;
    Some(format!("{:08x}", u32::from_le_bytes(first)))
}

/// An attribute whose text is UTF-8, in lower case, without blanks at its ends, and with single ones between.
fn canonical_attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<Vec<u8>> {
    let value = attribute.attr_value();
    let is_text = [Tag::Utf8String, Tag::PrintableString].contains(&value.tag());
    let text = std::str::from_utf8(value.data).ok().filter(|_| is_text)?;
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let text = words.join(" ").to_ascii_lowercase();
    let mut content = tagged(OID, attribute.attr_type().as_bytes());
    content.extend(tagged(UTF8_STRING, text.as_bytes()));
    Some(tagged(SEQUENCE, &content))
}

/// A value in DER.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut all = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => all.push(length),
        _ => {
            let length = content.len().to_be_bytes();
            let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            all.push(0x80 | length.len() as u8);
            all.extend(length);
        }
    }
    all.extend(content);
    all
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    /// The expected hashes are those that `openssl x509 -hash` printed.
    #[test]
    fn the_hash_is_openssls() {
        let root = "wechat-sidecar local root 0123abcd";
        for (subject, expected) in [
            (vec![(DnType::CommonName, root)], "57eff487"),
            (
                vec![
                    (DnType::CountryName, "CN"),
                    (DnType::OrganizationName, "  Some  COMPANY "),
                    (DnType::CommonName, root),
                ],
                "7bce8c22",
            ),
        ] {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            for (kind, text) in subject {
                params.distinguished_name.push(kind, text);
            }
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(subject_hash(certificate.der()).unwrap(), expected);
        }
        assert_eq!(subject_hash(b"no certificate"), None);
    }

    #[test]
    fn a_length_is_written_in_as_few_bytes_as_it_takes() {
        for (length, head) in [
            (0x7f, &[1, 0x7f][..]),
            (0x80, &[1, 0x81, 0x80]),
            (0xff, &[1, 0x81, 0xff]),
            (0x100, &[1, 0x82, 1, 0]),
        ] {
            let all = tagged(1, &vec![0; length]);
            assert_eq!(&all[..head.len()], head);
            assert_eq!(all.len(), head.len() + length);
        }
    }
}
