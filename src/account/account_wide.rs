//! The endpoints that can harm a whole account, and not just one user, order or document of it.

use std::{collections::HashSet, sync::LazyLock};

/// Whether the endpoint at `path`, decoded and in lower case, is one of them.
pub(super) fn is_account_wide(path: &[u8]) -> bool {
    static PATHS: LazyLock<HashSet<&[u8]>> =
        LazyLock::new(|| ACCOUNT_WIDE.iter().map(|path| path.as_bytes()).collect());
    PATHS.contains(path)
}

/// Deletions that cannot be undone, settings that hold for all users, releases, and money. Everyday
/// actions, such as creating a menu or deleting an order, are not among them.
pub(super) const ACCOUNT_WIDE: &[&str] = &[
    // Quotas.
    "/cgi-bin/clear_quota",
    "/cgi-bin/clear_quota/v2",
    "/cgi-bin/component/clear_quota/v2",
    "/cgi-bin/openapi/quota/clear",
    "/wxaapi/comment/apikfquota/reset",
    // Menus, material, articles and messages.
    "/cgi-bin/menu/delete",
    "/cgi-bin/menu/delconditional",
    "/cgi-bin/material/del_material",
    "/cgi-bin/draft/delete",
    "/cgi-bin/freepublish/delete",
    "/cgi-bin/message/mass/delete",
    // Tags and templates.
    "/cgi-bin/tags/delete",
    "/cgi-bin/template/api_set_industry",
    "/cgi-bin/template/del_private_template",
    "/wxaapi/newtmpl/deltemplate",
    // Staff, stores and cards.
    "/customservice/kfaccount/del",
    "/customservice/kfaccount/setadmin",
    "/customservice/kfaccount/canceladmin",
    "/customservice/work/unbind",
    "/cgi-bin/guide/delguideacct",
    "/cgi-bin/guide/delguidegroup",
    "/cgi-bin/poi/delpoi",
    "/wxa/del_store",
    "/wxa/delnearbypoi",
    "/card/delete",
    "/card/paygiftcard/delete",
    // Who the account is, and what it is bound to.
    "/cgi-bin/account/componentrebindadmin",
    "/cgi-bin/account/modifyheadimage",
    "/cgi-bin/account/modifysignature",
    "/cgi-bin/open/bind",
    "/cgi-bin/open/create",
    "/cgi-bin/open/unbind",
    "/cgi-bin/wxopen/addcategory",
    "/cgi-bin/wxopen/deletecategory",
    "/cgi-bin/wxopen/modifycategory",
    "/cgi-bin/wxopen/qrcodejumpdelete",
    "/cgi-bin/wxopen/setweappsupportversion",
    "/cgi-bin/wxopen/wxamplink",
    "/cgi-bin/wxopen/wxampunlink",
    "/wxa/setnickname",
    "/wxa/icp/cancel_apply_icp_filing",
    "/wxa/icp/cancel_icp_filing",
    "/wxaapi/wxaembedded/del_authorize",
    "/wxaapi/wxaembedded/del_embedded",
    // Domains, privacy and visibility.
    "/cgi-bin/component/setprivacysetting",
    "/cgi-bin/component/uploadprivacyextfile",
    "/wxa/security/apply_privacy_interface",
    "/wxa/modify_domain",
    "/wxa/modify_domain_directly",
    "/wxa/set_prefetchdnsdomain",
    "/wxa/setwebviewdomain",
    "/wxa/setwebviewdomain_directly",
    "/wxa/change_visitstatus",
    "/wxa/changewxasearchstatus",
    // A mini program's code.
    "/wxa/commit",
    "/wxa/submit_audit",
    "/wxa/speedupaudit",
    "/wxa/undocodeaudit",
    "/wxa/release",
    "/wxa/grayrelease",
    "/wxa/revertcoderelease",
    "/wxa/revertgrayrelease",
    "/wxa/bind_tester",
    "/wxa/unbind_tester",
    // Its database in the cloud.
    "/tcb/databasecollectiondelete",
    "/tcb/databasemigrateimport",
    "/tcb/modifyenv",
    // Money.
    "/channels/ec/funds/setbankacct",
    "/channels/ec/funds/submitwithdraw",
    "/product/funds/setbankaccount",
    "/product/funds/submitwithdraw",
    "/shop/funds/setbankaccount",
    "/shop/funds/submitwithdraw",
    "/xpay/bind_transfer_accout",
    "/xpay/create_withdraw_order",
    // WeCom: people, departments and tags.
    "/cgi-bin/batch/replaceparty",
    "/cgi-bin/batch/replaceuser",
    "/cgi-bin/department/delete",
    "/cgi-bin/user/delete",
    "/cgi-bin/user/batchdelete",
    "/cgi-bin/tag/delete",
    "/cgi-bin/school/department/delete",
    "/cgi-bin/school/set_arch_sync_mode",
    "/cgi-bin/school/user/batch_delete_parent",
    "/cgi-bin/school/user/batch_delete_student",
    // WeCom: apps, and what the corp is bound to.
    "/cgi-bin/agent/migrate_to_customized_app",
    "/cgi-bin/agent/set",
    "/cgi-bin/agent/set_workbench_template",
    "/cgi-bin/corpgroup/corp/remove_corp",
    "/cgi-bin/corpgroup/rule/delete_rule",
    "/cgi-bin/externalpay/delmerchant",
    "/cgi-bin/security/trustdevice/delete",
    // WeCom: customers, service, mail, rooms and drives.
    "/cgi-bin/externalcontact/customer_acquisition/delete_link",
    "/cgi-bin/externalcontact/customer_strategy/del",
    "/cgi-bin/externalcontact/del_corp_tag",
    "/cgi-bin/externalcontact/del_strategy_tag",
    "/cgi-bin/externalcontact/group_welcome_template/del",
    "/cgi-bin/externalcontact/moment_strategy/del",
    "/cgi-bin/kf/account/del",
    "/cgi-bin/exmail/group/delete",
    "/cgi-bin/exmail/publicmail/delete",
    "/cgi-bin/oa/meetingroom/del",
    "/cgi-bin/wedrive/space_dismiss",
    // WeCom: paid functions taken from members.
    "/cgi-bin/meeting/vip/submit_batch_del_job",
    "/cgi-bin/security/vip/submit_batch_del_job",
    "/cgi-bin/wedoc/vip/batch_del",
    "/cgi-bin/wedrive/vip/batch_del",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::{api::Api, endpoint::Endpoint};

    #[test]
    fn every_path_of_the_preset_is_one_of_the_tables_and_stands_there_once() {
        let distinct: HashSet<_> = ACCOUNT_WIDE.iter().collect();
        assert_eq!(distinct.len(), ACCOUNT_WIDE.len());
        for path in ACCOUNT_WIDE {
            let row = |api| Endpoint::of(api, path.as_bytes()).unwrap().row();
            let row = row(Api::Wechat).or(row(Api::Wecom));
            assert!(
                row.is_some() && *path == path.to_ascii_lowercase(),
                "{path}"
            );
            assert!(is_account_wide(path.as_bytes()));
        }
    }
}
