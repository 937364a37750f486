#!/bin/sh
# An app on curl: curl.sh ROUNDS.
set -eu

base=https://api.weixin.qq.com
appid=wx0123456789abcdef
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

ask() {
    curl --silent --show-error --fail --max-time 30 "$@"
}

fail() {
    echo "$*" >&2
    exit 1
}

# The text of the field $1 in the JSON of standard input.
field() {
    sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'
}

token=$(ask "$base/cgi-bin/token?grant_type=client_credential&appid=$appid&secret=no-secret-here" | field access_token)
head -c 1000000 /dev/urandom >"$folder/photo.jpg"
round=0
while [ "$round" -lt "$1" ]; do
    ask "$base/cgi-bin/user/get?access_token=$token" | grep -q '"count":2' || fail "no two followers"
    ask "$base/cgi-bin/message/custom/send?access_token=$token" --json "{\"touser\":\"o1\",\"text\":\"第 $round 天\"}" |
        grep -q '"errcode":0' || fail "no message"
    media=$(ask "$base/cgi-bin/media/upload?access_token=$token&type=image" \
        --form "media=@$folder/photo.jpg;type=image/jpeg" | field media_id)
    ask "$base/cgi-bin/media/get?access_token=$token&media_id=$media" --output "$folder/again.jpg"
    cmp "$folder/photo.jpg" "$folder/again.jpg"
    ask "$base/wxa/getwxacodeunlimit?access_token=$token" --json '{"scene":"a=1"}' --output "$folder/code.jpg"
    [ "$(head -c 2 "$folder/code.jpg" | od -An -tx1)" = " ff d8" ] || fail "no picture"
    ticket=$(ask "$base/cgi-bin/ticket/getticket?access_token=$token&type=jsapi" | field ticket)
    [ "$ticket" ] || fail "no ticket"
    login="appid=$appid&secret=no-secret-here&js_code=code-$round&grant_type=authorization_code"
    openid=$(ask "$base/sns/jscode2session?$login" | field openid)
    [ "$openid" ] || fail "nobody logged in"
    round=$((round + 1))
done
echo "$round rounds without an error; its token was $token"
