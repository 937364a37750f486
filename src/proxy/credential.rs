//! The credential that a call takes. At WeCom it also depends on the tokens in the call.

use super::{cause::Malformed, error::ProxyError, route::Call, target::values};
use crate::{
    secret::Secret,
    token::PLACEHOLDER,
    wechat::{api::Api, endpoint::Credential},
};

/// Tokens that only a service provider, a suite or a device can have.
const OF_OTHERS: [&str; 4] = [
    "suite_access_token",
    "provider_access_token",
    "device_access_token",
    "model_access_token",
];

/// The credential that the call takes.
///
/// A call to WeChat never keeps its `access_token`. A call to WeCom may have the token of another corp, from
/// `/cgi-bin/corpgroup/corp/gettoken`. So a token that is neither a placeholder nor was ever the account's own is not
/// replaced, and a refusal of it is not handled.
pub(super) fn effective_credential(call: &Call<'_>) -> Result<Credential, ProxyError> {
    let takes = call.endpoint.credential;
    if call.account.api == Api::Wechat || takes != Credential::AccessToken {
        return Ok(takes);
    }
    let brings = |name| values(call.query, name).any(|token| !token.is_empty());
    if OF_OTHERS.into_iter().any(brings) {
        return Ok(Credential::CallersToken);
    }
    let (mut ours, mut theirs) = (false, false);
    for token in values(call.query, "access_token").filter(|token| !token.is_empty()) {
        let is_ours =
            token.starts_with(PLACEHOLDER) || call.account.keeper.has_had(&Secret::new(token));
        ours |= is_ours;
        theirs |= !is_ours;
    }
    match (ours, theirs) {
        (true, true) => Err(Malformed::TwoTokens.into()),
        (false, true) => Ok(Credential::CallersToken),
        (_, false) => Ok(Credential::AccessToken),
    }
}

/// Whether the call has our placeholder instead of a token.
pub(super) fn has_placeholder(call: &Call<'_>) -> bool {
    let names = OF_OTHERS
        .iter()
        .chain(&["access_token", "component_access_token"]);
    let mut tokens = names.flat_map(|name| values(call.query, name));
    tokens.any(|token| token.starts_with(PLACEHOLDER))
}
