//! The hosts of WeChat and WeCom.

/// WeChat's: the default one, the one for disaster recovery, the regional ones, and one that old SDKs use.
pub const WECHAT: [&str; 6] = [
    "api.weixin.qq.com",
    "api2.weixin.qq.com",
    "sh.api.weixin.qq.com",
    "sz.api.weixin.qq.com",
    "hk.api.weixin.qq.com",
    "file.api.weixin.qq.com",
];

/// WeCom's (developer.work.weixin.qq.com/document/path/90664).
pub const WECOM: &str = "qyapi.weixin.qq.com";
