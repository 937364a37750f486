//! Which of Tencent's two server APIs an account speaks.

use std::fmt;

/// Which of Tencent's two server APIs an account speaks. They differ in hosts, in paths, in how a
/// token is fetched, and in which error codes refuse it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Api {
    /// WeChat: official accounts and mini programs, at api.weixin.qq.com.
    #[default]
    Wechat,
    /// WeCom (企业微信), at qyapi.weixin.qq.com.
    Wecom,
}

impl Api {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wechat => "wechat",
            Self::Wecom => "wecom",
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
