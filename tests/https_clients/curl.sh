#!/bin/sh
# An app on curl: curl.sh ROUNDS or FILE.
. "$(dirname "$0")/rounds.sh"

# Leaves the reply in a file. 22 is an error that was answered, 60 a certificate that is not trusted.
ask() {
    code=0
    curl --silent --show-error --fail --max-time 30 --output "$reply" "$@" || code=$?
    case $code in
    0) ;;
    22 | 60) fail "curl ended with $code" ;;
    *) exit "$lost" ;;
    esac
}

a_round() {
    ask "$base/cgi-bin/user/get?access_token=$token"
    grep -q '"count":2' "$reply" || fail "no two followers"
    ask "$base/cgi-bin/message/custom/send?access_token=$token" --json "{\"touser\":\"o1\",\"text\":\"第 $1 天\"}"
    grep -q '"errcode":0' "$reply" || fail "no message"
    ask "$base/cgi-bin/media/upload?access_token=$token&type=image" --form "media=@$folder/photo.jpg;type=image/jpeg"
    media=$(field media_id)
    ask "$base/cgi-bin/media/get?access_token=$token&media_id=$media"
    cmp "$folder/photo.jpg" "$reply" || fail "another picture"
    ask "$base/wxa/getwxacodeunlimit?access_token=$token" --json '{"scene":"a=1"}'
    is_picture "$reply" || fail "no picture"
    ask "$base/cgi-bin/ticket/getticket?access_token=$token&type=jsapi"
    field ticket >"$folder/ticket"
    ask "$base/sns/jscode2session?$credential&js_code=curl-$1&grant_type=authorization_code"
    field openid >"$folder/openid"
}

ask "$base/cgi-bin/token?grant_type=client_credential&$credential"
token=$(field access_token)
head -c 1000000 /dev/urandom >"$folder/photo.jpg"
go_on "$1"
